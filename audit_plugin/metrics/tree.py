"""Samples of a concept tree: the first nodes of every class by spuriousness, all protected ones, and what holds of the whole."""

import math
from collections.abc import Iterator

from audit_plugin.core.diffex_results import ClassEffects, DiffexResult, NodeEffect, SpuriousHits
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.semantic import finding_metric, untrustworthy
from audit_plugin.metrics.sample import Sample

NODES_PER_CLASS = 20
CLASSES = 50

Rank = tuple[bool, bool, float, str]
"""Breach first, then kinds that may alert, then the largest; the name decides ties."""


def tree_bundles(result: AuditResult, told: DiffexResult) -> Iterator[tuple[Rank, tuple[Sample, ...]]]:
    """The series of one node of one class together, and those of one class: exported together or not at all."""
    found = {(one.concept, one.metric): one for one in result.findings if one.kind == "semantic" and one.severity != "info"}
    for effects in told.classes[:CLASSES]:
        # After every breach, before any other node: many classes must not crowd out what is in breach.
        yield (True, False, -math.inf, effects.class_name), tuple(_class(result, effects))
        for node in _exported(effects):
            finding = found.get((node.node, finding_metric(node)))
            rank = (finding is None, not node.kind.alerts, -node.bound, f"{node.class_name} {node.node}")
            hits = next((one for one in effects.hits if one.node == node.node and one.enough), None)
            yield rank, (*_node(result, node, finding), *_hits(result, node, hits))


def tree_samples(result: AuditResult, told: DiffexResult) -> Iterator[Sample]:
    """What holds of the whole tree."""
    audit = (result.model, result.version, result.label)
    yield Sample("semantic_tree_coverage_ratio", audit, told.tree_coverage)
    yield Sample("semantic_untrustworthy", audit, bool(untrustworthy(told)))
    yield Sample("semantic_edits", audit, told.edits)
    precision = None if told.verifier is None else told.verifier.precision
    if precision is not None:
        yield Sample("semantic_verifier_precision_ratio", audit, precision.value)
        yield Sample("semantic_verifier_precision_low_ratio", audit, precision.low)
        yield Sample("semantic_verifier_precision_high_ratio", audit, precision.high)


def _class(result: AuditResult, effects: ClassEffects) -> Iterator[Sample]:
    labels = (result.model, result.version, result.label, effects.class_name)
    yield Sample("semantic_estimation_images", labels, effects.images_estimate)
    if effects.quality.valid is not None:
        yield Sample("semantic_tree_valid_edit_ratio", labels, effects.quality.valid)
    if effects.null_shift is not None:
        yield Sample("semantic_null_shift_logodds", labels, effects.null_shift.value)
    if effects.placebo_effect is not None:
        yield Sample("semantic_placebo_effect_logodds", labels, effects.placebo_effect.value)
    if effects.stability is not None and effects.stability.tau is not None:
        yield Sample("semantic_stability_tau_ratio", labels, effects.stability.tau)
    if effects.agreement is not None:
        yield Sample("semantic_operator_agreement_ratio", labels, effects.agreement.spearman)
    if effects.sufficiency:
        yield Sample("semantic_sufficiency_ratio", labels, effects.sufficiency[min(10, len(effects.sufficiency)) - 1])


def _hits(result: AuditResult, node: NodeEffect, hits: SpuriousHits | None) -> Iterator[Sample]:
    """Nothing where there were too few images with the cue alone."""
    if hits is None:
        return
    labels = (result.model, result.version, result.label, node.class_name, node.node, node.kind.value)
    yield Sample("spurious_hit_ratio", labels, hits.hit_ratio.value)
    yield Sample("spurious_hit_low_ratio", labels, hits.hit_ratio.low)
    yield Sample("spurious_auc_ratio", labels, hits.auc)


def _exported(effects: ClassEffects) -> list[NodeEffect]:
    by_spuriousness = sorted(effects.nodes, key=lambda node: (-_finite(node.spuriousness), -node.bound, node.node))
    first = {node.node for node in by_spuriousness[:NODES_PER_CLASS]}
    return [node for node in effects.nodes if node.node in first or node.kind is NodeKind.PROTECTED]


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


def _node(result: AuditResult, node: NodeEffect, finding: Finding | None) -> Iterator[Sample]:
    labels = (result.model, result.version, result.label, node.class_name, node.node, node.kind.value)
    yield Sample("semantic_state", (*labels, node.state.value), 1)
    if node.effect is not None:
        yield Sample("semantic_effect_logodds", labels, node.effect.value)
        yield Sample("semantic_effect_low_logodds", labels, node.effect.low)
        yield Sample("semantic_effect_high_logodds", labels, node.effect.high)
    if node.probability is not None:
        yield Sample("semantic_effect_probability_ratio", labels, node.probability.value)
    if node.flip_rate is not None:
        yield Sample("semantic_flip_ratio", labels, node.flip_rate.value)
    if node.spuriousness is not None:
        yield Sample("spuriousness_ratio", labels, node.spuriousness)
    if node.spurious_ratio is not None:
        yield Sample("spurious_ratio", labels, node.spurious_ratio)
    if node.quality.valid is not None:
        yield Sample("semantic_valid_edit_ratio", labels, node.quality.valid)
    if node.kind.alerts:
        yield Sample("semantic_breach", labels, finding is not None)
        yield Sample("semantic_breach_runs", labels, finding.breach_runs if finding else 0)
        yield Sample("semantic_breach_strong", labels, bool(finding and finding.strong))

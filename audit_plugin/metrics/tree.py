"""Samples of a concept tree: the first nodes of every class by spuriousness, all protected ones, and what holds of the whole."""

import math
from collections.abc import Collection, Iterator

from audit_plugin.core.diffex_results import ClassEffects, DiffexResult, DriftResult, NodeDrift, NodeEffect, SpuriousHits
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.policy import LEAST_IMAGES
from audit_plugin.findings.semantic import finding_metric, untrustworthy
from audit_plugin.metrics.sample import Sample

NODES_PER_CLASS = 20
CLASSES = 50
DRIFTED = 0.25
"""Log-odds from which on a drift between versions alerts."""

Rank = tuple[bool, bool, float, str]
"""Breach first, then kinds that may alert, then the largest; the name decides ties."""


def tree_bundles(result: AuditResult, told: DiffexResult) -> Iterator[tuple[Rank, tuple[Sample, ...]]]:
    """The series of one node of one class together, and those of one class: exported together or not at all."""
    found = {(one.concept, one.metric): one for one in result.findings if one.kind == "semantic" and one.severity != "info"}
    for effects in told.classes[:CLASSES]:
        # After every breach, before any other node: many classes must not crowd out what is in breach.
        drift = _drift_of(told, effects)
        drifted = {} if drift is None else {one.node: one for one in drift.nodes}
        yield (True, False, -math.inf, effects.class_name), (*_class(result, effects), *_mean_drift(result, told, drift))
        for node in _exported(effects, {path for path, one in drifted.items() if one.significant}):
            finding = found.get((node.node, finding_metric(node)))
            rank = (finding is None, not node.kind.alerts, -node.bound, f"{node.class_name} {node.node}")
            hits = next((one for one in effects.hits if one.node == node.node and one.enough), None)
            yield (
                rank,
                (
                    *_node(result, node, finding),
                    *_hits(result, node, hits),
                    *_drift(result, told, node, drifted.get(node.node)),
                ),
            )


def tree_samples(result: AuditResult, told: DiffexResult) -> Iterator[Sample]:
    """What holds of the whole tree."""
    audit = (result.model, result.version, result.label)
    yield Sample("semantic_tree_coverage_ratio", audit, told.tree_coverage)
    yield Sample("semantic_untrustworthy", audit, bool(untrustworthy(told)))
    yield Sample("semantic_edits", audit, told.edits)
    if told.quality.valid is not None:
        valid = round(told.quality.valid * told.quality.attempts)
        yield Sample("semantic_edit_results", (*audit, "valid"), valid)
        yield Sample("semantic_edit_results", (*audit, "invalid"), told.quality.attempts - valid)
    if told.bank_hits is not None:
        yield Sample("semantic_bank_hits", audit, told.bank_hits)
    if told.bank:  # older results do not say
        yield Sample("semantic_info", (*audit, told.tree_digest, told.bank, ",".join(told.operators)), 1)
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


def _drift_of(told: DiffexResult, effects: ClassEffects) -> DriftResult | None:
    classes = () if told.drift is None else told.drift.classes
    return next((one for one in classes if one.class_name == effects.class_name), None)


def _mean_drift(result: AuditResult, told: DiffexResult, drift: DriftResult | None) -> Iterator[Sample]:
    if told.drift is not None and drift is not None and drift.mean_absolute is not None:
        labels = (result.model, result.version, result.label, drift.class_name, told.drift.version)
        yield Sample("semantic_version_drift_mean_logodds", labels, drift.mean_absolute)


def _drift(result: AuditResult, told: DiffexResult, node: NodeEffect, one: NodeDrift | None) -> Iterator[Sample]:
    """Nothing where no other version was shown the same edits."""
    if told.drift is None or one is None or one.drift is None:
        return
    labels = (result.model, result.version, result.label, node.class_name, node.node, node.kind.value, told.drift.version)
    yield Sample("semantic_version_drift_logodds", labels, one.drift.value)
    yield Sample("semantic_version_drift_low_logodds", labels, one.drift.low)
    yield Sample("semantic_version_drift_high_logodds", labels, one.drift.high)
    sure = one.images >= LEAST_IMAGES and (one.drift.low > 0 or one.drift.high < 0)
    yield Sample("semantic_version_drift_breach", labels, sure and abs(one.drift.value) > DRIFTED)


def _exported(effects: ClassEffects, drifted: Collection[str]) -> list[NodeEffect]:
    """The first by spuriousness, all protected ones, and those whose effect surely differs from another version's."""
    by_spuriousness = sorted(effects.nodes, key=lambda node: (-_finite(node.spuriousness), -node.bound, node.node))
    first = {node.node for node in by_spuriousness[:NODES_PER_CLASS]}
    return [node for node in effects.nodes if node.node in first or node.node in drifted or node.kind is NodeKind.PROTECTED]


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

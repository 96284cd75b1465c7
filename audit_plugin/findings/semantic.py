"""From the effects of a concept tree to findings: protected attributes first, then every other kind that must not matter.

An effect is held against its bound with the limit of its interval that is nearest to zero, on at least 32 images of its own, and never while the
tree as a whole cannot be relied on.
"""

from collections.abc import Iterator

from audit_plugin.core.diffex_results import ClassEffects, DiffexResult, EffectState, NodeEffect
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.policy import LEAST_IMAGES, Policy, Threshold

LEAST_VALID = 0.5
MOST_NULL_SHIFT = 0.1
LEAST_TAU = 0.3
KIND = "semantic"
RUNBOOKS = {NodeKind.PROTECTED: "auditpluginprotectedattributeeffect.md"}
RUNBOOK = "auditpluginspuriousfeature.md"


def untrustworthy(told: DiffexResult) -> tuple[str, ...]:
    """Why the effects of a tree cannot be relied on; empty when they can."""
    reasons = [reason for effects in told.classes for reason in _doubts(effects)]
    if not any(effects.nodes for effects in told.classes):
        reasons.append("no node could be estimated")
    return tuple(dict.fromkeys(reasons))


def _doubts(effects: ClassEffects) -> Iterator[str]:
    if effects.images_estimate < LEAST_IMAGES:
        yield f"fewer than {LEAST_IMAGES} images of {effects.class_name}"
    if effects.quality.valid is not None and effects.quality.valid < LEAST_VALID:
        yield f"fewer than {LEAST_VALID:.0%} of the edits are valid"
    if effects.null_shift is not None and abs(effects.null_shift.value) > MOST_NULL_SHIFT:
        yield f"editing nothing moves the scores of {effects.class_name} by more than {MOST_NULL_SHIFT}"
    if (tau := _tau(effects)) is not None and tau < LEAST_TAU:
        yield f"the effects' order differs between halves of the images of {effects.class_name}"


def _tau(effects: ClassEffects) -> float | None:
    """Of the order that effects have; None where there are none.  Results of older runs know the order of all nodes only."""
    if effects.stability is None or not any(node.state is EffectState.EFFECT for node in effects.nodes):
        return None
    return effects.stability.tau if effects.stability.effects_tau is None else effects.stability.effects_tau


def semantic_findings(result: AuditResult, policy: Policy) -> Iterator[Finding]:
    """Breaches of the policy by the nodes of the result's tree."""
    if result.diffex is None or untrustworthy(result.diffex):
        return
    for effects in result.diffex.classes:
        for node in effects.nodes:
            threshold = next((one for one in policy.thresholds if covers_node(one, node)), None)
            if threshold is not None and (finding := _breach(result, node, threshold)) is not None:
                yield finding


def finding_metric(node: NodeEffect) -> str:
    """Name of what is held against a bound: one for each class."""
    return f"{'effect' if node.kind is NodeKind.PROTECTED else 'spuriousness'}:{node.class_name}"


def _q(q: float) -> str:
    return "q<0.001" if q < 0.001 else f"q={q:.3f}"


def covers_node(threshold: Threshold, node: NodeEffect) -> bool:
    """Whether the threshold speaks about the node at all."""
    return covers_path(threshold, node.node, node.kind)


def covers_path(threshold: Threshold, node: str, kind: NodeKind) -> bool:
    """The same of a node's path and kind."""
    if threshold.metric != KIND or not kind.alerts:
        return False
    if threshold.nodes or threshold.kinds:
        return kind in threshold.kinds or any(f"{node}/".startswith(f"{path}/") for path in threshold.nodes)
    return True


def _breach(result: AuditResult, node: NodeEffect, threshold: Threshold) -> Finding | None:
    effect = node.effect
    held, images = (
        (node.bound, node.images) if node.kind is NodeKind.PROTECTED else (node.spuriousness or 0.0, node.spurious_images)
    )
    if effect is None or node.state is not EffectState.EFFECT or images < threshold.least:
        return None
    if held <= threshold.threshold:
        return None
    strong = 0 < 2 * threshold.threshold < held
    metric = finding_metric(node)
    valid = "" if node.quality.valid is None else f"; {node.quality.valid:.0%} of edits passed validity"
    flips = "" if node.flip_rate is None else f"; the decision flips on {node.flip_rate.value:.0%} of images more than by placebo"
    return Finding(
        id=digest("finding", KIND, result.model, result.label, node.node, metric),
        kind=KIND,
        model=result.model,
        version=result.version,
        label=result.label,
        concept=node.node,
        metric=metric,
        # In the quantity of the threshold: a spuriousness score is a bound already and has no interval of its own.
        value=effect.value if node.kind is NodeKind.PROTECTED else held,
        low=effect.low if node.kind is NodeKind.PROTECTED else held,
        high=effect.high if node.kind is NodeKind.PROTECTED else held,
        threshold=threshold.threshold,
        severity="critical" if threshold.severity == "warning" and strong else threshold.severity,
        summary=(
            f"for class {node.class_name!r} of {result.model!r} version {result.version}, the presence of {node.node!r} changes the log-odds by "
            f"{effect.value:+.2f} (95 % interval {effect.low:+.2f} to {effect.high:+.2f}, {_q(node.q)}, {node.images} images){flips}{valid}; "
            f"kind {node.kind}"
        ),
        owner=threshold.owner,
        reason=threshold.reason,
        date=threshold.date.isoformat(),
        runbook=RUNBOOKS.get(node.kind, RUNBOOK),
        rule=threshold.name,
        n=images,
        strong=strong,
    )

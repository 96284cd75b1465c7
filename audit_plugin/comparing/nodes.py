"""Nodes of a concept tree in two audits: by the paired drift that the second run has stored, or by the stored intervals of both."""

from collections.abc import Iterator, Mapping, Sequence

from audit_plugin.comparing.judging import Row, combined, decided, verdict_of
from audit_plugin.core.comparison_results import Change, Difference
from audit_plugin.core.diffex_results import DiffexResult, NodeDrift, NodeEffect
from audit_plugin.core.results import AuditResult
from audit_plugin.methods.diffex import EstimateOptions
from audit_plugin.statistics.change import narrowed, side
from audit_plugin.statistics.intervals import Interval

_DEFAULTS = EstimateOptions()


def node_differences(old: AuditResult, new: AuditResult) -> tuple[Difference, ...]:
    """One difference per (class, node) that both trees have estimated; none where the trees or their scores differ."""
    then, now = old.diffex, new.diffex
    if then is None or now is None or then.score is not now.score:
        return ()
    margin, drifts = _DEFAULTS.margin(now.score), _drifts(old, now)
    paired: list[Difference] = []
    rows: list[Row] = []
    for before, after in _matched(then, now):
        drift = drifts.get((after.class_name, after.node))
        worse = "away" if after.kind.must_not else ""
        if drift is not None and drift.drift is not None:
            paired.append(_by_drift(drift, after, worse, margin))
        elif before.effect is not None and after.effect is not None:
            judged = combined(before.effect, after.effect, margin=margin, n=min(before.images, after.images))
            rows.append(
                Row(quantity="effect", subject=after.node, about=after.class_name, judged=judged, worse=worse, margin=margin)
            )
    return (*paired, *decided(rows))


def _by_drift(drift: NodeDrift, node: NodeEffect, worse: str, margin: float) -> Difference:
    estimate = drift.drift
    assert estimate is not None, "asked before"
    wide = Interval(estimate.value, estimate.low, estimate.high)
    old, new = drift.old or 0.0, drift.new or 0.0
    lies = side(wide, narrowed(wide), margin=margin, adjusted_p=drift.q)
    return Difference(
        quantity="effect",
        subject=node.node,
        about=node.class_name,
        old=drift.old,
        new=drift.new,
        difference=estimate,
        paired=True,
        n=drift.images,
        margin=margin,
        p=drift.p,
        p_adjusted=drift.q,
        verdict=verdict_of(lies, worse, old=old, new=new, margin=margin) if drift.images else Change.NOT_ASSESSABLE,
        matters=bool(worse),
    )


def _drifts(old: AuditResult, now: DiffexResult) -> Mapping[tuple[str, str], NodeDrift]:
    """The drift that the second run has stored, if it is against the first."""
    if now.drift is None or now.drift.run != old.run:
        return {}
    return {(one.class_name, one.node): one for classes in now.drift.classes for one in classes.nodes}


def _matched(then: DiffexResult, now: DiffexResult) -> Iterator[tuple[NodeEffect, NodeEffect]]:
    before = {(node.class_name, node.node): node for node in _nodes(then)}
    return ((before[node.class_name, node.node], node) for node in _nodes(now) if (node.class_name, node.node) in before)


def _nodes(result: DiffexResult) -> Sequence[NodeEffect]:
    return [node for effects in result.classes for node in effects.nodes]

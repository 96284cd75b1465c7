"""Stage 3: effects of nodes on one class, with intervals, tests and states (specification 9.1 to 9.4), from ESTIMATE rows alone.

Protected nodes form a family of tests of their own, and have Holm's p-value beside the false discovery rate: alerts read that one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.diffex_results import Chosen, EditQuality, EffectState, NodeEffect, ScoreKind, SubgroupEffect
from audit_plugin.core.tree import ConceptTree, NodeKind
from audit_plugin.methods.diffex.effects import Effects, RowTable, clipped_share, quality, require_estimate
from audit_plugin.methods.diffex.figures import (
    as_estimate,
    core_share,
    counter_class,
    exemplars,
    flip_rate,
    intervals_of,
    quantiles,
    responders,
    rng_of,
    spurious_ratio,
    spuriousness_score,
)
from audit_plugin.methods.diffex.limits import reached
from audit_plugin.methods.diffex.scores import SATURATED
from audit_plugin.methods.diffex.subgroups import Attributes, subgroup_effects, with_q_values
from audit_plugin.statistics.multiplicity import benjamini_hochberg, holm
from audit_plugin.statistics.paired_mean import MeanIntervals, sign_flips
from audit_plugin.statistics.stability import icc


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """How effects are estimated and judged."""

    alpha: float = 0.05
    draws: int = 2_000
    """Bootstrap resamples."""
    flips: int = 9_999
    """Random sign flips; few images are enumerated."""
    delta0_logodds: float = 0.1
    """Margin of equivalence; below it an effect is no effect."""
    delta0_share: float = 0.02
    """The same where a model tells labels only."""
    object_node: str = ""
    """Node that greys or removes the object, for spurious ratios; empty: none."""
    core_shares: Mapping[str, float] = field(default_factory=dict)
    """Measured core-ness by node, in [0, 1], where there is one."""

    def margin(self, kind: ScoreKind) -> float:
        """Of equivalence, on the scale of the scores."""
        return self.delta0_share if kind is ScoreKind.LABELS else self.delta0_logodds


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassPlan:
    """What is to be estimated for one class; all of it was decided on SELECT images."""

    class_name: str
    labels: tuple[str, ...]
    """All classes, in the order of the scores."""
    images: tuple[str, ...]
    """ESTIMATE images of the class."""
    chosen: Mapping[str, Chosen]
    """Node -> why, strongest first."""
    counters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    incomplete: frozenset[str] = frozenset()
    """Nodes whose edits a limit cut short."""
    attributes: Attributes = field(default_factory=dict)
    """Image -> attribute -> level, as far as it is known."""
    stopped: str = ""
    """Which limit that was."""

    @property
    def column(self) -> int:
        """Of the class in the scores."""
        return self.labels.index(self.class_name)


def node_effects(
    table: RowTable, tree: ConceptTree, plan: ClassPlan, *, options: EstimateOptions = EstimateOptions(), seed: int = 0
) -> tuple[NodeEffect, ...]:
    """One result per chosen node, largest absolute effect first.  Raises ValueError on rows that served the search."""
    require_estimate(table.rows)
    found = {path: class_effect(table, path, plan.images) for path in plan.chosen}
    setting = _Setting(table=table, tree=tree, plan=plan, options=options, seed=seed)
    drafts = [_draft(path, found[path], setting) for path in plan.chosen]
    of_object = next((draft for draft in drafts if draft.node == options.object_node), None)
    p = _p_values([found[path] for path in plan.chosen], plan, options, seed)
    subgroups = with_q_values([_subgroups(found[path], path, setting) for path in plan.chosen])
    protected = np.array([draft.kind is NodeKind.PROTECTED for draft in drafts], dtype=np.bool_)
    q, p_holm = _adjusted(p, protected)
    results = [
        replace(
            draft,
            p=float(p[at]),
            q=float(q[at]),
            p_holm=float(p_holm[at]) if protected[at] else None,
            state=_state(draft, float(q[at]), options.alpha),
            spurious_ratio=_ratio(draft, of_object),
            subgroups=subgroups[at],
        )
        for at, draft in enumerate(drafts)
    ]
    return tuple(sorted(results, key=lambda result: -abs(result.effect.value) if result.effect else 0.0))


def class_effect(table: RowTable, path: str, images: Sequence[str]) -> Effects | None:
    """Effects of a node on a class's images; None where none has one."""
    effects, inside = table.effects((path,)), set(images)
    if effects is None:
        return None
    here = effects.only(np.array([image in inside for image in effects.images]))
    return here if here.images else None


def _state(draft: NodeEffect, q: float, alpha: float) -> EffectState:
    if draft.effect is None or "incomplete" in draft.flags:
        return EffectState.INCONCLUSIVE
    if "equivalent" in draft.flags:  # which clipped scores would be whatever was edited: they prove nothing
        return EffectState.INCONCLUSIVE if "saturated" in draft.flags else EffectState.NO_EFFECT
    return EffectState.EFFECT if q < alpha else EffectState.INCONCLUSIVE


@dataclass(frozen=True, kw_only=True, eq=False)
class _Setting:
    """What the figures of every node have in common."""

    table: RowTable
    tree: ConceptTree
    plan: ClassPlan
    options: EstimateOptions
    seed: int

    def intervals(self, values: Float[np.ndarray, "n"], rng: np.random.Generator) -> MeanIntervals | None:
        """Of a mean over images."""
        return intervals_of(values, rng, draws=self.options.draws, alpha=self.options.alpha, kind=self.table.kind)


def _draft(path: str, effects: Effects | None, setting: _Setting) -> NodeEffect:
    """A node's figures, before the tests that need its neighbours."""
    table, plan, options = setting.table, setting.plan, setting.options
    node, inside = setting.tree.node(path), set(plan.images)
    rows = [row for row in table.by_nodes.get((path,), ()) if row.cell.image in inside]
    empty = _without_images(path, node.kind, plan, quality(rows))
    if effects is None:
        return empty
    d, rng = effects.log_odds[:, plan.column], rng_of(setting.seed, plan.class_name, path)
    kept = d[effects.class_kept]
    intervals, spurious = setting.intervals(d, rng), setting.intervals(kept, rng)
    probability = setting.intervals(effects.probability[:, plan.column], rng)
    spread = table.placebo_spread
    sd = float(d.std(ddof=1)) if len(d) > 1 else 0.0
    return replace(
        empty,
        images=len(d),
        effect=as_estimate(intervals.interval) if intervals else None,
        probability=as_estimate(probability.interval) if probability else None,
        standardised=float(d.mean()) / sd if sd > 0 else None,
        flags=(
            *empty.flags,
            *(["low_n"] if intervals is None or intervals.low_n else []),
            *(["saturated"] if clipped_share(rows, table.kind, plan.column) > SATURATED else []),
            *([] if effects.adjusted or node.operator == "deterministic" else ["no_placebo"]),
            *(["equivalent"] if intervals and intervals.equivalence.inside(options.margin(table.kind)) else []),
        ),
        flip_rate=flip_rate(effects, plan.column, alpha=options.alpha),
        flips=float(effects.flip(plan.column).mean()),
        responders=responders(d, float(spread[plan.column]) if spread is not None and effects.adjusted else None),
        quantiles=quantiles(d),
        spuriousness=spuriousness_score(
            as_estimate(spurious.interval) if spurious else None, core_share(node, options.core_shares.get(path))
        ),
        spurious_images=len(kept),
        counter=counter_class(effects, plan.counters.get(path), plan.labels, rng, alpha=options.alpha),
        seed_icc=_finite(icc(effects.by_seed[:, :, plan.column])),
        operators=tuple(sorted({row.operator for row in rows if row.usable})),
        exemplars=exemplars(effects, rows, plan.column),
    )


def _subgroups(effects: Effects | None, path: str, setting: _Setting) -> tuple[SubgroupEffect, ...]:
    if effects is None:
        return ()
    own = str(setting.tree.node(path).params.get("concept", ""))
    d = effects.log_odds[:, setting.plan.column]
    return subgroup_effects(effects.images, d, setting.plan.attributes, without=own, alpha=setting.options.alpha)


def _without_images(path: str, kind: NodeKind, plan: ClassPlan, edits: EditQuality) -> NodeEffect:
    return NodeEffect(
        node=path,
        kind=kind,
        class_name=plan.class_name,
        chosen=plan.chosen[path],
        images=0,
        effect=None,
        probability=None,
        standardised=None,
        p=1.0,
        q=1.0,
        p_holm=None,
        state=EffectState.INCONCLUSIVE,
        flags=("incomplete",) if path in plan.incomplete else (),
        flip_rate=None,
        flips=None,
        responders=None,
        quantiles=None,
        spuriousness=None,
        spurious_images=0,
        spurious_ratio=None,
        counter=None,
        quality=edits,
        seed_icc=None,
        operators=(),
        reason=reached(plan.stopped) if path in plan.incomplete else "",
    )


def _p_values(effects: Sequence[Effects | None], plan: ClassPlan, options: EstimateOptions, seed: int) -> Float[np.ndarray, "K"]:
    """Sign-flip p-values of all nodes, on shared signs."""
    if not effects or not plan.images:
        return np.ones(len(effects))
    images = sorted(plan.images)  # signs are drawn by position: the order in which images were asked for must not matter
    missing = np.full(len(images), np.nan)
    matrix = np.stack([missing if found is None else found.over(images, plan.column) for found in effects])
    return sign_flips(matrix, rng_of(seed, plan.class_name, "sign flips"), rounds=options.flips)


def _adjusted(p: Float[np.ndarray, "K"], protected: Bool[np.ndarray, "K"]) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    """False discovery rate within the two families, and Holm's p-values of the protected one."""
    q, p_holm = np.ones(len(p)), np.ones(len(p))
    for family in (protected, ~protected):
        if family.any():
            q[family] = benjamini_hochberg(p[family])
    if protected.any():
        p_holm[protected] = holm(p[protected])
    return q, p_holm


def _ratio(draft: NodeEffect, of_object: NodeEffect | None) -> float | None:
    if draft.effect is None or of_object is None or of_object.effect is None or draft.node == of_object.node:
        return None
    return spurious_ratio(draft.effect.value, of_object.effect.value)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

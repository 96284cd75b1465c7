"""All of one class's figures from its rows and its plan: pure, so that every number can be computed again."""

from collections.abc import Sequence

from audit_plugin.core.diffex_results import Chosen, ClassEffects, EffectState, ScoreKind, SearchSummary
from audit_plugin.core.edits import EditRow
from audit_plugin.core.tree import ConceptTree
from audit_plugin.methods.diffex.combine import judge_set, minimal_flip_set, with_subsets
from audit_plugin.methods.diffex.effects import Nodes, RowTable, clipped_share, quality, require_estimate
from audit_plugin.methods.diffex.estimate import ClassPlan, EstimateOptions, class_effect, node_effects
from audit_plugin.methods.diffex.figures import rng_of
from audit_plugin.methods.diffex.summary import class_coverage, missed_bound, null_shift, placebo_effect, stability, sufficiency

DEFAULTS = EstimateOptions()


def class_effects(
    rows: Sequence[EditRow],
    tree: ConceptTree,
    plan: ClassPlan,
    *,
    kind: ScoreKind,
    search: SearchSummary,
    sets: Sequence[Nodes] = (),
    options: EstimateOptions = DEFAULTS,
    flip_goal: float = 0.5,
    images_select: int = 0,
    seed: int = 0,
) -> ClassEffects:
    """What the ESTIMATE rows say of one class.  Raises ValueError on rows that served the search."""
    require_estimate(rows)
    inside = set(plan.images)
    table = RowTable(rows=tuple(row for row in rows if row.cell.image in inside), kind=kind)
    nodes = node_effects(table, tree, plan, options=options, seed=seed)
    effects = {path: found for path in plan.chosen if (found := class_effect(table, path, plan.images)) is not None}
    joint = tuple(
        judge_set(table, one, plan.column, images=plan.images, alpha=options.alpha, seed=seed) for one in with_subsets(sets)
    )
    rates: dict[Nodes, float] = {(node.node,): node.flip_rate.value for node in nodes if node.flip_rate is not None}
    rates |= {one.nodes: one.flip_rate.value for one in joint if one.flip_rate is not None}
    shares = sufficiency([effects.get(path) for path in search.kept], plan.images, plan.column)

    return ClassEffects(
        class_name=plan.class_name,
        images_select=images_select,
        images_estimate=len(plan.images),
        nodes=nodes,
        combinations=joint,
        minimal_flip_set=minimal_flip_set(rates, goal=flip_goal),
        coverage=class_coverage(effects, plan.images, plan.column),
        sufficiency=shares,
        unexplained=1 - shares[-1] if shares else None,
        missed_effects=missed_bound(
            [node.effect.value for node in nodes if node.chosen is Chosen.SAMPLED and node.effect is not None]
        ),
        stability=stability(
            list(effects.values()),
            plan.images,
            plan.column,
            rng_of(seed, plan.class_name, "stability"),
            found={node.node for node in nodes if node.state is EffectState.EFFECT},
        ),
        placebo_effect=placebo_effect(
            table, plan.images, plan.column, rng_of(seed, plan.class_name, "placebo"), alpha=options.alpha
        ),
        null_shift=null_shift(table.rows, plan.images, table, plan.column, rng_of(seed, plan.class_name, "null shift")),
        saturated=clipped_share(table.rows, kind, plan.column),
        quality=quality(table.rows),
        search=search,
    )

"""Stage 2: nodes edited together (specification 5.3).  Sets are searched on SELECT images and judged on ESTIMATE rows.

A joint edit is one edit of several terms against the null edit; its interaction is what it does beyond the sum of its nodes alone, on
the log-odds scale.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import Combination
from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.diffex.effects import Nodes, RowTable, require_estimate
from audit_plugin.methods.diffex.figures import flip_rate, mean_estimate, rng_of
from audit_plugin.methods.diffex.racing import Halted, never

AskSets = Callable[[Sequence[Nodes], Sequence[str]], Float[np.ndarray, "K n"]]
"""``(sets, images) -> joint effect d (K, n)``; nan where there is none."""


@dataclass(frozen=True, kw_only=True)
class CombineOptions:
    """How sets are searched."""

    terms: int = 10
    """Survivors that may be combined."""
    size: int = 3
    """Most nodes of a set; 1 combines nothing."""
    beam: int = 8
    """Sets kept per size, and in the end."""
    evaluate: int = 16
    """Sets edited per size, the best by the sum of their nodes' effects."""
    images: int = 16
    """SELECT images each is edited on."""
    penalty: float = 0.1
    """Per further node, in standard deviations of the joint effect."""
    flip_goal: float = 0.5
    """Flip rate that a minimal flip set must reach."""


@dataclass(frozen=True, kw_only=True)
class SetSearch:
    """Sets worth estimating, best first, and what finding them took."""

    sets: tuple[Nodes, ...]
    edits: int


def search_sets(
    ask: AskSets,
    singles: Mapping[str, float],
    compatible: Callable[[str, str], bool],
    images: Sequence[str],
    *,
    options: CombineOptions = CombineOptions(),
    halted: Halted = never,
) -> SetSearch:
    """Beam over sets of 2 to ``size`` of the strongest ``singles`` (node -> mean effect)."""
    terms = sorted(singles, key=lambda path: -abs(singles[path]))[: options.terms]
    images, edits = images[: options.images], 0
    beam: list[Nodes] = [(path,) for path in terms]
    scored: dict[Nodes, float] = {}
    for _ in range(2, options.size + 1):
        grown = {tuple(sorted({*nodes, path})) for nodes in beam for path in terms if all(compatible(path, n) for n in nodes)}
        hopeful = sorted(grown, key=lambda nodes: (-abs(sum(singles[path] for path in nodes)), nodes))[: options.evaluate]
        if not hopeful or not images or halted():
            break
        joint = ask(hopeful, images)
        edits += joint.size
        found = {nodes: _penalised(row, len(nodes), options.penalty) for nodes, row in zip(hopeful, joint, strict=True)}
        beam = sorted((nodes for nodes in found if np.isfinite(found[nodes])), key=lambda nodes: -found[nodes])[: options.beam]
        scored |= {nodes: found[nodes] for nodes in beam}
    best = sorted(scored, key=lambda nodes: (-scored[nodes], nodes))[: options.beam]
    return SetSearch(sets=tuple(best), edits=edits)


def proper_subsets(nodes: Nodes) -> tuple[Nodes, ...]:
    """All but the set itself and nothing, small ones first."""
    return tuple(part for size in range(1, len(nodes)) for part in combinations(nodes, size))


def with_subsets(sets: Iterable[Nodes]) -> tuple[Nodes, ...]:
    """The sets and every subset of two nodes or more that judging them needs."""
    needed = {part for nodes in sets for part in (*proper_subsets(nodes), nodes) if len(part) > 1}
    return tuple(sorted(needed, key=lambda nodes: (len(nodes), nodes)))


def judge_set(
    table: RowTable, nodes: Nodes, column: int, *, images: Sequence[str], alpha: float = 0.05, seed: int = 0
) -> Combination:
    """Gain over the best proper subset, interaction and flip rate of one set, on images where all subsets have an effect.

    Raises ValueError on rows that served the search.
    """
    require_estimate(table.rows)
    parts = (*proper_subsets(nodes), nodes)
    effects = {part: table.effects(part) for part in parts}
    matrix = np.stack([found.over(images, column) if found else np.full(len(images), np.nan) for found in effects.values()])
    d = dict(zip(parts, matrix[:, np.isfinite(matrix).all(0)], strict=True))
    means = {part: float(values.mean()) if len(values) else 0.0 for part, values in d.items()}
    best = max(parts[:-1], key=lambda part: abs(means[part]))

    def estimate(values: Float[np.ndarray, "n"], what: str) -> Estimate | None:
        return mean_estimate(values, rng_of(seed, what, *nodes), alpha=alpha)

    gain = estimate(np.sign(means[nodes]) * d[nodes] - np.sign(means[best]) * d[best], "gain")
    whole = effects[nodes]
    inside = set(images)
    here = None if whole is None else whole.only(np.array([image in inside for image in whole.images]))
    return Combination(
        nodes=nodes,
        images=len(d[nodes]),
        effect=estimate(d[nodes], "joint"),
        gain=gain,
        best_subset=best,
        interaction=estimate(d[nodes] - sum(d[path,] for path in nodes), "interaction"),
        flip_rate=None if here is None else flip_rate(here, column, alpha=alpha),
        reported=gain is not None and gain.low > 0,
        operators=tuple(sorted({row.operator for row in table.by_nodes.get(nodes, ()) if row.usable})),
    )


def minimal_flip_set(rates: Mapping[Nodes, float], *, goal: float = 0.5) -> Nodes:
    """The smallest set whose flip rate reaches ``goal``, of equally small ones that with the highest; empty where none does."""
    reached = [nodes for nodes, rate in rates.items() if rate >= goal]
    return min(reached, key=lambda nodes: (len(nodes), -rates[nodes], nodes), default=())


def _penalised(values: Float[np.ndarray, "n"], size: int, penalty: float) -> float:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return float("-inf")
    return float(abs(known.mean()) - penalty * (size - 1) * known.std(ddof=1))

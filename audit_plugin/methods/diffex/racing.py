"""Stage 1: which nodes are worth estimating (specification 5.3).  Successive halving over nodes of all levels, on SELECT images alone.

Every node that is still in has been edited on the same first images of one shuffled order.  Means are shrunk towards the parent's;
shrunk means decide who stays and are never reported.  ``parent_gated`` (the released beam) and ``random_order`` have the same interface,
for comparison at equal edits.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from audit_plugin.core.diffex_results import SearchRound
from audit_plugin.core.tree import Node, NodeKind
from audit_plugin.methods.diffex.shrinkage import NodeMean, node_mean, shrunk_means

Ask = Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, "K n"]]
"""``(nodes, images) -> d (K, n)``; nan where there is no valid edit.  Every pair that is asked for counts as one edit."""
Halted = Callable[[], bool]
"""Whether a limit was reached: the search ends with what it knows."""


def never() -> bool:
    """No limit."""
    return False


@dataclass(frozen=True, kw_only=True)
class RaceOptions:
    """How the search spends its edits."""

    n_start: int = 4
    """Images of the first round; doubled from round to round."""
    keep: int = 20
    """Nodes that come out, protected ones and those that were found without data beside them."""
    bound: float = 0.1
    """A node is dropped early where its upper bound of level 1 - bound/alive is below the lower bound of the last that would stay."""
    beam: int = 8
    """Of the parent-gated search."""

    def __post_init__(self) -> None:
        if min(self.n_start, self.keep, self.beam) < 1 or not 0 < self.bound < 1:
            raise ValueError(f"need `n_start`, `keep` and `beam` of at least 1 and a `bound` between 0 and 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class Race:
    """How a search ended."""

    mode: str
    kept: tuple[str, ...]
    """Strongest first; protected nodes always."""
    eliminated: tuple[str, ...]
    means: Mapping[str, float]
    """Mean d of every node that was measured; for the search only."""
    measured: Mapping[str, int]
    """Images with a valid edit."""
    rounds: tuple[SearchRound, ...]
    edits: int
    unfinished: tuple[str, ...] = ()
    """Neither kept nor eliminated when a limit ended the search."""


class _Tally:
    """Values that were paid for, and how many that were."""

    def __init__(self, ask: Ask, nodes: Sequence[Node]) -> None:
        self.ask, self.nodes = ask, nodes
        self.values: dict[str, list[float]] = {}
        self.means: dict[str, NodeMean] = {}
        self.edits = 0

    def extend(self, paths: Sequence[str], images: Sequence[str]) -> None:
        if not paths or not images:
            return
        for path, row in zip(paths, self.ask(paths, images), strict=True):
            self.values.setdefault(path, []).extend(float(value) for value in row)
            self.means[path] = node_mean(np.array(self.values[path]))
        self.edits += len(paths) * len(images)

    def race(self, mode: str, kept: Sequence[str], rounds: Sequence[SearchRound]) -> Race:
        inside = set(kept)
        return Race(
            mode=mode,
            kept=tuple(kept),
            eliminated=tuple(node.path for node in self.nodes if node.path not in inside),
            means={path: found.mean for path, found in self.means.items() if found.n},
            measured={path: found.n for path, found in self.means.items()},
            rounds=tuple(rounds),
            edits=self.edits,
        )


def racing(
    ask: Ask, nodes: Sequence[Node], images: Sequence[str], *, options: RaceOptions = RaceOptions(), halted: Halted = never
) -> Race:
    """Successive halving with doubling images; ``images`` in one fixed shuffled order, the same for all nodes."""
    tally = _Tally(ask, nodes)
    protected = {node.path for node in nodes if node.kind is NodeKind.PROTECTED or node.source == "diffexplainer"}
    alive, rounds, done = [node.path for node in nodes], list[SearchRound](), 0
    while alive and images and not halted():
        goal = min(max(options.n_start, 2 * done), len(images))
        while done < goal and not halted():
            step = images[done : min(done + options.n_start, goal)]
            tally.extend(alive, step)
            done += len(step)
            alive = _without_hopeless(alive, protected, tally.means, options)
        if halted():
            rounds.append(SearchRound(images=done, alive=len(alive), edits=tally.edits))
            break
        order = _strongest(alive, nodes, tally.means)
        alive = _best(order, protected, max(math.ceil(len(alive) / 2), options.keep))
        rounds.append(SearchRound(images=done, alive=len(alive), edits=tally.edits))
        if done >= len(images) or len(set(alive) - protected) <= options.keep:
            break
    final = _best(_strongest(alive, nodes, tally.means), protected, options.keep)
    race = tally.race("racing", final, rounds)
    return undecided(race, [path for path in alive if path not in final]) if halted() else race


def undecided(race: Race, paths: Sequence[str]) -> Race:
    """The same, these nodes not taken for eliminated."""
    return replace(race, unfinished=tuple(paths), eliminated=tuple(path for path in race.eliminated if path not in set(paths)))


def parent_gated(
    ask: Ask, nodes: Sequence[Node], images: Sequence[str], *, options: RaceOptions = RaceOptions(), edits: int | None = None
) -> Race:
    """The released order: all nodes of the top level, then the children of the ``beam`` strongest, level by level.

    ``edits`` bounds the cost: as many images are used as it pays for in the worst case.
    """
    tally = _Tally(ask, nodes)
    if edits is not None:
        images = images[: max(1, edits // max(1, _worst_case(nodes, options.beam)))]
    level, rounds = _tops(nodes), list[SearchRound]()
    while level:
        tally.extend(level, images)
        rounds.append(SearchRound(images=len(images), alive=len(level), edits=tally.edits))
        beam = set(sorted(level, key=lambda path: -abs(tally.means[path].mean))[: options.beam])
        level = [node.path for node in nodes if node.parent in beam]
    order = sorted(tally.values, key=lambda path: -abs(tally.means[path].mean))
    return tally.race("parent_gated", order[: options.keep], rounds)


def random_order(
    ask: Ask,
    nodes: Sequence[Node],
    images: Sequence[str],
    rng: np.random.Generator,
    *,
    options: RaceOptions = RaceOptions(),
    edits: int | None = None,
) -> Race:
    """Nodes in random order, each on all images, as far as ``edits`` go: the floor that any search must beat."""
    tally = _Tally(ask, nodes)
    affordable = len(nodes) if edits is None else min(len(nodes), edits // max(1, len(images)))
    tally.extend([nodes[at].path for at in rng.permutation(len(nodes))[:affordable]], images)
    order = sorted(tally.values, key=lambda path: -abs(tally.means[path].mean))
    rounds = [SearchRound(images=len(images), alive=affordable, edits=tally.edits)]
    return tally.race("random_order", order[: options.keep], rounds)


def _strongest(alive: Sequence[str], nodes: Sequence[Node], means: Mapping[str, NodeMean]) -> list[str]:
    """By the shrunk mean; where shrinkage leaves a tie, by the plain one."""
    shrunk = shrunk_means(nodes, means)
    return sorted(alive, key=lambda path: (-abs(shrunk[path]), -abs(means[path].mean) if path in means else 0.0))


def _best(order: Sequence[str], protected: set[str], count: int) -> list[str]:
    """The first ``count`` that are not protected, and all protected, in order."""
    free = [path for path in order if path not in protected]
    stay = set(free[:count]) | protected
    return [path for path in order if path in stay]


def _without_hopeless(alive: Sequence[str], protected: set[str], means: Mapping[str, NodeMean], options: RaceOptions) -> list[str]:
    """Drop nodes that will hardly be among the last: upper bound below the ``keep``-th lower bound."""
    free = [path for path in alive if path not in protected and means[path].n > 1]
    if len(free) <= options.keep:
        return list(alive)
    n, variance = (np.array([getattr(means[path], name) for path in free]) for name in ("n", "variance"))
    spreads = stdtrit(n - 1, 1 - options.bound / len(alive) / 2) * np.sqrt(np.maximum(variance, variance.mean()) / n)
    spread = dict(zip(free, spreads.tolist(), strict=True))
    lower = sorted((max(0.0, abs(means[path].mean) - spread[path]) for path in free), reverse=True)
    bar = lower[options.keep - 1]
    hopeless = {path for path in free if abs(means[path].mean) + spread[path] < bar}
    return [path for path in alive if path not in hopeless]


def _tops(nodes: Sequence[Node]) -> list[str]:
    """Nodes whose parent is not among them: containers are stepped over."""
    paths = {node.path for node in nodes}
    return [node.path for node in nodes if node.parent not in paths]


def _worst_case(nodes: Sequence[Node], beam: int) -> int:
    """Edits per image if every beam holds the parents with most children."""
    counts = Counter(node.parent for node in nodes)
    children: dict[int, list[int]] = {}
    for node in nodes:
        children.setdefault(node.depth, []).append(counts[node.path])
    return len(_tops(nodes)) + sum(sum(sorted(many, reverse=True)[:beam]) for many in children.values())

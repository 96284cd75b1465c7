"""What a black-box search asks and answers (specification 7.1 and 7.6): scores of vectors under seeds, and what asking costs.

One row is one vector under one seed.  All vectors of a generation get the same seeds (common random numbers), so that the picture's
chance cancels in their comparison; the next generation gets new ones, so that no seed is fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Objective = Callable[[Float[np.ndarray, "n d"], Int[np.ndarray, "n"]], Float[np.ndarray, "n"]]
"""``(vectors (n, d), seeds (n)) -> scores (n)``, higher is better; a function of its arguments alone.  Each row is one query."""
Labels = Callable[[Float[np.ndarray, "n d"], Int[np.ndarray, "n"], Int[np.ndarray, "n"]], Bool[np.ndarray, "n"]]
"""``(vectors (n, d), seeds (n), augmentations (n), from 0) -> whether the top label is the class (n)``.  Each row is one query."""


@dataclass(frozen=True, kw_only=True)
class LabelObjective:
    """An objective for a classifier that gives nothing but its label; see :func:`label_objective`."""

    labels: Labels
    seeds: int
    augmentations: int

    @property
    def cost(self) -> int:
        """Queries of one row."""
        return self.seeds * self.augmentations

    def __call__(self, vectors: Float[np.ndarray, "n d"], seeds: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Share of the class among a row's queries, in [0, 1]."""
        inner = seeds[:, None] * self.seeds + np.arange(self.seeds)
        hits = self.labels(
            np.repeat(vectors, self.cost, axis=0),
            np.repeat(inner.ravel(), self.augmentations),
            np.tile(np.arange(self.augmentations), len(vectors) * self.seeds),
        )
        if hits.shape != (len(vectors) * self.cost,):
            raise ValueError(f"need one label hit per query, {len(vectors) * self.cost}, got shape {hits.shape}")
        return np.asarray(hits.reshape(len(vectors), self.cost).mean(axis=1, dtype=np.float64))


def label_objective(labels: Labels, *, seeds: int = 8, augmentations: int = 4) -> LabelObjective:
    """Share of pictures labelled as the class, over ``seeds`` pictures and small ``augmentations`` of each: a graded signal.

    A row's seed stands for ``seeds`` of the generator's, never those of another row's seed.  Search with ``draws=1``: a row is averaged.
    """
    if min(seeds, augmentations) < 1:
        raise ValueError(f"need at least 1 seed and 1 augmentation, got {seeds} and {augmentations}")
    return LabelObjective(labels=labels, seeds=seeds, augmentations=augmentations)


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Where a search ended."""

    vector: Float[np.ndarray, "d"]
    """The mean of what was sampled last, never the luckiest sample; inside the box."""
    value: float
    """Its mean score on fresh seeds, without the penalty."""
    se: float
    """Standard error of ``value`` over those seeds; nan for one row."""
    queries: int
    """All that were asked, ``value`` included."""
    trace: tuple[tuple[int, float], ...]
    """Per generation: queries so far, and a score on seeds that did not choose what is scored."""


class Asker:
    """Asks the objective under seeds that were never used before, and counts queries."""

    def __init__(self, objective: Objective, rng: np.random.Generator) -> None:
        self.objective = objective
        self.cost, self.seeds_per_row = (objective.cost, objective.seeds) if isinstance(objective, LabelObjective) else (1, 1)
        self.next_seed = int(rng.integers(2**40))
        self.queries = 0

    def ask(self, vectors: Float[np.ndarray, "n d"], draws: int) -> Float[np.ndarray, "n draws"]:
        """Scores of all vectors under the same ``draws`` fresh seeds."""
        seeds = np.arange(self.next_seed, self.next_seed + draws, dtype=np.int64)
        self.next_seed += draws
        self.queries += len(vectors) * draws * self.cost
        scores = np.asarray(self.objective(np.repeat(vectors, draws, axis=0), np.tile(seeds, len(vectors))), dtype=np.float64)
        if scores.shape != (len(vectors) * draws,) or not np.isfinite(scores).all():
            raise ValueError(
                f"the objective must answer {len(vectors) * draws} finite scores, one per row, got shape {scores.shape}"
            )
        return scores.reshape(len(vectors), draws)

    def rows(self, seeds: int) -> int:
        """Rows that hold so many seeds of the generator."""
        return -(-seeds // self.seeds_per_row)

    def result(self, vector: Float[np.ndarray, "d"], trace: list[tuple[int, float]], final: int) -> SearchResult:
        """Score the vector on ``final`` fresh seeds."""
        scores = self.ask(vector[None], self.rows(final))[0]
        se = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else float("nan")
        return SearchResult(vector=vector, value=float(scores.mean()), se=se, queries=self.queries, trace=tuple(trace))


def penalties(vectors: Float[np.ndarray, "n d"], penalty: float) -> Float[np.ndarray, "n"]:
    """``penalty`` · |z|² / d: far from the base prompt pictures break before the classifier is explained."""
    return np.asarray(penalty * (vectors**2).mean(axis=1))


def check_search(dim: int, start: Float[np.ndarray, "d"] | None, box: float, *counts: int) -> Float[np.ndarray, "d"]:
    """The starting vector, 0 unless given.  Raises ValueError on a wrong length, one outside the box, or a count below 1."""
    if min(dim, *counts) < 1 or not box > 0:
        raise ValueError(f"need a dimension and counts of at least 1 and a box above 0, got {dim}, {counts} and {box}")
    vector = np.zeros(dim) if start is None else np.asarray(start, dtype=np.float64)
    if vector.shape != (dim,) or not (np.abs(vector) <= box).all():
        raise ValueError(f"the start must be {dim} numbers within ±{box}")
    return vector

"""What every planted classifier truly relies on, with the renderer as a perfect generator: the yardstick of all approaches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Scores
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.sources.images import to_float
from audit_plugin.statistics.bootstrap import bootstrap, unit_weights
from audit_plugin.statistics.flip_table import FlipTable, importances
from audit_plugin.statistics.metrics import METRICS
from tests.bench.planted_suite.planted import Planted, Predict
from tests.bench.planted_suite.worlds import Ints, Law, Tie, World, draw

STRONG, WEAK = 0.05, 0.02
"""Importance from which on a reliance is strong; from which on it is one at all (the audit's own margin)."""
STILL = 0.25
"""Log-odds that what is called idle may move the mean by."""
_CHUNK = 200
_EPSILON = 1e-4


def audited_law(world: World) -> Law:
    """How the audited rows are drawn: two concepts go with the class half of the time, so that the data themselves are confounded."""
    if world.name == "scenes":
        ties = (Tie(concept="background", strength=0.5, levels=("grass", "water")), Tie(concept="ruler", strength=0.5))
        return Law(ties=ties, classes={"circle": 0, "square": 0, "triangle": 1})
    return Law(ties=(Tie(concept="ground", strength=0.4), Tie(concept="patch", strength=0.4)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of the audited distribution."""

    values: Ints
    """``(n, concepts)``"""
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)


def rows_of(world: World, n: int, purpose: str) -> Rows:
    """``n`` rows; another purpose, other rows."""
    rng = np.random.default_rng(seed_of("planted suite", f"{purpose} {world.name}"))
    values = draw(world, n, audited_law(world), rng)
    return Rows(values=values, seeds=tuple(rng.integers(0, 2**62, size=n).tolist()))


def labels_of(world: World, planted: Planted, rows: Rows, purpose: str) -> Ints:
    """``(n, tasks)`` by the classifier's own task."""
    return planted.labels(world, rows.values, np.random.default_rng(seed_of("planted suite", f"{purpose} labels {planted.name}")))


@dataclass(frozen=True, kw_only=True)
class ConceptTruth:
    """Reliance of one task of one classifier on one concept."""

    importance: float
    """Fall of the (macro) AUROC when the concept is permuted."""
    importance_se: float
    flip_rate: float
    """Share of changes of this concept that change the decision."""
    shift: float
    """Mean change of log-odds, of the class and the pair of levels where it is largest."""

    @property
    def strong(self) -> bool:
        """Must be found."""
        return self.importance >= STRONG

    @property
    def weak(self) -> bool:
        """Should be found."""
        return WEAK <= self.importance < STRONG

    @property
    def idle(self) -> bool:
        """Must not be accused: neither the metric nor the log-odds depend on it."""
        return self.importance < WEAK / 2 and self.shift < STILL


@dataclass(frozen=True, kw_only=True)
class Known:
    """Truth of one task."""

    classifier: str
    task: str
    concepts: dict[str, ConceptTruth]


def truths(world: World, models: Mapping[Planted, Predict], n: int) -> dict[tuple[str, str], dict[str, ConceptTruth]]:
    """(Classifier, task) -> concept -> truth; all classifiers see the same pictures."""
    rows = rows_of(world, n, "truth")
    tables = flip_scores(world, rows, models)
    weights = unit_weights(np.arange(n), 200, np.random.default_rng(seed_of("planted suite", "resamples")))
    return {
        (planted.name, task): {
            name: _truth(_table(rows, world.index(name), flips, labels), weights) for name, flips in asked.items()
        }
        for planted, by_concept in tables.items()
        for task, asked, labels in tasks(planted, by_concept, labels_of(world, planted, rows, "truth"))
    }


def tasks(planted: Planted, scores: Mapping[str, Scores], labels: Ints) -> list[tuple[str, dict[str, Scores], NDArray[np.int64]]]:
    """(Task, concept -> scores ``(n, K, k)``, labels ``(n,)``) of a classifier; of a multi-label one each output with its complement."""
    if not planted.multi_label:
        return [("label", dict(scores), labels[:, 0])]
    return [
        (name, {concept: np.stack([1 - one[..., at], one[..., at]], -1) for concept, one in scores.items()}, labels[:, at])
        for at, name in enumerate(planted.rules)
    ]


def flip_scores(world: World, rows: Rows, models: Mapping[Planted, Predict]) -> dict[Planted, dict[str, Scores]]:
    """Classifier -> concept -> scores ``(n, K, k)`` of every row at every level of the concept."""
    found: dict[Planted, dict[str, list[Scores]]] = {planted: {name: [] for name in world.names} for planted in models}
    for at in range(0, len(rows), _CHUNK):
        values, seeds = rows.values[at : at + _CHUNK], rows.seeds[at : at + _CHUNK]
        for name in world.names:
            column = world.index(name)
            levels = len(world.levels(name))
            asked = np.repeat(values[:, None], levels, 1)
            asked[:, :, column] = np.arange(levels)
            flat = asked.reshape(-1, values.shape[1])
            images = to_float(world.held_out(np.repeat(seeds, levels).tolist(), flat))
            for planted, predict in models.items():
                found[planted][name].append(predict(images).reshape(len(values), levels, -1))
    return {planted: {name: np.concatenate(parts) for name, parts in by.items()} for planted, by in found.items()}


def _table(rows: Rows, column: int, flips: Scores, labels: NDArray[np.int64]) -> FlipTable:
    values = rows.values[:, column]
    return FlipTable(baseline=flips[np.arange(len(values)), values], flips=flips, values=values, labels=labels)


def _truth(table: FlipTable, weights: NDArray[np.float64]) -> ConceptTruth:
    boot = bootstrap(lambda w: importances(table, METRICS["auroc"], w), weights)
    return ConceptTruth(
        importance=boot.value, importance_se=boot.se, flip_rate=flip_rate(table), shift=float(shifts(table).max(initial=0.0))
    )


def flip_rate(table: FlipTable) -> float:
    """Share of changes to another level that change the likeliest class."""
    changed = (table.flips.argmax(2) != table.baseline.argmax(1)[:, None]).sum(1) / (table.levels - 1)
    return float(changed.mean())


def shifts(table: FlipTable) -> NDArray[np.float64]:
    """Change of the mean log-odds ``(K, K, k)`` from every level to every other, for every class, without its sign."""
    p = table.flips.clip(_EPSILON, 1 - _EPSILON)
    odds = np.log(p / (1 - p))
    mean = odds.mean(0)
    return np.asarray(np.abs(mean[:, None] - mean[None]))


def chosen_rows(rows: Rows, which: Sequence[int]) -> Rows:
    """Some of the rows."""
    return Rows(values=rows.values[list(which)], seeds=tuple(rows.seeds[at] for at in which))

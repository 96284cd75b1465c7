"""Classifiers whose dependence is known because it is made, on the pictures of the bank: what the controls of an audit are judged on.

A control has a task of its own.  Its label is one level of one concept as the table has it, wrong in some rows, so that reliance on that
concept is worth something whatever the audited task is; its score is what the independent detector reads of that level in each picture, with
noise that stays the same over all pictures of a row, as a classifier's own habits do.  Nothing else of the picture moves it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.table import BankTable, Shas
from audit_plugin.core.seeds import seed as seed_of

LABEL = "control"
CLASSES = ("no", "yes")
WRONG = 0.1
"""Share of the rarer label that is wrong: no classifier is perfect, and a perfect one would hide errors of the metric."""
GAIN = 4.0
"""Log-odds between an undecided detector and a certain one."""
NOISE = 0.5
"""Standard deviation of a row's own log-odds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlTask:
    """Rows with the control's labels, and its scores of every picture that they ask for."""

    table: BankTable
    scores: dict[str, NDArray[np.float64]]
    """sha256 -> ``(2,)`` probabilities of :data:`CLASSES`."""


def readable(table: BankTable, concept: str) -> bool:
    """Whether the detector read this concept on every usable baseline."""
    usable = table.usable(table.baseline)
    return bool(usable.any() and np.isfinite(table.read(table.baseline[usable], concept)).all())


def control_task(table: BankTable, concept: str, *, seed: str, threshold: float = 0.5) -> ControlTask:
    """A classifier that answers from ``concept`` alone; from nothing in the pictures, but rightly, where that is empty.

    It decides for "yes" where the detector does, at the audit's own ``threshold``.  Pictures without a reading are as undecided as it is.
    """
    rng = np.random.default_rng(seed_of(seed, f"control {concept}"))
    shows, level = _shows(table, concept, rng)
    share = shows.mean()
    rare = min(share, 1 - share)
    wrong = rng.random(len(shows)) < WRONG * rare / np.where(shows, max(share, 1e-9), max(1 - share, 1e-9))
    noise = NOISE * rng.normal(size=len(shows))
    bound = float(np.clip(threshold, 0.01, 0.99))
    scores: dict[str, NDArray[np.float64]] = {}
    for shas in _arms(table):
        for sha, row in zip(shas.tolist(), range(len(shas)), strict=True):
            if sha and sha not in scores:
                seen = _seen(table, sha, concept, level) if concept else float(shows[row])
                p = 1 / (1 + np.exp(-(np.log(bound / (1 - bound)) + GAIN * (2 * seen - 1) + noise[row])))
                scores[sha] = np.array([1 - p, p])
    labels = [CLASSES[int(says)] for says in (shows != wrong).tolist()]
    rows = tuple(replace(row, labels={LABEL: label}) for row, label in zip(table.rows, labels, strict=True))
    return ControlTask(table=replace(table, rows=rows), scores=scores)


def _shows(table: BankTable, concept: str, rng: np.random.Generator) -> tuple[NDArray[np.bool_], int]:
    """``(n,)`` rows that show the level which is nearest to half of them, and that level; a coin where there is no concept."""
    if not concept:
        return rng.permutation(np.arange(len(table.rows)) % 2 == 1), 0
    level = int(np.abs(table.prevalence(concept) - 0.5).argmin())
    return table.values[:, table.index(concept)] == level, level


def _arms(table: BankTable) -> Iterator[Shas]:
    """Every picture's sha256 in the place of its row, arm by arm."""
    yield table.baseline
    for flips in table.flips.values():
        yield from flips
    for several in (table.placebo, table.real):
        if several is not None:
            yield several
    if table.replicates is not None:
        yield from table.replicates
    yield from table.groups.values()


def _seen(table: BankTable, sha: str, concept: str, level: int) -> float:
    reading = table.readings.get(sha, {}).get(concept)
    return 0.5 if reading is None or not np.isfinite(reading[level]) else float(reading[level])

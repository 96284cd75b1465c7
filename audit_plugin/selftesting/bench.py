"""One model's bank as a self-test works on it: short names for pictures, log-odds, and what the detector reads of one level of every concept.

Every repeat draws as many units as there are, with replacement: the bank's own units stand for the population, of which the repeat is a sample of
the audit's own size.  A unit that is drawn twice is two units, as two patients with the same pictures would be: under that population the draws are
independent, and counting both as one would make the audit's own bootstrap resample fewer units than were drawn.  Drawing fewer units, each once, would
test an audit of fewer rows than hers.  What the draw cannot show is what other units than the bank's would add, and it repeats rare combinations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.table import BankTable, Shas
from audit_plugin.core.errors import BankError
from audit_plugin.selftesting.wrapper import Answers, Array, answers

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Picture number ``i`` of N is called ``str(i)`` in ``table``."""

    table: BankTable
    answers: Answers
    log_odds: Array
    """``(N,)`` the live model's, of the class that is shifted."""
    shows: Mapping[str, Array]
    """Concept -> ``(N,)`` the detector's probability of its level, less the mean over all baselines, times the sign; 0 where it read nothing."""
    levels: Mapping[str, int]
    """Concept -> the level whose presence shifts the answers, that which is nearest to half of the rows."""
    signs: Mapping[str, float]
    """Concept -> -1 where the level is rarer with the class and lowers the answers, else 1: a shortcut that a model has learnt goes along with
    its label, and one that goes against it costs performance, which is no finding."""
    names: Mapping[str, NDArray[np.float64]]
    """Picture -> the live model's own answer."""
    placebo: Array
    """``(n,)`` change of log-odds by a meaningless change of the caption, NaN for rows without."""


def bench_of(
    table: BankTable,
    scores: Mapping[str, NDArray[np.float64]],
    concepts: Sequence[str],
    column: int,
    *,
    own: NDArray[np.bool_],
    model: str,
    merged: bool = False,
) -> Bench:
    """``own``: ``(n,)`` rows whose label is the class of the column; ``merged``: classes are made of the model's own.  Raises BankError when a picture has no score, ConfigError when answers have no log-odds."""
    places = {sha: at for at, sha in enumerate(sorted({sha for arm in _arms(table) for sha in np.unique(arm).tolist() if sha}))}
    usable = [sha for sha in places if sha not in table.rejected]
    if lost := [sha for sha in usable if sha not in scores]:
        raise BankError(f"{len(lost)} of {len(usable)} pictures have no score of model {model!r}")
    width = len(next(iter(scores.values()))) if scores else 2
    matrix = np.full((len(places), width), 1 / width)  # of pictures that were refused
    for sha in usable:
        matrix[places[sha]] = scores[sha]
    told = answers(matrix, column, model=model, merged=merged)
    short = _renamed(table, places)
    log_odds, base = told.log_odds, _numbers(short.baseline)
    levels = {name: int(np.abs(table.prevalence(name) - 0.5).argmin()) for name in concepts}
    shows = {name: _shows(short, name, level, len(places)) for name, level in levels.items()}
    usable_rows = short.usable(short.baseline)
    along = {name: float(one[base[usable_rows]] @ (own[usable_rows] - own[usable_rows].mean())) for name, one in shows.items()}
    signs = {name: -1.0 if with_class < 0 else 1.0 for name, with_class in along.items()}
    return Bench(
        table=short,
        answers=told,
        log_odds=log_odds,
        shows={name: signs[name] * one for name, one in shows.items()},
        signs=signs,
        levels=levels,
        names={str(at): told.scores[at] for at in (places[sha] for sha in usable)},
        placebo=np.full(len(base), np.nan) if short.placebo is None else _changes(short, base, log_odds),
    )


def drawn(table: BankTable, rng: np.random.Generator) -> tuple[BankTable, Ints]:
    """A sample of as many units, and the row of the bank in every row of it."""
    units = np.unique(np.array(table.units), return_inverse=True)[1]
    members = [np.flatnonzero(units == unit) for unit in range(units.max() + 1)]
    draws = rng.integers(len(members), size=len(members))
    at = np.concatenate([members[unit] for unit in draws.tolist()])
    owner = np.repeat(np.arange(len(draws)), [len(members[unit]) for unit in draws.tolist()])
    rows = tuple(
        replace(table.rows[row], id=f"{place} {table.rows[row].id}", unit=f"draw {unit}")
        for place, (row, unit) in enumerate(zip(at.tolist(), owner.tolist(), strict=True))
    )
    return replace(
        table,
        rows=rows,
        baseline=table.baseline[at],
        flips={name: arms[:, at] for name, arms in table.flips.items()},
        factors={name: factor[:, at] for name, factor in table.factors.items()},
        placebo=None if table.placebo is None else table.placebo[at],
        replicates=None if table.replicates is None else table.replicates[:, at],
        groups={name: arm[at] for name, arm in table.groups.items()},
        changed={name: arm[at] for name, arm in table.changed.items()},
        real=None if table.real is None else table.real[at],
    ), at


def _arms(table: BankTable) -> list[Shas]:
    several = [one for one in (table.placebo, table.replicates, table.real) if one is not None]
    return [table.baseline, *table.flips.values(), *several, *table.groups.values()]


def _renamed(table: BankTable, places: Mapping[str, int]) -> BankTable:
    """Short names sort and compare many times faster than digests."""

    def names(shas: Shas) -> Shas:
        known, back = np.unique(shas, return_inverse=True)
        return np.array([str(places[sha]) if sha else "" for sha in known.tolist()], "<U24")[back].reshape(shas.shape)

    return replace(
        table,
        baseline=names(table.baseline),
        flips={name: names(arms) for name, arms in table.flips.items()},
        placebo=None if table.placebo is None else names(table.placebo),
        replicates=None if table.replicates is None else names(table.replicates),
        groups={name: names(arm) for name, arm in table.groups.items()},
        real=None if table.real is None else names(table.real),
        readings={str(places[sha]): reading for sha, reading in table.readings.items() if sha in places},
        rejected={str(places[sha]): why for sha, why in table.rejected.items() if sha in places},
        captions={},
    )


def _numbers(names: Shas) -> Ints:
    """-1 where there is no picture."""
    return np.where(names == "", "-1", names).astype(np.int64)


def _shows(table: BankTable, concept: str, level: int, pictures: int) -> Array:
    """``(N,)`` centred on the baselines."""
    seen = np.full(pictures, np.nan)
    for name, reading in table.readings.items():
        if concept in reading:
            seen[int(name)] = float(reading[concept][level])
    base = seen[_numbers(table.baseline[table.usable(table.baseline)])]
    if not np.isfinite(base).any():
        raise BankError(
            f"the detector has read nothing of concept {concept!r}, so nothing can be put in where it shows; leave it out"
        )
    return np.asarray(np.nan_to_num(seen - np.nanmean(base), nan=0.0))


def _changes(table: BankTable, base: Ints, log_odds: Array) -> Array:
    assert table.placebo is not None, "the table has placebos"
    both = table.usable(table.placebo) & table.usable(table.baseline)
    return np.where(both, log_odds[_numbers(table.placebo)] - log_odds[base], np.nan)

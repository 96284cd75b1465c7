"""Group fairness of every protected concept (depict section 8): interventional and observational figures, never mixed.

Interventional figures ask what the model does when the picture of the *same* row shows another level; they measure the
direct-appearance effect, not counterfactual fairness in the strict causal sense, which would let descendants of the concept change
too.  Observational figures compare different real rows.  A figure is of concern when its whole 95 % interval lies beyond the margin, and
never while edits of the concept leak into others (G4 failed), were not made (G3a failed) or ask for what coincides with the label (G7).  A
figure that is the largest of several gaps is lifted by noise alone; it is of concern when one of those gaps is, with Bonferroni over them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import FairnessFigure, GateStatus
from audit_plugin.core.values import Role
from audit_plugin.methods.depict.assemble import Array, Ints, Mask
from audit_plugin.methods.depict.coinciding import inseparable
from audit_plugin.methods.depict.gates import GateReport
from audit_plugin.methods.depict.study import Study, from_interval, known
from audit_plugin.statistics.fairness import (
    MARGINS,
    directed_flips,
    disparate_impact,
    equal_opportunity,
    equalised_odds,
    fair_share,
    flip_rate,
    flip_rate_excess,
    odds_gap,
    parity_gap,
    score_shift,
    statistical_parity,
)
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.worst_group import gap_to_average, pooled, worst_group_accuracy


@dataclass(frozen=True, kw_only=True)
class _Concern:
    """What would be of concern: beyond ±margin, or below a floor."""

    words: str
    margin: float | None = None
    floor: float | None = None
    settled: bool = False
    """Already decided by something else than the figure's own interval."""

    def met(self, interval: Interval) -> bool:
        """Whether the whole interval is of concern."""
        if self.margin is not None:
            return interval.low > self.margin or interval.high < -self.margin
        return self.settled or (self.floor is not None and interval.high < self.floor)


def _beyond(name: str) -> _Concern:
    return _Concern(words=f"beyond ±{MARGINS[name]:g}", margin=MARGINS[name])


def _any_beyond(name: str, gaps: Sequence[Interval]) -> _Concern:
    """Concern for the largest of several gaps."""
    each = _beyond(name)
    return replace(each, margin=None, settled=any(each.met(gap) for gap in gaps))


def _largest(found: Interval, gaps: Sequence[Interval]) -> Interval:
    """The largest of several gaps in size: as far from 0 as one of them surely is, since noise alone lifts the largest of its resamples."""
    low = max(max(gap.low, -gap.high, 0.0) for gap in gaps)
    high = max(max(gap.high, -gap.low) for gap in gaps)
    return Interval(found.value, min(low, found.value), max(high, found.value))


def _gaps(yes: Mask, groups: Ints, sides: Sequence[Mask]) -> Sequence[Interval]:
    """Difference of favourable rates of every two groups within each of the sides, simultaneous at 95 %."""
    pairs = [(side, a, b) for side in sides for a, b in combinations(np.unique(groups).tolist(), 2)]
    level = 1 - 0.05 / max(1, len(pairs))
    return [statistical_parity(yes[side & (groups == a)], yes[side & (groups == b)], level=level) for side, a, b in pairs]


_NONE = _Concern(words="shown for reading the others")


def fairness_figures(study: Study, gates: GateReport) -> tuple[FairnessFigure, ...]:
    """All figures of all concepts whose role is protected."""
    protected = [concept for concept in study.arrays.concepts if concept.role is Role.PROTECTED]
    return tuple(figure for concept in protected for figure in _Figures(study=study, gates=gates, name=concept.name).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Figures:
    study: Study
    gates: GateReport
    name: str

    def all(self) -> Iterator[FairnessFigure]:
        levels = self.study.arrays.concept(self.name).levels
        for a, b in combinations(range(len(levels)), 2):
            yield from self._interventional(a, b)
        yield from self._over_all_levels()
        if self.study.arrays.real is not None:
            for a, b in combinations(range(len(levels)), 2):
                yield from self._observational(a, b)
            yield from self._over_all_groups(self.study.arrays.real)

    def _interventional(self, a: int, b: int) -> Iterator[FairnessFigure]:
        flip, study = self.study.arrays.flips[self.name], self.study
        rows = flip.usable & flip.shown[:, a] & flip.shown[:, b]
        if rows.sum() < 2:
            return
        on_a, on_b = flip.scores[rows, a], flip.scores[rows, b]
        yes_a, yes_b = study.decide(on_a), study.decide(on_b)
        show = self._shower("interventional", (a, b), int(rows.sum()))
        yield show("flip_rate", flip_rate(yes_a != yes_b, np.zeros(len(yes_a), np.bool_)), _NONE)
        yield from self._excess(rows, yes_a != yes_b, (a, b))
        yield show("mean_score_shift", score_shift(study.favourable(on_a, rows), study.favourable(on_b, rows)), _NONE)
        if not study.binary:
            return
        first, second = yes_a == 1, yes_b == 1
        directed = directed_flips(first, second)
        symmetric = f"both directions equally common: p = {directed.p_symmetric:.3g} (exact McNemar)"
        yield show("flips_to_favourable", directed.to_favourable, _NONE, symmetric)
        yield show("flips_to_unfavourable", directed.to_unfavourable, _NONE, symmetric)
        units, pictures = study.arrays.units[rows], flip.pictures[rows][:, [a, b]]
        yield show("counterfactual_parity_gap", parity_gap(first, second, units, pictures=pictures), _beyond("parity_gap"))
        right = study.arrays.labels[rows] == 1
        odds = odds_gap(first, second, right, study.weights[:, rows], units)
        gaps = [
            parity_gap(first[side], second[side], units[side], pictures=pictures[side], level=0.975)
            for side in (right, ~right)
            if side.any()
        ]
        yield show("counterfactual_odds_gap", _largest(odds, gaps), _any_beyond("odds_gap", gaps))

    def _excess(self, rows: Mask, flipped: Mask, levels: tuple[int, int]) -> Iterator[FairnessFigure]:
        study, placebo = self.study, self.study.arrays.placebo
        if placebo is None:
            return
        both = rows & known(placebo)
        if both.sum() < 2:
            return
        idle = study.decide(placebo[both]) != study.decide(study.arrays.baseline[both])
        interval = flip_rate_excess(flipped[both[rows]], idle, study.weights[:, both])
        show = self._shower("interventional", levels, int(both.sum()))
        yield show("flip_rate_excess", interval, _beyond("flip_rate_excess"), "in excess of the placebo, on rows that have one")

    def _over_all_levels(self) -> Iterator[FairnessFigure]:
        flip = self.study.arrays.flips[self.name]
        rows = flip.usable & flip.shown.all(1)
        if rows.any():
            scores = self.study.favourable(flip.scores[rows], rows)
            show = self._shower("interventional", (0, len(flip.concept.levels) - 1), int(rows.sum()))
            yield show("counterfactually_fair_share", fair_share(scores), _NONE, "score moves less than 0.05 over all levels")

    def _observational(self, a: int, b: int) -> Iterator[FairnessFigure]:
        study, groups, real = self.study, self.study.arrays.values[self.name], self.study.arrays.real
        if real is None or not study.binary:
            return
        rows = known(real) & np.isin(groups, (a, b))
        yes, of_a = study.decide(np.nan_to_num(real)) == 1, groups == a
        if not (rows & of_a).any() or not (rows & ~of_a).any():
            return
        in_a, in_b = yes[rows & of_a], yes[rows & ~of_a]
        show = self._shower("observational", (a, b), int(rows.sum()))
        yield show("statistical_parity_difference", statistical_parity(in_a, in_b), _beyond("parity_gap"))
        floor = MARGINS["disparate_impact"]
        yield show("disparate_impact", disparate_impact(in_a, in_b), _Concern(words=f"below {floor:g}", floor=floor))

    def _over_all_groups(self, real: Array) -> Iterator[FairnessFigure]:
        study, groups = self.study, self.study.arrays.values[self.name]
        rows = known(real)
        labels, weights, chosen = study.arrays.labels[rows], study.weights[:, rows], study.decide(real[rows])
        show = self._shower("observational", (0, len(study.arrays.concept(self.name).levels) - 1), int(rows.sum()))
        if study.binary and self._mixed(labels, groups[rows]):
            yes, right = chosen == 1, labels == 1
            interval = equal_opportunity(yes, right, groups[rows], weights)
            hits, both = _gaps(yes, groups[rows], (right,)), _gaps(yes, groups[rows], (right, ~right))
            yield show("equal_opportunity_difference", interval, _any_beyond("odds_gap", hits))
            odds = equalised_odds(yes, right, groups[rows], weights)
            yield show("equalised_odds_difference", odds, _any_beyond("odds_gap", both))
        cells = pooled(labels * (int(groups.max()) + 1) + groups[rows])
        if len(np.unique(cells)) < 2:
            return
        worst = worst_group_accuracy(chosen == labels, cells, weights)
        note = f"{self._cell(worst.group)}, {worst.n} rows; less its bias: {worst.corrected:.3f}; small groups are pooled"
        yield show("worst_group_accuracy", worst.accuracy, _NONE, note)
        yield show("gap_to_average", gap_to_average(chosen == labels, cells, weights), _NONE)

    def _mixed(self, labels: Ints, groups: Ints) -> bool:
        """Whether every one of at least two groups has rows of both labels."""
        names = np.unique(groups)
        return len(names) > 1 and all(len(np.unique(labels[groups == name])) == 2 for name in names)

    def _cell(self, number: int) -> str:
        levels = self.study.arrays.concept(self.name).levels
        width = int(self.study.arrays.values[self.name].max()) + 1
        return "pooled small groups" if number < 0 else f"{self.study.arrays.classes[number // width]} / {levels[number % width]}"

    def _shower(self, family: str, levels: tuple[int, int], n: int) -> "_Show":
        names = self.study.arrays.concept(self.name).levels
        edited = family == "interventional"
        return _Show(
            concept=self.name,
            family=family,
            levels=(names[levels[0]], names[levels[1]]),
            n=n,
            blocked=edited and self._blocked(),
            notes=self._leak_row() if edited else (),
        )

    def _blocked(self) -> bool:
        failed = [self.gates.status(gate, self.name) is GateStatus.FAIL for gate in ("G0", "G3a", "G4", "G5")]
        return any(failed) or bool(self.gates.invalid) or self.name in self.gates.coinciding

    def _leak_row(self) -> tuple[str, ...]:
        """The leakage row of the concept, printed beside every interventional figure."""
        row = {other: boot.value for other, boot in self.gates.leakage.get(self.name, {}).items() if other != self.name}
        said = ", ".join(f"{other} {value:+.3f}" for other, value in sorted(row.items(), key=lambda item: -item[1]))
        leaks = self.gates.leaks(self.name)
        blocked = [f"blocked: edits also change {', '.join(leaks)} (G4 failed)"] if leaks else []
        if same := self.gates.coinciding.get(self.name):
            blocked.append(f"blocked: {self.name} {inseparable(same)}")
        return (*((f"leakage: {said}",) if said else ()), *blocked)


@dataclass(frozen=True, kw_only=True)
class _Show:
    """Writes figures that share concept, family, levels and rows."""

    concept: str
    family: str
    levels: tuple[str, str]
    n: int
    blocked: bool
    notes: tuple[str, ...]

    def __call__(self, figure: str, interval: Interval, concern: _Concern, note: str = "") -> FairnessFigure:
        estimate: Estimate | None = from_interval(interval) if np.isfinite([interval.low, interval.high]).all() else None
        return FairnessFigure(
            concept=self.concept,
            family=self.family,
            figure=figure,
            levels=self.levels,
            estimate=estimate,
            n=self.n,
            concern=concern.words,
            of_concern=estimate is not None and not self.blocked and concern.met(interval),
            notes=(*((note,) if note else ()), *self.notes),
        )

"""Differences of two audits on the same rows: every statistic is computed for both on the same resample, and subtracted there.

What both models share of a row (its difficulty, its picture) cancels in the difference, so its interval is narrower than that of two
independent audits by the share of the variance that they have in common.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from audit_plugin.comparing.judging import Judged, measured
from audit_plugin.comparing.pairing import PairedStudies
from audit_plugin.core.results import AuditResult, ConceptResult
from audit_plugin.methods.depict.assemble import Array, FlipArrays
from audit_plugin.methods.depict.figures import drops, most_turned, reactions, unseen
from audit_plugin.methods.depict.gates import skill
from audit_plugin.methods.depict.study import Study, known, minus, ratios
from audit_plugin.statistics.bootstrap import Bootstrap, bootstrap
from audit_plugin.statistics.flip_table import contribution_bound, loss_gains
from audit_plugin.statistics.signflip import few_changed, few_said, sparse_limits
from audit_plugin.statistics.unseen import NONE, Reach, unseen_share


def importance(pair: PairedStudies, name: str, *, margin: float) -> Judged | None:
    """Difference of a concept's importance; None where it has hardly a usable row."""
    flips = [study.arrays.flips[name] for study in (pair.old, pair.new)]
    rows = flips[0].usable
    if rows.sum() < 10 or len(np.unique(pair.old.arrays.labels[rows])) < 2:
        return None
    old, new = (_importance(study, flip) for study, flip in zip((pair.old, pair.new), flips, strict=True))
    change = _contributions(pair.new, flips[1]) - _contributions(pair.old, flips[0])
    return _with_few(pair, minus(new, old), change, flips[0], old=old.value, new=new.value, margin=margin)


def flip_rate(pair: PairedStudies, name: str, *, margin: float) -> Judged | None:
    """Difference of the share of edits that change the decision."""
    flips = [study.arrays.flips[name] for study in (pair.old, pair.new)]
    if not (flips[0].drawn & flips[0].usable[:, None]).any():
        return None
    old, new = (reactions(study, flip)[0] for study, flip in zip((pair.old, pair.new), flips, strict=True))
    rows = flips[0].usable
    reach = NONE if pair.identical else unseen_share(pair.new.arrays.units[rows])
    return measured(minus(new, old), old=old.value, new=new.value, margin=margin, n=int(rows.sum()), reach=reach)


def performance(pair: PairedStudies, *, real: bool, margin: float) -> Judged | None:
    """Difference of the metric on the real images, or on the pictures of the rows' own captions."""
    arms = [study.arrays.real if real else study.arrays.baseline for study in (pair.old, pair.new)]
    if arms[0] is None or arms[1] is None or not np.array_equal(known(arms[0]), known(arms[1])):
        return None
    old, new = skill(pair.old, arms[0]), skill(pair.new, arms[1])
    if old is None or new is None:
        return None
    rows = known(arms[0])
    change, n, metric = minus(new, old), int(rows.sum()), pair.new.metric
    if metric.loss is None:
        reach = NONE if pair.identical else unseen(pair.new, rows, 1.0)
        return measured(change, old=old.value, new=new.value, margin=margin, n=n, reach=reach)
    units, labels = pair.new.arrays.units[rows], pair.new.arrays.labels[rows]
    gains = metric.row_losses(arms[0][rows], labels) - metric.row_losses(arms[1][rows], labels)
    few = few_changed(gains, units) and not pair.identical
    limits = sparse_limits(gains, units, NONE.limits(change), bound=metric.loss_range) if few else None
    return measured(change, old=old.value, new=new.value, margin=margin, n=n, limits=limits)


def fairness(pair: PairedStudies, result: AuditResult, *, margin: float) -> Iterator[tuple[str, str, str, str, Judged]]:
    """(concept, family, figure, levels) of the gaps that are differences of rates, each paired: interventional and observational."""
    protected = {figure.concept for figure in result.fairness}
    for name in (name for name in pair.new.arrays.names if name in protected and pair.new.binary):
        levels = pair.new.arrays.concept(name).levels
        for a, b in combinations(range(len(levels)), 2):
            for family, figure, gap in (
                ("interventional", "counterfactual_parity_gap", _parity_gap),
                ("observational", "statistical_parity_difference", _observed_gap),
            ):
                gaps = [gap(study, name, a, b) for study in (pair.old, pair.new)]
                if gaps[0] is not None and gaps[1] is not None:
                    (old, n, reach), (new, *_) = gaps[0], gaps[1]
                    least = NONE if pair.identical else reach
                    judged = measured(minus(new, old), old=old.value, new=new.value, margin=margin, n=n, reach=least)
                    yield name, family, figure, f"{levels[a]} - {levels[b]}", judged


def effective_margin(old: ConceptResult, new: ConceptResult, asked: float | None) -> float:
    """The one that was asked for, or the wider of the two audits' own."""
    return max(old.margin, new.margin) if asked is None else asked


def _importance(study: Study, flip: FlipArrays) -> Bootstrap:
    table, factor = study.table(flip), _factor(flip)
    return bootstrap(lambda weights: drops(table, study.metric, weights, factor), study.weights[:, flip.usable])


def _contributions(study: Study, flip: FlipArrays) -> Array:
    """``(n,)`` each row's part of the importance, by the metric's loss."""
    table = study.table(flip)
    return np.asarray((loss_gains(table, study.row_metric) * _factor(flip)) @ table.shares)


def _factor(flip: FlipArrays) -> Array:
    rows = flip.usable
    return np.where(flip.drawn[rows], flip.factor[rows], 0.0)


def _with_few(
    pair: PairedStudies, change: Bootstrap, rows: Array, flip: FlipArrays, *, old: float, new: float, margin: float
) -> Judged:
    """A bootstrap over a handful of changed rows is too narrow: for a mean loss, exact intervals of their shares take its place; by a rank
    metric the interval reaches at least as far as rows unlike those drawn allow, to which one of the two versions reacts.
    """
    n, units = int(flip.usable.sum()), pair.new.arrays.units[flip.usable]
    said = few_said(rows, units)
    few = (f"{said} differ: the interval rests on them",) if few_changed(rows, units) and not pair.identical else ()
    if pair.new.metric.loss is None and not pair.identical:
        reach = unseen(pair.new, flip.usable, most_turned(pair.new.table(flip).shares))
        return measured(change, old=old, new=new, margin=margin, n=n, notes=few, reach=reach)
    if not few:
        return measured(change, old=old, new=new, margin=margin, n=n)
    bound = 2 * contribution_bound(pair.new.table(flip), pair.new.row_metric) * max(1.0, float(_factor(flip).max()))
    limits = sparse_limits(rows, units, NONE.limits(change), bound=bound)
    note = f"{said} differ: Clopper-Pearson interval"
    return measured(change, old=old, new=new, margin=margin, n=n, notes=(note,), limits=limits)


def _parity_gap(study: Study, name: str, a: int, b: int) -> tuple[Bootstrap, int, Reach] | None:
    """Favourable decisions at level a less those at level b, of the same rows' pictures; how many rows, and what others might add."""
    flip = study.arrays.flips[name]
    rows = flip.usable & flip.shown[:, a] & flip.shown[:, b]
    if rows.sum() < 2:
        return None
    change = (study.decide(flip.scores[rows, a]) == 1).astype(np.float64) - (study.decide(flip.scores[rows, b]) == 1)
    gap = study.boot(lambda weights: ratios(change, np.ones(len(change)), weights), rows)
    return gap, int(rows.sum()), unseen_share(study.arrays.units[rows])


def _observed_gap(study: Study, name: str, a: int, b: int) -> tuple[Bootstrap, int, Reach] | None:
    """Favourable decisions among real images of level a less those of level b, likewise; the level with fewer units allows more."""
    real, groups = study.arrays.real, study.arrays.values[name]
    if real is None:
        return None
    sides = [known(real) & (groups == level) for level in (a, b)]
    if not all(side.any() for side in sides):
        return None
    yes = np.asarray(known(real) & (study.decide(np.nan_to_num(real)) == 1), np.float64)
    first, second = (study.ratio(yes * side, side.astype(np.float64)) for side in sides)
    fewest = min((study.arrays.units[side] for side in sides), key=lambda units: len(np.unique(units)))
    return minus(first, second), int(sides[0].sum() + sides[1].sum()), unseen_share(fewest)

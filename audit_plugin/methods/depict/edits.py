"""What the detector saw of the edits: were they made (obedience), did they touch anything else (leakage), and what follows.

The caption is an assigned treatment, the detector's reading the treatment received (depict sections 5 and 7).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from audit_plugin.methods.depict.assemble import Array, FlipArrays, Ints, Mask
from audit_plugin.methods.depict.study import Study, known, minus
from audit_plugin.statistics.adjust import contrasts, log_scores, ratio
from audit_plugin.statistics.bootstrap import Bootstrap
from audit_plugin.statistics.flip_table import FlipTable, importances
from audit_plugin.statistics.metrics import METRICS


def seen_levels(readings: Array) -> Ints:
    """``(..., K)`` probabilities -> ``(...)`` level that the detector names; -1 where nothing was read."""
    return np.where(known(readings), np.nan_to_num(readings).argmax(-1), -1)


def compliance(study: Study, name: str) -> Bootstrap | None:
    """κ of gate G3a: the share of asked-for changes that are made, in units of what the detector sees on real images.

    Numerator: mean over levels v of P(h = v | asked for v) - P(h = v | asked for another level), over the whole flip table, in which
    every row is asked for every level once (its own by the baseline).  Denominator: the same contrast on real images by their labels.
    When a share κ of flips is made and the rest stay as they were, this is κ for any number of levels and any prevalence; over the
    flipped pictures alone a binary concept would give 2κ - 1, which is no compliance.  Without real images the denominator is 1, so
    that the detector's own errors count against the generator.
    """
    flip = study.arrays.flips[name]
    if name not in flip.readings:
        return None
    cells = flip.shown & flip.usable[:, None] & known(flip.readings[name])
    asked = np.broadcast_to(np.arange(cells.shape[1]), cells.shape)
    achieved = _contrast(study, seen_levels(flip.readings[name]), asked, cells)
    real = real_contrast(study, name)
    return achieved if real is None else ratio(achieved, real)


def real_contrast(study: Study, name: str) -> Bootstrap | None:
    """Mean over levels v of P(h = v | label v) - P(h = v | another label) on the real images; None without them."""
    if name not in study.arrays.real_readings:
        return None
    seen = seen_levels(study.arrays.real_readings[name])[:, None]
    return _contrast(study, seen, study.arrays.values[name][:, None], seen >= 0)


def _contrast(study: Study, seen: Ints, asked: Ints, cells: Mask) -> Bootstrap:
    """All arrays ``(n, c)``: c cells per row; levels that nobody asked for are left out of the mean."""
    rows, _ = np.nonzero(cells)
    read, wanted = seen[cells], asked[cells]
    levels = np.unique(wanted)

    def mean_contrast(weights: Array) -> Array:
        each = np.stack(
            [
                contrasts((read == level).astype(np.float64), (wanted == level).astype(np.int64), weights[:, rows])
                for level in levels
            ]
        )
        there = np.isfinite(each)
        mean = np.divide(np.where(there, each, 0).sum(0), there.sum(0), out=np.full(len(weights), np.nan), where=there.any(0))
        return np.asarray(mean)

    return study.boot(mean_contrast)


def placebo_change(study: Study, watched: str) -> Bootstrap | None:
    """Share of placebo pictures in which the detector names another level of this concept than on the baseline."""
    readings = study.arrays.placebo_readings
    if watched not in readings or watched not in study.arrays.readings:
        return None
    before, after = seen_levels(study.arrays.readings[watched]), seen_levels(readings[watched])
    cells = (before >= 0) & (after >= 0)
    return study.ratio(np.asarray(cells & (before != after), np.float64), cells.astype(np.float64)) if cells.any() else None


def change(study: Study, flipped: str, watched: str) -> Bootstrap | None:
    """Share of flips of one concept in which the detector names another level of the watched concept than on the baseline."""
    flip = study.arrays.flips[flipped]
    if watched not in flip.readings or watched not in study.arrays.readings:
        return None
    before, after = seen_levels(study.arrays.readings[watched])[:, None], seen_levels(flip.readings[watched])
    cells = flip.drawn & (before >= 0) & (after >= 0)
    changed = cells & (before != after)
    return study.ratio(changed.sum(1).astype(np.float64), cells.sum(1).astype(np.float64)) if cells.any() else None


def leakage(study: Study) -> Mapping[str, Mapping[str, Bootstrap]]:
    """λ of gate G4: flipped concept -> detector's concept -> change rate in excess of the placebo's (of nothing, without placebo).

    The diagonal, the change that was asked for, is included.
    """
    names = study.arrays.names
    idle = {name: placebo_change(study, name) for name in names}
    out: dict[str, dict[str, Bootstrap]] = {name: {} for name in names}
    for flipped in names:
        for watched in names:
            rate, floor = change(study, flipped, watched), idle[watched]
            if rate is not None:
                out[flipped][watched] = rate if floor is None else minus(rate, floor)
    return out


def detector_drop(study: Study, flipped: str, watched: str, weights: Array) -> Array:
    """Check 2 of the paper: fall of detector ``watched``'s AUROC against the original values when ``flipped`` is permuted.

    nan where the usable rows show one level of the watched concept only.
    """
    table, rows = _readings_table(study, flipped, watched)
    if len(np.unique(table.labels)) < 2:
        return np.full(len(weights), np.nan)
    return importances(table, METRICS["auroc"], weights[:, rows])


def _readings_table(study: Study, flipped: str, watched: str) -> tuple[FlipTable, Mask]:
    flip, readings = study.arrays.flips[flipped], study.arrays.readings[watched]
    rows = flip.usable & np.isfinite(readings).all(-1) & (np.isfinite(flip.readings[watched]).all(-1) | ~flip.drawn).all(1)
    flips = np.where(flip.drawn[rows][:, :, None], flip.readings[watched][rows], readings[rows][:, None, :])
    return FlipTable(baseline=readings[rows], flips=flips, values=flip.own[rows], labels=study.arrays.values[watched][rows]), rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """All flips of all concepts as one regression, summed per row: score change on measured concept changes."""

    names: tuple[str, ...]
    columns: Mapping[str, slice]
    """Concept -> its columns (one per level but the first)."""
    gram: Array
    """``(n, p, p)`` sums of x xᵀ over the row's flips."""
    moment: Array
    """``(n, p, k)`` sums of x Δzᵀ, z the centred log scores."""

    def coefficients(self, weights: Array) -> Array:
        """β ``(p, k)`` for one set of row weights: least squares, no intercept, a trace of ridge for what no flip identifies."""
        gram = np.tensordot(weights, self.gram, 1)
        gram += 1e-6 * max(1e-12, float(np.trace(gram))) / len(gram) * np.eye(len(gram))
        return np.asarray(np.linalg.solve(gram, np.tensordot(weights, self.moment, 1)))


def stack(study: Study) -> Stack | None:
    """Rows of the leak adjustment (section 7), or None when the detector does not read every concept."""
    names = study.arrays.names
    if any(
        name not in study.arrays.readings or name not in flip.readings for name in names for flip in study.arrays.flips.values()
    ):
        return None
    counts = [len(study.arrays.concept(name).levels) - 1 for name in names]
    ends = np.cumsum(counts)
    columns = {name: slice(int(end - count), int(end)) for name, end, count in zip(names, ends, counts, strict=True)}
    n, width, classes = len(study.arrays.labels), int(ends[-1]), study.arrays.baseline.shape[1]
    gram, moment = np.zeros((n, width, width)), np.zeros((n, width, classes))
    youden = {name: _youden(study, name) for name in names}
    for flip in study.arrays.flips.values():
        moved, shifted = _changes(study, flip, names, youden)
        gram += np.einsum("ivp,ivq->ipq", moved, moved)
        moment += np.einsum("ivp,ivk->ipk", moved, shifted)
    return Stack(names=names, columns=columns, gram=gram, moment=moment)


def _youden(study: Study, name: str) -> float:
    """Sensitivity + specificity - 1 on real images, the divisor that corrects detector changes; 1 where it is unknown."""
    real = real_contrast(study, name)
    return max(0.2, real.value) if real is not None and np.isfinite(real.value) else 1.0


def _changes(study: Study, flip: FlipArrays, names: tuple[str, ...], youden: Mapping[str, float]) -> tuple[Array, Array]:
    """Measured concept changes ``(n, K, p)`` and log-score changes ``(n, K, k)``, zero where no flip is."""
    parts = [(flip.readings[name] - study.arrays.readings[name][:, None, :])[:, :, 1:] / youden[name] for name in names]
    moved = np.concatenate(parts, axis=2)
    n, levels, k = flip.scores.shape
    shifted = log_scores(flip.scores.reshape(-1, k)).reshape(n, levels, k) - log_scores(study.arrays.baseline)[:, None, :]
    cells = flip.drawn & np.isfinite(moved).all(-1) & np.isfinite(shifted).all(-1)
    return np.where(cells[..., None], moved, 0.0), np.where(cells[..., None], shifted, 0.0)


def leak_adjusted(study: Study, parts: Stack, name: str, table: FlipTable, *, draws: int) -> Bootstrap:
    """Importance were every flip of this concept pure: log s + β of the asked-for level, back to probabilities.

    Linear and detector-dependent: a diagnostic beside the plain importance.  ``draws`` resamples of the study are used.
    """
    rows = study.arrays.flips[name].usable

    def drop(weights: Array) -> float:
        beta = np.concatenate([np.zeros((1, parts.moment.shape[2])), parts.coefficients(weights)[parts.columns[name]]])
        return float(importances(_pure(table, beta), study.metric, weights[None, rows])[0])

    samples = np.array([drop(weights) for weights in study.weights[:draws]])
    return Bootstrap(value=drop(np.ones(len(rows))), samples=samples)


def _pure(table: FlipTable, beta: Array) -> FlipTable:
    """Every level's scores from the baseline and the coefficients ``(K, k)`` alone."""
    moved = log_scores(table.baseline)[:, None, :] + beta[None, :, :] - beta[table.values][:, None, :]
    odds = np.exp(moved - moved.max(-1, keepdims=True))
    flips = odds / odds.sum(-1, keepdims=True)
    flips[np.arange(len(table)), table.values] = table.baseline
    return FlipTable(baseline=table.baseline, flips=flips, values=table.values, labels=table.labels)

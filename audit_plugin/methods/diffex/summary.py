"""Figures of a whole class (specification 5.3 stage 4, 9.5, 9.6): coverage, sufficiency, what the search missed, stability, controls."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.diffex_results import CoverageStep, StabilityResult
from audit_plugin.core.edits import EditRow
from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.diffex.effects import Effects, RowTable
from audit_plugin.methods.diffex.figures import mean_estimate
from audit_plugin.methods.diffex.scores import class_scores
from audit_plugin.statistics.intervals import clopper_pearson
from audit_plugin.statistics.stability import split_half

CAP = 2.0
"""Log-odds from which an image counts as explained."""
MOVED = 0.2
"""Change of probability from which an image counts as moved."""
LARGE = 0.25
"""Effect that a search should not miss."""
SUFFICIENT_AT = 10


def coverage_ranking(
    names: Sequence[str], falls: Float[np.ndarray, "K n"], flips: Bool[np.ndarray, "K n"], *, cap: float = CAP
) -> tuple[CoverageStep, ...]:
    """Again and again the node with the largest mean fall among images not yet explained (after StylEx's AttFind).

    ``falls``: fall of the class's log-odds by the edit as it was made, nan where there is none; an image is explained once the falls of
    the chosen nodes add up to ``cap``, or one of them flips its decision.  Ends where nothing falls any more.
    """
    n = falls.shape[1]
    gained, explained, left, steps = np.zeros(n), np.zeros(n, dtype=np.bool_), list(range(len(names))), list[CoverageStep]()
    known = np.where(np.isfinite(falls), falls, 0.0)
    while left and not explained.all():
        means = known[left][:, ~explained].mean(1)
        best = int(means.argmax())
        if means[best] <= 0:
            break
        node = left.pop(best)
        gained += known[node]
        explained |= (gained >= cap) | flips[node]
        steps.append(CoverageStep(node=names[node], mean=float(means[best]), explained=float(explained.mean())))
    return tuple(steps)


def class_coverage(
    effects: Mapping[str, Effects], images: Sequence[str], column: int, *, cap: float = CAP
) -> tuple[CoverageStep, ...]:
    """The coverage ranking of a class's nodes."""
    if not effects or not images:
        return ()
    falls = np.stack([_spread(found, images, -found.signs * found.log_odds[:, column], np.nan) for found in effects.values()])
    flips = np.stack([_spread(found, images, found.flip(column), 0.0) >= 0.5 for found in effects.values()])
    return coverage_ranking(tuple(effects), falls, flips, cap=cap)


def sufficiency(
    effects: Sequence[Effects | None], images: Sequence[str], column: int, *, most: int = SUFFICIENT_AT
) -> tuple[float, ...]:
    """Share of images flipped, or moved by 0.2 in probability, by at least one of the first m nodes, m = 1 … ``most``.

    ``effects`` in the order that SELECT images chose; a node without effects moves nothing.
    """
    moved, shares = np.zeros(len(images), dtype=np.bool_), list[float]()
    if not images:
        return ()
    for found in effects[:most]:
        if found is not None:
            hit = (found.flip(column) >= 0.5) | (np.abs(found.probability[:, column]) >= MOVED)
            moved |= _spread(found, images, hit.astype(np.float64), 0.0) > 0
        shares.append(float(moved.mean()))
    return tuple(shares)


def missed_bound(effects: Sequence[float], *, level: float = 0.95, large: float = LARGE) -> float | None:
    """Upper bound of the share of eliminated nodes with |E| > 0.25, from a random sample of them; exact, one-sided.

    >>> round(missed_bound([0.0] * 10), 3)
    0.259
    """
    if not effects:
        return None
    hits = sum(abs(effect) > large for effect in effects)
    return clopper_pearson(hits, len(effects), level=2 * level - 1).high


def stability(
    effects: Sequence[Effects],
    images: Sequence[str],
    column: int,
    rng: np.random.Generator,
    *,
    found: Collection[str] = (),
    splits: int = 20,
) -> StabilityResult | None:
    """Agreement of random halves of the images; None where there are too few nodes or images.  ``found``: nodes with an effect."""
    if len(effects) < 2 or len(images) < 4:
        return None
    marked = np.array([one.nodes[0] in found for one in effects], dtype=np.bool_)
    halves = split_half(np.stack([one.over(sorted(images), column) for one in effects]), rng, marked=marked, splits=splits)
    tau, effects_tau = (each if math.isfinite(each) else None for each in (halves.tau, halves.marked_tau))
    return StabilityResult(tau=tau, jaccard=halves.jaccard, signs=halves.signs, splits=halves.splits, effects_tau=effects_tau)


def placebo_effect(
    table: RowTable, images: Sequence[str], column: int, rng: np.random.Generator, *, alpha: float = 0.05
) -> Estimate | None:
    """Mean shift by single placebos over images; None without any."""
    inside = set(images)
    shifts: dict[str, list[float]] = {}
    for (_, terms), found in table.placebos.items():
        for image, shift in found.items():
            if image in inside and terms == 1:
                shifts.setdefault(image, []).append(float(shift.log_odds[column]))
    return mean_estimate(np.array([np.mean(shifts[image]) for image in sorted(shifts)]), rng, alpha=alpha)


def null_shift(
    rows: Sequence[EditRow], images: Sequence[str], table: RowTable, column: int, rng: np.random.Generator
) -> Estimate | None:
    """Mean of l_c(null edit) - l_c(image) over images that were scored untouched; each null edit counts once."""
    inside, seen = set(images), dict[tuple[str, str, int], EditRow]()
    for row in rows:
        if row.original and row.before and row.cell.image in inside:
            seen.setdefault((row.cell.image, row.operator, row.cell.seed), row)
    if not seen:
        return None
    kept = list(seen.values())
    before, original = (class_scores(scores, table.kind) for scores in ([r.before for r in kept], [r.original for r in kept]))
    shift = (before.log_odds - original.log_odds)[:, column]
    names, at = np.unique([row.cell.image for row in kept], return_inverse=True)
    return mean_estimate(np.bincount(at, weights=shift, minlength=len(names)) / np.bincount(at), rng)


def _spread(effects: Effects, images: Sequence[str], values: np.ndarray, missing: float) -> Float[np.ndarray, "m"]:
    """Values per image of the effects, in the order of ``images``."""
    at = dict(zip(effects.images, values.tolist(), strict=True))
    return np.array([at.get(image, missing) for image in images])

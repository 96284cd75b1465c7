"""From flips to a verdict: MAD beyond the editor's floor and beyond an irrelevant concept, with everything that belongs to it.

MAD = mean |p(x) - p(x with s flipped)|; MD_s1 and MD_s0 are means of p(x) - p(x with s flipped) where s was there and where it was not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.shortcut_results import ShortcutCounts, ShortcutEffects, ShortcutResult, ShortcutVerdict
from audit_plugin.methods.shortcut.effects import Resampled
from audit_plugin.methods.shortcut.rows import ShortcutArrays, ShortcutRow, arrays_of
from audit_plugin.statistics.intervals import wilson


@dataclass(frozen=True, kw_only=True)
class ShortcutOptions:
    """What counts, and how much is much."""

    margin: float = 0.05
    """Mean absolute change of the score, beyond a control's, that matters."""
    least: int = 30
    """Fewest used images, each control's too, for any verdict."""
    everything: bool = False
    """Estimate on all images, failed flips too, as the released protocol does; the verdict is then of that."""
    resamples: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1 or self.least < 2 or self.resamples < 1:
            raise ValueError(f"need a margin in (0, 1), at least 2 images and 1 resample, got {self}")


def shortcut_report(
    rows: Sequence[ShortcutRow],
    *,
    concept: str,
    irrelevant: str = "an irrelevant concept",
    seed: str = "",
    options: ShortcutOptions | None = None,
) -> ShortcutResult:
    """Judge one model's use of ``concept`` from its scores of the same images before and after flips; ``seed`` decides the resamples.

    Flips that guide or oracle does not see, or that leaked, are left out of the effects and stay in the counts.  Raises ValueError for rows that are none.
    """
    options = options or ShortcutOptions()
    arrays = arrays_of(rows)
    used = arrays if options.everything else arrays.where(arrays.verified)
    counts = _counts(rows, used)
    asked = counts.images - counts.unasked
    rng = np.random.default_rng(seed_of(seed, "shortcut"))
    effects = _effects(Resampled.of(used, options.resamples, rng) if len(used) else None)
    whole = Resampled.of(arrays, options.resamples, rng)
    verdict = _verdict(counts, effects, options)
    return ShortcutResult(
        concept=concept,
        irrelevant=irrelevant,
        verdict=verdict,
        margin=options.margin,
        summary=_summary((concept, irrelevant), verdict, counts, effects, options),
        counts=counts,
        flip_rate_guide=_rate(counts.flipped_by_guide, counts.images),
        flip_rate_oracle=_rate(counts.flipped_by_oracle, asked),
        effects=effects,
        mad_as_released=None if whole is None else whole.mean(np.abs(arrays.before - arrays.after)),
        notes=_notes(counts, options),
    )


def _effects(sample: Resampled | None) -> ShortcutEffects:
    if sample is None:
        return ShortcutEffects()
    rows = sample.rows
    change = rows.before - rows.after
    size, floor, other = np.abs(change), np.abs(rows.before - rows.floor), np.abs(rows.before - rows.irrelevant)
    return ShortcutEffects(
        mad=sample.mean(size),
        mad_floor=sample.mean(floor),
        mad_irrelevant=sample.mean(other),
        over_floor=sample.mean(size - floor),
        over_irrelevant=sample.mean(size - other),
        md_with=sample.mean(change, rows.has),
        md_without=sample.mean(change, ~rows.has),
        mad_with=sample.mean(size, rows.has),
        mad_without=sample.mean(size, ~rows.has),
        cosine=sample.cosine(),
        auroc=sample.auroc(rows.before),
        auroc_flipped=sample.auroc(rows.after),
    )


def _counts(rows: Sequence[ShortcutRow], used: ShortcutArrays) -> ShortcutCounts:
    return ShortcutCounts(
        images=len(rows),
        units=len(np.unique(used.units)),
        flipped_by_guide=sum(row.flipped_by_guide for row in rows),
        flipped_by_oracle=sum(row.flipped_by_oracle is True for row in rows),
        unasked=sum(row.flipped_by_oracle is None for row in rows),
        leaked=sum(row.leaked for row in rows),
        verified=sum(row.verified for row in rows),
        used=len(used),
        with_shortcut=int(used.has.sum()),
        with_floor=int(np.isfinite(used.floor).sum()),
        with_irrelevant=int(np.isfinite(used.irrelevant).sum()),
    )


def _verdict(counts: ShortcutCounts, effects: ShortcutEffects, options: ShortcutOptions) -> ShortcutVerdict:
    over_floor, over_irrelevant = effects.over_floor, effects.over_irrelevant
    fewest = min(counts.used, counts.units, counts.with_floor, counts.with_irrelevant)
    if fewest < options.least or over_floor is None or over_irrelevant is None:
        return ShortcutVerdict.INSUFFICIENT
    if min(over_floor.low, over_irrelevant.low) > options.margin:
        return ShortcutVerdict.SHORTCUT
    if max(over_floor.high, over_irrelevant.high) < options.margin:
        return ShortcutVerdict.NONE
    return ShortcutVerdict.INCONCLUSIVE


def _rate(hits: int, n: int) -> Estimate | None:
    if n == 0:
        return None
    found = wilson(hits, n)
    return Estimate(value=found.value, low=found.low, high=found.high)


_ENDS = {
    ShortcutVerdict.SHORTCUT: "a shortcut",
    ShortcutVerdict.NONE: "no shortcut beyond {margin:g}",
    ShortcutVerdict.INCONCLUSIVE: "inconclusive at a margin of {margin:g}",
}


def _summary(
    names: tuple[str, str], verdict: ShortcutVerdict, counts: ShortcutCounts, effects: ShortcutEffects, options: ShortcutOptions
) -> str:
    concept, irrelevant = names
    kind = "flips" if options.everything else "verified flips"
    mad, floor, other = effects.mad, effects.over_floor, effects.over_irrelevant
    if verdict is ShortcutVerdict.INSUFFICIENT or mad is None or floor is None or other is None:
        return (
            f"Nothing can be said about {concept}: {counts.used} {kind} among {counts.images} images, {counts.units} independent, "
            f"{counts.with_floor} with the editor's floor and {counts.with_irrelevant} with {irrelevant} flipped; "
            f"{options.least} of each are needed."
        )
    end = _ENDS[verdict].format(margin=options.margin)
    return (
        f"Flipping {concept} moves the score by {mad.value:.3f} on {counts.used} {kind} of {counts.images} images, {_said(floor)} more "
        f"than the editor alone and {_said(other)} more than flipping {irrelevant}: {end}."
    )


def _said(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _notes(counts: ShortcutCounts, options: ShortcutOptions) -> tuple[str, ...]:
    notes = []
    if counts.unasked:
        notes.append(f"{counts.unasked} images were not shown to an independent oracle, so that their flips are not verified")
    if counts.leaked:
        notes.append(f"{counts.leaked} edits changed what should decide the task as well, so that their flips are not verified")
    failed = counts.images - counts.verified
    if failed and options.everything:
        notes.append(f"{failed} unverified flips count as well, as in the released protocol")
    elif failed:
        notes.append(f"{failed} unverified flips are left out of all effects")
    if counts.used and counts.with_shortcut in {0, counts.used}:
        notes.append("all used images agree in the concept, so that only one direction was flipped")
    return tuple(notes)

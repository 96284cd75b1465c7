"""The protocol on real images: flips, the floor and flips of an irrelevant concept are made, the model is asked, the result judged.

Who reads core concepts sees whether an edit dragged along what should decide the task: such an edit counts as leaked and shows nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.flips import Flip, FlipStudio
from audit_plugin.core.shortcut_results import ShortcutPicture, ShortcutResult
from audit_plugin.methods.shortcut.report import ShortcutOptions, shortcut_report
from audit_plugin.methods.shortcut.rows import ShortcutRow

PERCENTILES = (0, 25, 50, 75, 90, 100)
"""Of the size of the change, at which flips are shown."""

Ask = Callable[[Collection[str]], Mapping[str, NDArray[np.float64]]]
"""sha256 of pictures -> the model's class scores, as probabilities."""


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """What is suspected, and what it is compared with."""

    concept: str
    level: str
    """The level that is the concept."""
    control: str
    """A concept that has nothing to do with the task."""
    control_level: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the table says of the images."""

    column: int
    """Of the positive class in the scores."""
    positive: Mapping[str, bool] = field(default_factory=dict)
    """Image -> label y."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Image -> what is resampled; the image itself where there is none."""


def run_shortcut(
    studio: FlipStudio, ask: Ask, suspicion: Suspicion, known: Known, *, seed: str, options: ShortcutOptions | None = None
) -> ShortcutResult:
    """Does the model use the concept as a shortcut?  Pictures that are there already cost nothing."""
    flips = studio.flips(suspicion.concept, suspicion.level)
    floors = studio.floors()
    controls = studio.flips(suspicion.control, suspicion.control_level)
    shown = {sha for flip in flips for sha in (flip.before, flip.after)}
    scores = ask(shown | set(floors) | {control.after for control in controls if _verified(control)})

    def p(sha: str) -> float:
        return float(np.clip(scores[sha][known.column], 0.0, 1.0))

    rows = [
        ShortcutRow(
            image=flip.image,
            unit=known.units.get(flip.image, ""),
            has_concept=flip.has,
            before=p(flip.before),
            after=p(flip.after),
            floor=p(floor),
            irrelevant=p(control.after) if _verified(control) else None,
            flipped_by_guide=flip.by_guide,
            flipped_by_oracle=flip.by_oracle,
            leaked=not flip.kept,
            positive=known.positive.get(flip.image),
        )
        for flip, floor, control in zip(flips, floors, controls, strict=True)
    ]
    result = shortcut_report(rows, concept=suspicion.concept, irrelevant=suspicion.control, seed=seed, options=options)
    return replace(result, level=suspicion.level, pictures=_pictures(rows, flips, floors))


def _verified(flip: Flip) -> bool:
    return flip.by_guide and flip.by_oracle and flip.kept


def _pictures(rows: Sequence[ShortcutRow], flips: Sequence[Flip], floors: Sequence[str]) -> tuple[ShortcutPicture, ...]:
    """Verified flips from the smallest change to the largest, each once."""
    order = sorted((at for at, row in enumerate(rows) if row.verified), key=lambda at: abs(rows[at].before - rows[at].after))
    found = dict[int, ShortcutPicture]()
    for percentile in PERCENTILES if order else ():
        at = order[round(percentile / 100 * (len(order) - 1))]
        row, flip = rows[at], flips[at]
        picture = ShortcutPicture(
            image=row.image,
            percentile=percentile,
            had=row.has_concept,
            before_sha256=flip.before,
            after_sha256=flip.after,
            floor_sha256=floors[at],
            before=row.before,
            after=row.after,
            floor=row.floor if row.floor is not None else row.before,
        )
        found.setdefault(at, picture)
    return tuple(found.values())

"""What is known of each image whose concept was flipped, and the same as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class ShortcutRow:
    """One edit of one real image.  Scores are the audited model's probability of the positive class, of images as they are stored."""

    image: str
    seed: int = 0
    """Of the edit's noise: one image may be edited with several."""
    unit: str = ""
    """Patient, video, product: what is resampled; the image itself when empty."""
    has_concept: bool
    """Label s of the original."""
    before: float
    after: float
    """With the concept flipped."""
    floor: float | None
    """After the unguided round trip of the same depth; None: not made."""
    irrelevant: float | None
    """With an irrelevant concept flipped; None: not made, or that flip was not verified."""
    flipped_by_guide: bool
    flipped_by_oracle: bool | None
    """None: no independent oracle was asked."""
    leaked: bool = False
    """Whether something that should decide the task (the object's own shape, say) changed as well: such a flip shows nothing."""
    positive: bool | None = None
    """Label y, where there is one."""

    @property
    def verified(self) -> bool:
        """Whether guide and oracle both see the flip, and nothing that matters was dragged along."""
        return self.flipped_by_guide and bool(self.flipped_by_oracle) and not self.leaked


@dataclass(frozen=True, eq=False, kw_only=True)
class ShortcutArrays:
    """Rows as columns; nan where a score is not known."""

    units: Int[np.ndarray, " n"]
    has: Bool[np.ndarray, " n"]
    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " n"]
    floor: Float[np.ndarray, " n"]
    irrelevant: Float[np.ndarray, " n"]
    verified: Bool[np.ndarray, " n"]
    positive: Float[np.ndarray, " n"]
    """1, 0, or nan without a label."""

    def __len__(self) -> int:
        return len(self.before)

    def where(self, mask: Bool[np.ndarray, " n"]) -> "ShortcutArrays":
        """Some of the rows."""
        return ShortcutArrays(**{each.name: getattr(self, each.name)[mask] for each in fields(self)})


def arrays_of(rows: Sequence[ShortcutRow]) -> ShortcutArrays:
    """The same rows as columns.  ValueError for none, for an edit that comes twice, or for a score that is no probability."""
    if not rows:
        raise ValueError("there are no images to judge a shortcut by")
    if len({(row.image, row.seed) for row in rows}) < len(rows):
        raise ValueError("an image comes twice with one seed; give one row per image and seed")
    for row in rows:
        scores = [score for score in (row.before, row.after, row.floor, row.irrelevant) if score is not None]
        if not all(0 <= score <= 1 for score in scores):
            raise ValueError(f"scores of image {row.image!r} are not all probabilities: {scores}")
    return ShortcutArrays(
        units=np.unique([row.unit or row.image for row in rows], return_inverse=True)[1].astype(np.int64),
        has=np.array([row.has_concept for row in rows]),
        before=np.array([row.before for row in rows], np.float64),
        after=np.array([row.after for row in rows], np.float64),
        floor=_known([row.floor for row in rows]),
        irrelevant=_known([row.irrelevant for row in rows]),
        verified=np.array([row.verified for row in rows]),
        positive=_known([row.positive for row in rows]),
    )


def _known(values: Sequence[float | bool | None]) -> Float[np.ndarray, " n"]:
    return np.array([np.nan if value is None else float(value) for value in values], np.float64)

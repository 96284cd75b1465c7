"""Captioned images in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError


@dataclass(frozen=True)
class CaptionedImages:
    """Pictures with one or more captions each; a training step picks one of them at random."""

    images: NDArray[np.uint8]
    """``(n, h, w, 3)`` RGB."""
    captions: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise EngineError(f"training images must be uint8 (n, h, w, 3), got {self.images.dtype} {self.images.shape}")
        if len(self.images) != len(self.captions) or len(self.images) == 0:
            raise EngineError(f"{len(self.images)} images but captions for {len(self.captions)}; both must be equal and not zero")
        if not all(self.captions):
            raise EngineError("every training image needs at least one caption")

    def __len__(self) -> int:
        return len(self.images)

"""Captioned images in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.training.errors import TrainingDataError
from engines.training.options import Recipe


@dataclass(frozen=True)
class CaptionedImages:
    """Pictures with one or more captions each; a training step picks one of them at random."""

    images: NDArray[np.uint8]
    """``(n, h, w, 3)`` RGB."""
    captions: Sequence[Sequence[str]]
    """An empty caption is allowed: it says that nothing worth a word is shown."""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise TrainingDataError(f"training images must be uint8 (n, h, w, 3), got {self.images.dtype} {self.images.shape}")
        if len(self.images) != len(self.captions) or len(self.images) == 0:
            raise TrainingDataError(
                f"{len(self.images)} images but captions for {len(self.captions)}; both must be equal and not zero"
            )
        for place, variants in enumerate(self.captions):
            if isinstance(variants, str):
                raise TrainingDataError(f"captions of image {place} are the text {variants!r}; give a list, also of one caption")
            if not variants:
                raise TrainingDataError(f"image {place} has no caption; every training image needs at least one")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def different(self) -> list[str]:
        """Every caption once, in sorted order."""
        return sorted({caption for variants in self.captions for caption in variants})

    @property
    def digest(self) -> str:
        """Of pixels and captions."""
        total = hashlib.sha256(np.ascontiguousarray(self.images).data)
        for variants in self.captions:
            total.update(("\x1f".join(variants) + "\x1e").encode())
        return total.hexdigest()[:16]

    def picture(self, place: int, size: int) -> NDArray[np.uint8]:
        """One picture, ``(size, size, 3)``.  Raises TrainingDataError when it is of another size."""
        image: NDArray[np.uint8] = self.images[place]
        if image.shape[:2] != (size, size):
            raise TrainingDataError(
                f"images are {image.shape[1]}x{image.shape[0]} pixels but {size} are trained on; resize them or change the image size"
            )
        return image

    def check_size(self, recipe: Recipe) -> None:
        """Raise TrainingDataError unless the pictures are of the recipe's size."""
        height, width = self.images.shape[1:3]
        if (height, width) != (recipe.image_size, recipe.image_size):
            raise TrainingDataError(
                f"images are {width}x{height} pixels but the recipe's image_size is {recipe.image_size}; resize them or change it"
            )

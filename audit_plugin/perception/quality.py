"""Is it a picture at all?  The sanity filter behind gate G9: it rejects broken images, never unwanted ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images
from audit_plugin.perception.resizing import resize

_CHUNK = 256
_STEP = 1 / 255


@dataclass(frozen=True, kw_only=True)
class QualityLimits:
    """What still counts as a picture; pixel values are in [0, 1]."""

    min_spread: float = 0.01
    """Smallest standard deviation over all pixels, per channel and then averaged; below it the image is blank."""
    max_saturated: float = 0.95
    """Largest share of pixels that are pure black or pure white."""
    thumbnail_px: int = 16
    """Images are compared as thumbnails of this size."""
    duplicate_distance: float = 0.01
    """Two images are the same picture when their thumbnails differ by less (root mean square)."""


DEFAULT_LIMITS = QualityLimits()


class QualityFilter:
    """Says of each image why it is no usable picture, or nothing."""

    def __init__(self, references: Images | None = None, *, limits: QualityLimits = DEFAULT_LIMITS) -> None:
        """``references``: images that must not come back as they are, such as the generator's training images."""
        self._limits = limits
        self._references = None if references is None or not len(references) else _thumbnails(references, limits.thumbnail_px)

    def reasons(self, images: Images) -> list[str]:
        """One reason per image ``(n, 3, h, w)``; the empty string for an image that passes."""
        return [reason for chunk in _chunks(images) for reason in self._judge(chunk)]

    def _judge(self, images: Images) -> Iterator[str]:
        finite = np.asarray(np.isfinite(images).all((1, 2, 3)))
        clean = np.where(finite[:, None, None, None], images, np.float32(0.5))
        spread = clean.std((2, 3)).mean(1)
        burnt = np.asarray(((clean <= _STEP).all(1) | (clean >= 1 - _STEP).all(1)).mean((1, 2)))
        distance, nearest = self._nearest(clean)
        for i in range(len(images)):
            if not finite[i]:
                yield "not finite"
            elif spread[i] < self._limits.min_spread:
                yield "blank"
            elif burnt[i] > self._limits.max_saturated:
                yield "saturated"
            else:
                yield f"duplicate of reference image {nearest[i]}" if distance[i] < self._limits.duplicate_distance else ""

    def _nearest(self, images: Images) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Root mean square distance to the nearest reference, and its number."""
        if self._references is None:
            return np.full(len(images), np.inf), np.zeros(len(images), np.int64)
        mine = _thumbnails(images, self._limits.thumbnail_px)
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b finds the nearest quickly; the distance itself is then taken without cancellation
        squared = (self._references**2).sum(1) - 2 * mine @ self._references.T
        nearest = squared.argmin(1)
        return np.sqrt(((mine - self._references[nearest]) ** 2).mean(1)), nearest


def _thumbnails(images: Images, size: int) -> NDArray[np.float64]:
    return np.concatenate([resize(chunk, size).reshape(len(chunk), -1) for chunk in _chunks(images)]).astype(np.float64)


def _chunks(images: Images) -> Iterator[Images]:
    return (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))

"""Looks at a picture that differ in nothing anyone would call a change: a graded signal from a classifier that gives labels alone."""

import numpy as np
from jaxtyping import Float

SHIFT = 1 / 32
"""Farthest move, as a share of a side; at least a pixel."""
LIGHT = 0.05
"""Most that a look is lighter or darker by."""


def looked(image: Float[np.ndarray, "3 h w"], look: int) -> Float[np.ndarray, "3 h w"]:
    """Look 0 is the picture itself, others are moved by a few pixels, with its edge repeated, and lit a little otherwise; in [0, 1].

    >>> looked(np.full((3, 4, 4), 0.5), 0).mean(), bool(0.47 < looked(np.full((3, 4, 4), 0.5), 1).mean() < 0.53)
    (0.5, True)
    """
    if look == 0:
        return image
    rng, (height, width) = np.random.default_rng(look), image.shape[1:]
    most = max(1, round(SHIFT * min(height, width)))
    down, right = rng.integers(0, 2 * most + 1, 2)
    wide = np.pad(image, ((0, 0), (most, most), (most, most)), mode="edge")
    moved = wide[:, down : down + height, right : right + width]
    return np.asarray((moved * rng.uniform(1 - LIGHT, 1 + LIGHT)).clip(0, 1), image.dtype)

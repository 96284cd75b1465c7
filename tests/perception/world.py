"""Coloured squares: pictures whose concepts are known because they were painted."""

import numpy as np

from audit_plugin.core.values import Concept

COLOUR = Concept(name="colour", levels=("red", "green", "blue"), phrases=("red", "green", "blue"))
SIZE = Concept(name="size", levels=("small", "large"), phrases=("small", "large"))
CONCEPTS = (COLOUR, SIZE)
PAINT = np.array([[0.8, 0.2, 0.2], [0.2, 0.7, 0.2], [0.2, 0.3, 0.8]], np.float32)


def squares(n, seed=0, side=24, agree=0.0):
    """Images (n 3 side side) with a square on noisy grey, and values (n, 2); ``agree``: how often red squares only are large."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, 3, n), rng.integers(0, 2, n)], 1)
    follow = rng.random(n) < agree
    values[follow, 1] = values[follow, 0] == 0
    images = rng.normal(rng.uniform(0.5, 0.8, (n, 1, 1, 1)), 0.03, (n, 3, side, side)).astype(np.float32)
    for image, (colour, size) in zip(images, values, strict=True):
        half = 6 if size else 3
        top, left = rng.integers(0, side - 2 * half, 2)
        image[:, top : top + 2 * half, left : left + 2 * half] = PAINT[colour][:, None, None]
    return images.clip(0, 1), values

"""How a counterfactual differs from its image, as pictures: by how much and to which side, and where at all."""

from typing import Final

import numpy as np

from audit_plugin.sources.images import Pixels

CHANGED_BY: Final = 0.05 * 255
"""A pixel counts as changed when one of its channels moved by more than this (as the results count them)."""
NEUTRAL: Final = (245, 245, 245)
DARKER: Final = (0, 90, 181)
BRIGHTER: Final = (220, 100, 0)
"""Blue and orange, which people with any common colour blindness tell apart, on near white."""
FULL: Final = 64
"""Mean change of the three channels, of 255, from which on a pixel has the full colour."""


def signed_difference(before: Pixels, after: Pixels) -> Pixels:
    """Blue where the picture became darker, orange where brighter, near white where neither; deeper for more.

    >>> signed_difference(np.full((1, 1, 3), 9, np.uint8), np.full((1, 1, 3), 200, np.uint8)).tolist()
    [[[220, 100, 0]]]
    """
    change = (after.astype(np.float64) - before).mean(axis=2, keepdims=True) / FULL
    side = np.where(change < 0, DARKER, BRIGHTER)
    depth = np.minimum(np.abs(change), 1.0)
    return np.asarray((NEUTRAL + depth * (side - NEUTRAL)).round().astype(np.uint8))


def changed_mask(before: Pixels, after: Pixels) -> Pixels:
    """Changed pixels dark on a pale grey copy of the image."""
    moved = np.abs(after.astype(np.int16) - before).max(axis=2, keepdims=True) > CHANGED_BY
    pale = 190 + before.mean(axis=2, keepdims=True) / 4
    return np.repeat(np.where(moved, 25, pale).clip(0, 255).astype(np.uint8), 3, axis=2)

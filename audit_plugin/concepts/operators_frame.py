"""Operators of the frame of a picture and of marks in its corners: what scanners, cropping and labels leave there.

They change nothing else, so that an effect is the effect of those pixels.  Lengths are given for a picture whose shorter side is 224 px.
"""

import numpy as np

from audit_plugin.concepts.operators_detail import unit
from audit_plugin.concepts.operators_geometry import PLACES
from audit_plugin.concepts.operators_tone import Pixels

WHITE = 255


def mirror_border(image: Pixels, *, width_px: float) -> Pixels:
    """The frame of the picture replaced by a mirror image of what lies inside it; at least one pixel wide, at most a third of the side."""
    wide = frame_px(image, width_px)
    return np.pad(_inside(image, wide), ((wide, wide), (wide, wide), (0, 0)), mode="symmetric")


def flat_border(image: Pixels, *, width_px: float) -> Pixels:
    """The frame of the picture replaced by the mean colour of what lies inside it; as wide as :func:`mirror_border`'s."""
    wide = frame_px(image, width_px)
    inside = _inside(image, wide)
    out = np.empty_like(image)
    out[:] = np.rint(inside.reshape(-1, 3).mean(0)).astype(np.uint8)
    out[wide:-wide, wide:-wide] = inside
    return out


def corner_mark(image: Pixels, *, corner: str, side_px: float) -> Pixels:
    """A white square near a corner, a quarter of its side away from the edges, as markers and labels lie on radiographs."""
    height, width = image.shape[:2]
    side = max(1, round(side_px * unit(image)))
    away = max(1, round(side / 4))
    across, down = PLACES[corner]
    left, top = (round(away + (full - side - 2 * away) * share) for full, share in ((width, across), (height, down)))
    out = image.copy()
    out[max(0, top) : top + side, max(0, left) : left + side] = WHITE
    return out


def frame_px(image: Pixels, width_px: float) -> int:
    """Width of the frame in pixels of this image."""
    return int(min(max(1, round(width_px * unit(image))), min(image.shape[:2]) // 3))


def _inside(image: Pixels, wide: int) -> Pixels:
    return image[wide:-wide, wide:-wide]

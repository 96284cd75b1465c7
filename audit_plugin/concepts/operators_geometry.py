"""Operators of viewpoint and occlusion: where things are, and what covers them.  The size of the picture stays.

Source: diffex_diffexplainer.md 3.4.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit_plugin.concepts.operators_tone import Pixels

Mask = NDArray[np.bool_]
"""``(h, w)``, True on the object."""
GREY = 128
PLACES: Mapping[str, tuple[float, float]] = {
    "centre": (0.5, 0.5),
    "top_left": (0, 0),
    "top_right": (1, 0),
    "bottom_left": (0, 1),
    "bottom_right": (1, 1),
}
"""Share of the free space that lies left of a patch and above it."""


def hflip(image: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


def vflip(image: Pixels) -> Pixels:
    """Top and bottom exchanged."""
    return np.ascontiguousarray(image[::-1])


def rotate(image: Pixels, *, degrees: float) -> Pixels:
    """Turned anticlockwise about the centre; corners are filled by mirroring.  Quarter turns of a square are exact."""
    height, width = image.shape[:2]
    if degrees % 90 == 0 and height == width:
        return np.ascontiguousarray(np.rot90(image, round(degrees / 90)))
    reach = int(np.ceil(np.hypot(height, width) / 2))
    top, left = reach - height // 2 + 1, reach - width // 2 + 1
    padded = np.pad(image, ((top, top), (left, left), (0, 0)), mode="symmetric")
    turned = np.asarray(Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC), dtype=np.uint8)
    return np.ascontiguousarray(turned[top : top + height, left : left + width])


def zoom(image: Pixels, *, factor: float) -> Pixels:
    """The centre, enlarged to the whole picture."""
    return _enlarged(image, 1 / factor, "centre")


def zoom_out(image: Pixels, *, factor: float) -> Pixels:
    """The whole picture at ``factor`` of its size, in the middle; the rest is filled by mirroring."""
    height, width = image.shape[:2]
    inner = max(1, round(width * factor)), max(1, round(height * factor))
    small = np.asarray(Image.fromarray(image).resize(inner, Image.Resampling.LANCZOS), dtype=np.uint8)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    rest = ((top, height - inner[1] - top), (left, width - inner[0] - left), (0, 0))
    return np.pad(small, rest, mode="symmetric")


def translate(image: Pixels, *, dx: float, dy: float) -> Pixels:
    """Moved right and down by shares of width and height, in whole pixels; the rest is filled by mirroring."""
    height, width = image.shape[:2]
    right, down = _whole(dx * width), _whole(dy * height)
    padded = np.pad(image, ((abs(down),) * 2, (abs(right),) * 2, (0, 0)), mode="symmetric")
    top, left = abs(down) - down, abs(right) - right
    return np.ascontiguousarray(padded[top : top + height, left : left + width])


def crop_corner(image: Pixels, *, corner: str, keep: float) -> Pixels:
    """A corner, ``keep`` of each side, enlarged to the whole picture."""
    return _enlarged(image, keep, corner)


def grey_patch(image: Pixels, *, place: str, area: float) -> Pixels:
    """A grey rectangle of the picture's proportions that covers ``area`` of it."""
    height, width = image.shape[:2]
    tall, wide = max(1, round(height * area**0.5)), max(1, round(width * area**0.5))
    across, down = PLACES[place]
    left, top = round((width - wide) * across), round((height - tall) * down)
    out = image.copy()
    out[top : top + tall, left : left + wide] = GREY
    return out


def background_grey(image: Pixels, *, mask: Mask) -> Pixels:
    """Everything but the object grey."""
    return np.where(mask[..., None], image, np.uint8(GREY))


def object_grey(image: Pixels, *, mask: Mask) -> Pixels:
    """The object grey, as a silhouette."""
    return np.where(mask[..., None], np.uint8(GREY), image)


def _enlarged(image: Pixels, keep: float, place: str) -> Pixels:
    height, width = image.shape[:2]
    across, down = PLACES[place]
    left, top = width * (1 - keep) * across, height * (1 - keep) * down
    box = (left, top, left + width * keep, top + height * keep)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box), dtype=np.uint8)


def _whole(shift: float) -> int:
    """The nearest whole number, but never nothing where something was asked for."""
    return round(shift) or int(np.sign(shift))

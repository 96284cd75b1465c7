"""Operators of light and colour: one picture in, one of the same size out.

All work on the 8-bit values that a client would send, without a detour through linear light, because those are what a classifier sees.
Source: diffex_diffexplainer.md 3.4 and 4.11.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""One image, ``(h, w, 3)``, RGB."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Share of red, green and blue in the perceived brightness (ITU-R BT.601)."""
CASTS: Mapping[str, tuple[float, float, float]] = {"warm": (1.18, 1.0, 0.8), "cool": (0.82, 1.0, 1.18), "green": (0.85, 1.12, 0.85)}
"""Gains of red, green and blue, before they are scaled to keep the brightness of grey."""
TOWARDS: Mapping[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
"""Side that the light comes from, as (x, y)."""


def quantised(values: NDArray[Any]) -> Pixels:
    """Numbers on the scale 0 to 255, rounded and clipped to 8 bits."""
    eight: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return eight


def luma(image: Pixels) -> NDArray[np.float64]:
    """Perceived brightness ``(h, w, 1)``, 0 to 255."""
    grey: NDArray[np.float64] = (image @ LUMA)[..., None]
    return grey


def brightness(image: Pixels, *, change: float) -> Pixels:
    """All values times 1 + ``change``."""
    return quantised(image * (1 + change))


def contrast(image: Pixels, *, change: float) -> Pixels:
    """Distances from the mean brightness times 1 + ``change``."""
    middle = luma(image).mean()
    return quantised(middle + (image - middle) * (1 + change))


def saturation(image: Pixels, *, change: float) -> Pixels:
    """Distances from the pixel's own grey times 1 + ``change``; -1 is a grey picture."""
    grey = luma(image)
    return quantised(grey + (image - grey) * (1 + change))


def hue_cast(image: Pixels, *, cast: str) -> Pixels:
    """A colour cast that keeps the brightness of grey."""
    gains = np.array(CASTS[cast])
    return quantised(image * (gains / (gains @ LUMA)))


def gamma(image: Pixels, *, gamma: float) -> Pixels:
    """``255 (v / 255) ** gamma``: below 1 lifts the shadows, above 1 deepens them."""
    return quantised(255 * (np.arange(256) / 255) ** gamma)[image]


def raised_black(image: Pixels, *, least: float) -> Pixels:
    """No value below ``least``: faded blacks, a grey ground under bright strokes."""
    return quantised(np.maximum(image, least))


def invert(image: Pixels) -> Pixels:
    """Every value ``v`` becomes ``255 - v``: a negative, as of strokes in dark ink where bright ones were expected."""
    return 255 - image


def posterise(image: Pixels, *, bits: int) -> Pixels:
    """The nearest of ``2 ** bits`` evenly spaced values, so the mean brightness stays."""
    step = 255 / (2**bits - 1)
    return quantised(np.rint(np.arange(256) / step) * step)[image]


def vignette(image: Pixels, *, strength: float) -> Pixels:
    """Darker towards the corners, where the light left is 1 - ``strength``; falls with the squared distance from the centre."""
    x, y = _axes(image)
    return quantised(image * (1 - strength * (x**2 + y**2) / 2)[..., None])


def light_gradient(image: Pixels, *, side: str, strength: float) -> Pixels:
    """Light from one side: gains run linearly from 1 + ``strength`` there to 1 - ``strength`` opposite."""
    x, y = _axes(image)
    right, down = TOWARDS[side]
    return quantised(image * (1 + strength * (right * x + down * y))[..., None])


def _axes(image: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns ``(1, w)`` and rows ``(h, 1)`` of the pixels, -1 to 1."""
    height, width = image.shape[:2]
    return np.linspace(-1, 1, width)[None, :], np.linspace(-1, 1, height)[:, None]

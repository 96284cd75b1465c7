"""Operators of sharpness, grain and compression.

Lengths are given for a picture whose shorter side is 224 px and grow and shrink with the picture.  Source: diffex_diffexplainer.md 3.4.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit_plugin.concepts.operators_tone import Pixels, quantised

REFERENCE_PX = 224
"""Shorter side that lengths in pixels are given for."""


def unit(image: Pixels) -> float:
    """Pixels of this image per pixel of the reference."""
    height, width = image.shape[:2]
    return float(min(height, width) / REFERENCE_PX)


def gaussian_blur(image: Pixels, *, sigma_px: float) -> Pixels:
    """Blur by the normal kernel of the pixel grid, cut at five standard deviations; edges are mirrored.

    Its variance is exact also below one pixel, where samples of the normal density would hardly blur (Lindeberg 1990: its Fourier
    transform is ``exp(sigma^2 (cos w - 1))``).
    """
    sigma = sigma_px * unit(image)
    reach = max(3, int(np.ceil(5 * sigma)))
    w = 2 * np.pi * np.fft.fftfreq(2 * reach + 1)
    kernel = np.fft.fftshift(np.fft.ifft(np.exp(sigma**2 * (np.cos(w) - 1))).real)
    return quantised(_along(_along(image.astype(np.float64), kernel, 0), kernel, 1))


def motion_blur(image: Pixels, *, length_px: float) -> Pixels:
    """The mean along a horizontal stroke; its two ends count by the part of them that the stroke covers."""
    half = length_px * unit(image) / 2
    reach = max(1, int(np.ceil(half - 0.5)))
    at = np.abs(np.arange(-reach, reach + 1))
    return quantised(_along(image.astype(np.float64), np.clip(half - at + 0.5, 0, 1), 1))


def noise(image: Pixels, *, sd: float, seed: int) -> Pixels:
    """Normal noise, independent per value, of standard deviation ``sd`` on the scale 0 to 255.

    Every ``sd`` scales the same draw, so strengths are comparable on one image.
    """
    return quantised(image + sd * np.random.default_rng(seed).standard_normal(image.shape))


def jpeg(image: Pixels, *, quality: int) -> Pixels:
    """Written as baseline JPEG with halved colour resolution and read back."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file, formats=["JPEG"]) as back:
        return np.asarray(back.convert("RGB"), dtype=np.uint8)


def downscale(image: Pixels, *, factor: float) -> Pixels:
    """Made smaller by averaging and enlarged again linearly."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((max(1, round(width / factor)), max(1, round(height / factor))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)


def _along(values: NDArray[np.float64], kernel: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Weighted mean of the neighbours along one axis; ``kernel`` has an odd length and any positive sum."""
    reach = len(kernel) // 2
    widths = [(reach, reach) if at == axis else (0, 0) for at in range(values.ndim)]
    padded = np.pad(values, widths, mode="symmetric")
    size = values.shape[axis]
    out = np.zeros_like(values)
    for at, weight in enumerate(kernel / kernel.sum()):
        out += weight * padded.take(range(at, at + size), axis=axis)
    return out

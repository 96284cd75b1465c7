"""From images of the audit to the tensor that a client of the model would send.  Pure."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit_plugin.core.protocols import Images
from audit_plugin.target.options import PreprocessOptions, Resize

Pixels = NDArray[np.uint8]
"""8-bit pictures ``(n, h, w, 3)``, RGB."""

_FILTERS = {
    Resize.NEAREST: Image.Resampling.NEAREST,
    Resize.BILINEAR: Image.Resampling.BILINEAR,
    Resize.BICUBIC: Image.Resampling.BICUBIC,
}
LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 65536ths."""
_TYPES = {"FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8}


def to_input(images: Images, options: PreprocessOptions) -> NDArray[np.generic]:
    """Images ``(n, 3, h, w)`` in [0, 1] as the input tensor ``(n, ...)`` in the declared layout and type."""
    pixels = resize(quantise(images), options)
    pixels = grey(pixels) if options.channels == "GREY" else pixels
    values = pixels if options.dtype == "UINT8" else normalise(pixels, options)
    if options.channels == "BGR":
        values = values[..., ::-1]
    if options.layout == "NCHW":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, dtype=_TYPES[options.dtype or "FP32"])


def quantise(images: Images) -> Pixels:
    """The 8-bit pictures that a client would hold, ``(n, h, w, 3)``.

    >>> quantise(np.full((1, 3, 1, 1), 0.5, np.float32)).ravel().tolist()
    [128, 128, 128]
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (n, 3, h, w), got {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("images must be finite, in [0, 1]")
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def resize(pixels: Pixels, options: PreprocessOptions) -> Pixels:
    """Every picture at the model's size; pictures that have it already are left alone."""
    if options.size is None or (pixels.shape[1:3] == options.size and options.shorter_px is None):
        return pixels
    if not len(pixels):
        return np.empty((0, *options.size, 3), np.uint8)
    fitted = _center_crop if options.fit == "center_crop" else _stretch
    return np.stack([np.asarray(fitted(Image.fromarray(picture), options.size, options)) for picture in pixels])


def grey(pixels: Pixels) -> Pixels:
    """One channel ``(n, h, w, 1)``, as Pillow makes mode L of RGB (ITU-R 601-2, rounded); grey pictures stay what they are.

    >>> grey(np.array([[[[9, 9, 9], [255, 0, 0]]]], np.uint8)).ravel().tolist()
    [9, 76]
    """
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    weighed = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 0x8000) >> 16
    return weighed[..., None].astype(np.uint8)


def normalise(pixels: Pixels, options: PreprocessOptions) -> NDArray[np.float32]:
    """``(pixel * scale - mean) / std`` per colour, or of the one channel."""
    mean, std = (np.array(each, np.float32)[: pixels.shape[-1]] for each in (options.mean, options.std))
    return (pixels * np.float32(options.scale) - mean) / std


def _stretch(picture: Image.Image, size: tuple[int, int], options: PreprocessOptions) -> Image.Image:
    height, width = size
    return picture.resize((width, height), _FILTERS[options.resize])


def _center_crop(picture: Image.Image, size: tuple[int, int], options: PreprocessOptions) -> Image.Image:
    """Shorter side to ``shorter_px`` (or just so that the picture covers ``size``), then the middle."""
    height, width = size
    factor = max(height / picture.height, width / picture.width)
    if options.shorter_px is not None:
        factor = max(factor, options.shorter_px / min(picture.size))
    wide, high = (max(least, int(factor * side + 1e-6)) for side, least in zip(picture.size, (width, height), strict=True))
    left, top = round((wide - width) / 2), round((high - height) / 2)
    return picture.resize((wide, high), _FILTERS[options.resize]).crop((left, top, left + width, top + height))

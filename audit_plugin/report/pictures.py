"""Pictures inside the report: data URIs that carry the mark "synthetic", and difference pictures."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from audit_plugin.core.errors import ImageError
from audit_plugin.sources.images import ImageLimits, Pixels, encode_png, read_image

LARGEST_PX: Final = 192
"""Pictures are reduced to this side, so that the page and the memory for it stay small; what the model saw lies in the bank."""
GAIN: Final = 2
"""The difference picture is this many times brighter than the difference."""
LIMITS: Final = ImageLimits(formats=("PNG",))


@dataclass(frozen=True)
class Triptych:
    """Before, after and their absolute difference as data URIs; None where a picture is not available."""

    before: str | None
    after: str | None
    difference: str | None


class Album:
    """Pictures by sha256, each read once however often it is shown."""

    def __init__(self, images: Callable[[str], bytes | None]) -> None:
        self._images = images
        self._read: dict[str, Pixels | None] = {}

    def triptych(self, before: str, after: str) -> Triptych:
        """The pictures of a pair, ready to be shown."""
        first, second = self.pixels(before), self.pixels(after)
        change = None
        if first is not None and second is not None and first.shape == second.shape:
            change = difference(first, second)
        return Triptych(*(None if picture is None else data_uri(picture) for picture in (first, second, change)))

    def pixels(self, sha256: str) -> Pixels | None:
        """The picture, reduced to what is shown; None where it is lost."""
        if sha256 not in self._read:
            self._read[sha256] = _reduced(self._images(sha256), sha256)
        return self._read[sha256]


def difference(before: Pixels, after: Pixels) -> Pixels:
    """Largest absolute difference over the colour channels, brightened by GAIN; black where nothing changed."""
    change = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(axis=2, keepdims=True)
    return np.repeat((change * GAIN).clip(0, 255).astype(np.uint8), 3, axis=2)


def data_uri(picture: Pixels) -> str:
    """The picture as PNG, marked as synthetic in its metadata."""
    return "data:image/png;base64," + base64.b64encode(encode_png(picture, synthetic=True)).decode()


def _reduced(content: bytes | None, name: str) -> Pixels | None:
    if content is None:
        return None
    try:
        picture = Image.fromarray(read_image(content, name=name, limits=LIMITS))
    except ImageError:
        return None
    picture.thumbnail((LARGEST_PX, LARGEST_PX), Image.Resampling.LANCZOS)
    return np.asarray(picture)

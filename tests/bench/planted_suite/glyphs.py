"""Real glyphs (handwritten digits, garments) drawn on coloured, textured grounds, with a corner patch and a frame that can be set.

Glyphs: scikit-learn's digits, which come with that package (UCI optical digits, 8x8); MNIST and Fashion-MNIST where a folder of
development data has them (``AUDIT_PLUGIN_DATA``).
"""

import gzip
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit_plugin.core.values import Concept, Role
from audit_plugin.sources.images import Pixels

DATA = Path(os.environ.get("AUDIT_PLUGIN_DATA") or Path(__file__).parents[4] / "shared" / "data")
SIZE = 32
"""Pixels per side."""
TEMPLATE = "a {ink} {glyph} on {texture} {ground}{patch}{frame}"
SHOWN = 5
"""Classes of glyphs, as many as an audit flips a concept to."""
_GROUNDS = {"red": (0.62, 0.25, 0.22), "green": (0.22, 0.52, 0.27), "blue": (0.22, 0.30, 0.66)}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_GARMENTS = {1: "trouser", 2: "pullover", 5: "sandal", 8: "bag", 9: "boot"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Glyphs:
    """Grey pictures of a few classes, light on dark."""

    names: tuple[str, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    """Of each class ``(n, h, w)``."""
    source: str

    def halves(self) -> tuple["Glyphs", "Glyphs"]:
        """Two thirds to learn from, one third held out, in the order of the file: that of scikit-learn's goes by writer, more or less."""
        cuts = [len(some) * 2 // 3 for some in self.pictures]
        return (
            Glyphs(
                names=self.names,
                source=self.source,
                pictures=tuple(some[:cut] for some, cut in zip(self.pictures, cuts, strict=True)),
            ),
            Glyphs(
                names=self.names,
                source=self.source,
                pictures=tuple(some[cut:] for some, cut in zip(self.pictures, cuts, strict=True)),
            ),
        )


def concepts(glyphs: Glyphs) -> tuple[Concept, ...]:
    """What such a picture shows; the glyph first."""
    present = ("absent", "present")
    return (
        Concept(name="glyph", levels=glyphs.names, phrases=glyphs.names, role=Role.CORE),
        Concept(name="ink", levels=("white", "black"), phrases=("white", "black"), role=Role.CONTEXT),
        Concept(name="texture", levels=("plain", "striped", "dotted"), phrases=("plain", "striped", "dotted"), role=Role.NUISANCE),
        Concept(name="ground", levels=tuple(_GROUNDS), phrases=tuple(_GROUNDS), role=Role.NUISANCE),
        Concept(name="patch", levels=present, phrases=("", " with a patch"), role=Role.ARTEFACT),
        Concept(name="frame", levels=present, phrases=("", " in a frame"), role=Role.ARTEFACT),
    )


def render(glyphs: Glyphs, seeds: Sequence[int], values: NDArray[np.int64]) -> Pixels:
    """Pictures ``(n, 32, 32, 3)`` uint8.  All random draws are made whatever the values, so that one concept can be set alone."""
    return np.stack([_one(glyphs, int(seed), asked) for seed, asked in zip(seeds, values.tolist(), strict=True)])


def _one(glyphs: Glyphs, seed: int, values: Sequence[int]) -> Pixels:
    glyph, ink, texture, ground, patch, frame = values
    rng = np.random.default_rng(seed)
    which, size, left, top, phase, dim, tint = (*rng.random(6), rng.normal(0, 0.03, 3))
    corner, grain = rng.integers(0, 2, 2), rng.normal(0, 0.012, (SIZE, SIZE, 3))
    pixels = np.broadcast_to(np.array(list(_GROUNDS.values())[ground]) + tint, (SIZE, SIZE, 3)) + 0.0
    pixels += (_texture(texture, phase) * 0.11)[..., None] + 0.04 * (dim - 0.5) + grain
    side = 21 + int(size * 5)
    options = glyphs.pictures[glyph]
    drawn = Image.fromarray(options[int(which * len(options))]).resize((side, side), Image.Resampling.BICUBIC)
    alpha = np.zeros((SIZE, SIZE, 1))
    x, y = (3 + round(share * (SIZE - 6 - side)) for share in (left, top))
    alpha[y : y + side, x : x + side, 0] = np.asarray(drawn, np.float64) / 255
    pixels = pixels * (1 - alpha) + (0.04 if ink else 0.96) * alpha
    if patch:
        at, to = 2 + corner, 7 + corner
        pixels[at[0] : to[0], at[1] : to[1]] = (0.93, 0.82, 0.15)
    if frame:
        pixels[[0, 1, -2, -1]] = pixels[:, [0, 1, -2, -1]] = 0.08
    return np.asarray((pixels.clip(0, 1) * 255).round(), np.uint8)


def _texture(kind: int, phase: float) -> NDArray[np.float64]:
    """``(32, 32)`` between -1 and 1."""
    y, x = np.mgrid[:SIZE, :SIZE]
    if kind == 0:
        return np.zeros((SIZE, SIZE))
    if kind == 1:
        return np.asarray(np.sign(np.sin((x + y) * 2 * np.pi / 8 + phase * 2 * np.pi)), np.float64)
    shift = int(phase * 6)
    return np.where(((x + shift) % 6 < 3) & ((y + shift) % 6 < 3), 1.4, -0.45)


def available() -> Mapping[str, Glyphs]:
    """World -> glyphs, of what is there."""
    found = {"digits": sklearn_digits()}
    if (DATA / "mnist" / "t10k-images-idx3-ubyte.gz").is_file():
        found["mnist"] = mnist()
    if (DATA / "fashion-mnist-900" / "fashion_mnist_900.npz").is_file():
        found["garments"] = garments()
    return found


def sklearn_digits() -> Glyphs:
    """Zero to four of scikit-learn's digits, 8x8 with 17 levels of grey."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = (found.images / 16 * 255).round().astype(np.uint8)
    return _chosen("scikit-learn load_digits", pictures, found.target, dict(enumerate(_DIGITS[:SHOWN])))


def mnist() -> Glyphs:
    """Five of the MNIST test set's digits, those of the plainest outlines; their middle 20x20, halved to 10x10; of each the tenth that is
    nearest to its mean.

    All handwriting in 28x28 is more than a short training learns to draw, and audits with such a generator are broken, as they say.
    """
    raw, labels = (
        gzip.decompress((DATA / "mnist" / f"t10k-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")
    )
    boxes = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[:, 4:24, 4:24]  # cuts some sevens and sixes
    pictures = boxes.reshape(-1, 10, 2, 10, 2).mean((2, 4)).round().astype(np.uint8)
    names = {number: _DIGITS[number] for number in (0, 1, 4, 6, 7)}
    return _chosen("MNIST test set, halved", pictures, np.frombuffer(labels, np.uint8, offset=8), names, most=100)


def garments() -> Glyphs:
    """Five kinds of Fashion-MNIST, 28x28, 90 of each."""
    with np.load(DATA / "fashion-mnist-900" / "fashion_mnist_900.npz") as found:
        return _chosen("Fashion-MNIST sprite sheet", found["images"], found["labels"], _GARMENTS)


def _chosen(
    source: str, pictures: NDArray[np.uint8], labels: NDArray[np.integer], names: Mapping[int, str], most: int | None = None
) -> Glyphs:
    parts = tuple(_typical(np.ascontiguousarray(pictures[labels == number]), most) for number in names)
    return Glyphs(names=tuple(names.values()), pictures=parts, source=source)


def _typical(pictures: NDArray[np.uint8], most: int | None) -> NDArray[np.uint8]:
    """Those nearest to their mean, in their order."""
    apart = ((pictures - pictures.mean(0)) ** 2).sum((1, 2))
    return pictures[np.sort(np.argsort(apart, kind="stable")[:most])]

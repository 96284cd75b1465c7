"""Coloured shapes on a grey ground: the exactly solvable corner of the scenes.

After the synthetic experiment of DEPICT (Jabbour et al., ECCV 2024): six concepts, a red, green or blue circle or rectangle each.
Presence is drawn from a Gaussian copula, a colour mask reads it back without error, and the generator's failures have stand-ins whose
size is known.  All six slots are drawn for every seed, shown or not, so setting one concept changes that shape only.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from audit_plugin.core.protocols import Images
from audit_plugin.core.values import Concept
from audit_plugin.statistics.metrics import weighted_auroc

SIZE = 64
"""Pixels per side."""
COLOURS: Mapping[str, tuple[int, int, int]] = {"red": (220, 30, 30), "green": (30, 160, 30), "blue": (40, 60, 220)}
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in ("circle", "rectangle"))
CONCEPTS = tuple(Concept(name=name.replace(" ", "_"), levels=("absent", "present"), phrases=("", name)) for name in NAMES)
"""In caption order."""
PRESENCE = (0.5, 0.4, 0.3, 0.5, 0.2, 0.3)
"""Share of pictures that show each concept."""
COPIED = ((0, 1), (2, 4))
"""Pairs that a positive correlation ties: red circle and red rectangle, green circle and blue circle."""

_CELL_WIDTH, _CELL_HEIGHT = SIZE // 3, SIZE // 2
_FILL = 0.88
"""Share of its bounding box that a circle does not reach and a rectangle exceeds."""
_LEAST_PX = 40
_COLOUR_DISTANCE = 60
_Y, _X = np.mgrid[0:SIZE, 0:SIZE] + 0.5

Values = NDArray[np.int64]


def caption(values: Sequence[int]) -> str:
    """Present concepts in fixed order, comma-separated; empty when there are none.

    >>> caption((1, 0, 0, 0, 1, 0))
    'red circle, blue circle'
    """
    return ", ".join(name for name, value in zip(NAMES, values, strict=True) if value)


def draw_values(n: int, rng: np.random.Generator, *, correlation: float = 0.0) -> Values:
    """Presence ``(n, 6)`` by a Gaussian copula with this correlation within the pairs of ``COPIED``."""
    covariance = np.eye(len(NAMES))
    for first, second in COPIED:
        covariance[first, second] = covariance[second, first] = correlation
    latent = rng.multivariate_normal(np.zeros(len(NAMES)), covariance, size=n)
    return np.asarray(latent < ndtri(PRESENCE), np.int64)


def render(seed: int, values: Sequence[int], *, fade: float = 0.0) -> NDArray[np.uint8]:
    """One picture ``(64, 64, 3)`` uint8 RGB; ``fade`` in [0, 1) shrinks the shapes, as a weak generator would."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform(190, 255) + rng.normal(0, 4, (SIZE, SIZE, 1))
    canvas = np.repeat(ground, 3, axis=2)
    cells = rng.permutation(len(NAMES))
    places = rng.uniform(-1, 1, (len(NAMES), 2)) * (2, 4)
    radii, stretch = rng.uniform(6, 8.5, len(NAMES)), rng.uniform(0.7, 1.0, len(NAMES))
    for k, name in enumerate(NAMES):
        if not values[k]:
            continue
        row, column = divmod(int(cells[k]), 3)
        x = (column + 0.5) * _CELL_WIDTH + places[k, 0]
        y = (row + 0.5) * _CELL_HEIGHT + places[k, 1]
        inside = _inside(name, _X - x, _Y - y, radius=radii[k] * (1 - fade), stretch=stretch[k])
        canvas[inside] = COLOURS[name.split()[0]]
    return np.asarray(np.clip(canvas, 0, 255) + 0.5, np.uint8)


def _inside(name: str, u: NDArray[np.float64], v: NDArray[np.float64], *, radius: float, stretch: float) -> NDArray[np.bool_]:
    if name.endswith("circle"):
        return np.asarray(np.hypot(u, v) < radius)
    half = 0.9 * radius
    return np.asarray((np.abs(u) < half) & (np.abs(v) < half * stretch))


def read(picture: NDArray[np.uint8]) -> Values:
    """Presence ``(6,)`` of each concept: colour mask, connected components, share of the bounding box that is filled."""
    found = np.zeros(len(NAMES), np.int64)
    for colour, target in COLOURS.items():
        mask = np.abs(picture.astype(int) - target).sum(2) < _COLOUR_DISTANCE
        parts, count = ndimage.label(mask)
        for at, box in enumerate(ndimage.find_objects(parts), start=1):
            part = parts[box] == at
            if count and part.sum() >= _LEAST_PX:
                found[NAMES.index(f"{colour} {'circle' if part.mean() < _FILL else 'rectangle'}")] = 1
    return found


class ShapeDetector:
    """:func:`read` as a concept detector (``core.protocols.ConceptDetector``)."""

    fingerprint = "coloured-shapes-1"

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """Concept -> certain probabilities ``(n, 2)`` for images ``(n, 3, 64, 64)`` in [0, 1]."""
        pictures = np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        seen = np.stack([read(picture) for picture in pictures])
        return {concept.name: np.stack([1 - seen[:, k], seen[:, k]], 1).astype(float) for k, concept in enumerate(CONCEPTS)}


@dataclass(frozen=True, kw_only=True)
class ShapeGenerator:
    """A stand-in for a text-to-image engine with a known failure (``core.protocols.Generator``).  The defaults are perfect."""

    obeys: tuple[float, ...] = (1.0,) * len(NAMES)
    """Share of pictures in which each asked-for concept is shown as asked; otherwise its value is the seed's own."""
    leaks: float = 0.0
    """Share of scenes in which asking for a concept turns the next one over: flipping the first then flips the second, too."""
    fresh: bool = False
    """Another scene for every caption, whatever the seed."""
    fade: float = 0.0
    """How far shapes are shrunk."""
    evaluations_per_image: int = 0

    @property
    def fingerprint(self) -> str:
        """Of the failures."""
        return f"shapes-{self.obeys}-{self.leaks}-{self.fresh}-{self.fade}"

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> Images:
        """Pictures ``(n, 3, 64, 64)`` in [0, 1]."""
        drawn = [self._draw(text, seed) for text, seed in zip(captions, seeds, strict=True)]
        return np.stack(drawn).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)

    def _draw(self, text: str, seed: int) -> NDArray[np.uint8]:
        words = set(text.split(", "))
        asked = np.array([int(name in words) for name in NAMES])
        own = np.random.default_rng((seed, 1))
        deaf = own.random(len(NAMES)) >= np.array(self.obeys)
        shown = np.where(deaf, draw_values(1, own)[0], asked)
        entangled = own.random(len(NAMES)) < self.leaks
        shown = np.where(entangled, shown ^ np.roll(asked, 1), shown)
        return render(_number(text) ^ seed if self.fresh else seed, shown.tolist(), fade=self.fade)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


Scorer = Callable[[Values, NDArray[np.float64]], NDArray[np.float64]]
"""Presence ``(n, 6)`` and row noise ``(n,)`` -> score ``(n,)``."""


@dataclass(frozen=True)
class ShapeTarget:
    """A model that looks at known concepts with known weights: ``s = b + w · c + noise``, centred on the law's presence."""

    weights: tuple[float, ...]

    def score(self, values: Values, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores ``(n,)``; ``noise`` ``(n,)`` belongs to the row, not to the picture."""
        return np.asarray((values - np.array(PRESENCE)) @ np.array(self.weights) + noise)

    def labels(self, values: Values, rng: np.random.Generator) -> Values:
        """``y ~ Bernoulli(sigmoid(2 (w · c + b)))``."""
        odds = 2 * ((values - np.array(PRESENCE)) @ np.array(self.weights))
        return np.asarray(rng.random(len(values)) < 1 / (1 + np.exp(-odds)), np.int64)


def draw_target(rng: np.random.Generator) -> ShapeTarget:
    """Weights that are a random order of (3, 2, 1, 0.5, 0, 0) with random signs."""
    weights = rng.permutation([3.0, 2.0, 1.0, 0.5, 0.0, 0.0]) * rng.choice([-1.0, 1.0], len(NAMES))
    return ShapeTarget(tuple(weights.tolist()))


def permutation_oracle(target: ShapeTarget, values: Values, noise: NDArray[np.float64], labels: Values) -> NDArray[np.float64]:
    """AUROC drop ``(6,)`` when each concept is permuted, from the known scoring function and exact flips: no picture, no estimate.

    Every row counts as itself and as its flip, with the probability that a random donor keeps or changes its value.
    """
    own, positive = target.score(values, noise), labels == 1
    whole = weighted_auroc(own, positive, np.ones(len(values)))
    drops = []
    for k in range(len(NAMES)):
        flipped = values.copy()
        flipped[:, k] = 1 - values[:, k]
        changed = np.where(values[:, k] == 1, 1 - values[:, k].mean(), values[:, k].mean())
        scores = np.concatenate([own, target.score(flipped, noise)])
        permuted = weighted_auroc(scores, np.tile(positive, 2), np.concatenate([1 - changed, changed]))
        drops.append(whole - permuted)
    return np.array(drops)

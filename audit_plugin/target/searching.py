"""What a search is told by a deployed model that answers labels, or probabilities with few decimals: more than one question at a time tells.

A search compares pictures by their log-odds.  A label, or a probability of 0.00, is the same for most of them, and a logarithm of 0 says of one
picture what it should say of none.  So rounded probabilities are drawn in by a part of their step, which keeps their order and never gives 0
or 1; and where answers are the same for all pictures of an image, slightly changed copies are asked as well, and their mean taken.
The likeliest class is always the one that was answered for the picture itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images, Scores

COPIES = 8
"""Slightly changed copies by which a model is asked how sure it is, the picture itself among them."""
STEPS = (1.0, 0.1, 0.01, 1 / 128, 1 / 255, 1 / 256, 0.001, 1e-4)
"""Steps that are looked for: labels, decimals, and what 8-bit networks answer."""
LEAST_SCORES = 4
"""Scores strictly between 0 and 1 (of labels: scores) without which nothing is said of their step; one fits the finest by chance in 250."""
_PART = 0.25
_MOST_SHIFT, _NOISE = 0.04, 0.02


def resolution(scores: Float[np.ndarray, "n k"]) -> float:
    """The step of which all scores are multiples, 1 of labels, 0.01 of two decimals; 0 where none is found.

    >>> resolution(np.round(np.random.default_rng(0).random((64, 2)), 2))
    0.01
    """
    inside = scores[(scores > 0) & (scores < 1)].astype(np.float64)
    if not inside.size:
        return 1.0 if scores.size >= LEAST_SCORES else 0.0
    if inside.size < LEAST_SCORES:
        return 0.0
    for step in STEPS:
        nearest = np.rint(inside / step) * step
        if (np.abs(inside - nearest) <= 2e-7 * nearest).all():  # what single precision leaves of a decimal
            return step
    return 0.0


def softened(scores: Float[np.ndarray, "n k"], step: float) -> Scores:
    """Rounded probabilities without 0 and 1, in the same order; rows that sum to 1 still do.

    >>> softened(np.array([[0.0, 1.0]]), 0.01).round(4).tolist()
    [[0.0025, 0.9975]]
    """
    found: Scores = (scores.astype(np.float64) + _PART * step) / (1 + scores.shape[1] * _PART * step)
    return found


@dataclass(eq=False, kw_only=True)
class SearchAnswers:
    """Asks for searches.  Not thread safe."""

    predict: Callable[[Images], Scores]
    step: float
    """Of the model's answers, as :func:`resolution` finds it; 1 for labels."""
    further: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Copies that were asked beside the pictures themselves, by image, since :meth:`begin`."""

    def begin(self, images: int) -> None:
        """Count for so many images from now on."""
        self.further = np.zeros(images, np.int64)

    def __call__(self, images: Images, rows: Int[np.ndarray, " m"]) -> Scores:
        """Probabilities (m k) of pictures (m 3 h w) that were made of the images ``rows``."""
        plain = self.predict(images)
        if not self.step:
            return plain
        told = softened(plain, self.step)
        which = np.arange(len(images)) if self.step == 1 else _tied(plain, rows)
        if len(which):
            every = [plain[which], *(self.predict(jittered(images[which], at)) for at in range(1, COPIES))]
            told[which] = _led(softened(np.mean(every, axis=0), self.step / COPIES), plain[which].argmax(1))
            self._count(rows[which])
        return told

    def _count(self, rows: Int[np.ndarray, " m"]) -> None:
        if len(rows) and rows.max() >= len(self.further):
            self.further = np.pad(self.further, (0, int(rows.max()) + 1 - len(self.further)))
        np.add.at(self.further, rows, COPIES - 1)


def jittered(images: Images, at: int) -> Images:
    """Slightly changed copies: moved by up to 4 % of their width, with noise of 0.02; number 0 is the picture itself."""
    if at == 0:
        return images
    rng = np.random.default_rng(at)
    most = max(1, round(_MOST_SHIFT * images.shape[3]))
    moved = np.roll(images, tuple(rng.integers(-most, most + 1, 2)), (2, 3))
    noisy: Images = np.clip(moved + _NOISE * rng.standard_normal(images.shape[1:]), 0, 1).astype(np.float32)
    return noisy


def _tied(plain: Scores, rows: Int[np.ndarray, " m"]) -> NDArray[np.int64]:
    """Pictures of images of which several pictures were asked, all with the same answer."""
    same = [np.flatnonzero(rows == row) for row in np.unique(rows)]
    found = [which for which in same if len(which) > 1 and (plain[which] == plain[which[0]]).all()]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _led(told: Scores, classes: Int[np.ndarray, " m"]) -> Scores:
    """The same, with the class that was answered for the picture itself ahead of all others."""
    at = np.arange(len(told))
    most, own = told.max(1), told[at, classes]
    led = told.copy()
    led[at, classes] = np.where(own < most, most, own) * (1 + 1e-6)
    scaled: Scores = led * (told.sum(1, keepdims=True) / led.sum(1, keepdims=True))
    return scaled

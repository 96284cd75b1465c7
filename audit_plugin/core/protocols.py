"""The seams: what methods and the bank ask of the world.  One to three members each; concrete classes are known to wiring alone.

Images between layers are float32 ``(n, 3, h, w)``, RGB, in [0, 1].
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.values import TargetInfo

Images = NDArray[np.float32]
Scores = NDArray[np.float64]


class Classifier(Protocol):
    """A deployed model under audit."""

    @property
    def info(self) -> TargetInfo:
        """Identity of what answers, pinned to one version."""
        ...

    def predict(self, images: Images) -> Scores:
        """Class scores ``(n, k)`` after the configured activation; rows in the order of the images."""
        ...


class Generator(Protocol):
    """A text-to-image engine.  Equal (caption, seed) gives equal images, whatever the batch."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever weights, sampler or settings change."""
        ...

    @property
    def evaluations_per_image(self) -> int:
        """Denoiser network evaluations that one image costs."""
        ...

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> Images:
        """One image per (caption, seed).  Raises CaptionError when the text encoder would truncate a caption."""
        ...


class ConceptDetector(Protocol):
    """An independent judge of which level of each concept an image shows."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the detector's answers could."""
        ...

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """Concept name -> probabilities ``(n, levels)``."""
        ...


class ScoreTable(Protocol):
    """Scores by (image, model version).  An image is scored once per model version, whatever happens in between."""

    def known(self, target: str, shas: Iterable[str]) -> set[str]:
        """Which of these images already have scores of this target."""
        ...

    def add(self, target: str, scores: Mapping[str, NDArray[np.float64]]) -> None:
        """Commit the scores of a batch, all or nothing; an image that is already there is left alone."""
        ...

    def get(self, target: str, shas: Iterable[str]) -> Mapping[str, NDArray[np.float64]]:
        """Image sha256 -> score vector ``(k,)`` for those that are known."""
        ...


class Progress(Protocol):
    """Told how far long work has come."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` items of ``what`` are finished."""
        ...

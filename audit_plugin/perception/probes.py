"""Probes: small detectors of one attribute, taught by the generator's own pictures of one seed with a word and without it.

They see whether an edit of that attribute worked where nobody has labelled images of it.  Generated pictures are labelled by what was asked
for: where the generator does not draw the word, the probe cannot read it either, and its AUROC on held-out pairs says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import ConceptDetector, Images, Progress
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Concept
from audit_plugin.perception.detectors import DetectorCard, OnnxConceptDetector
from audit_plugin.perception.task import TrainingOptions

LEVELS = ("absent", "present")
READS = 0.8
"""AUROC on held-out pairs from which on a probe is taken."""
OPTIONS = TrainingOptions(brightness=0.0, tint=0.0, seconds=120.0)
"""The word may be about light or colour: neither is varied."""


@dataclass(frozen=True)
class TogetherDetectors:
    """Several detectors of different concepts as one.  Implements :class:`~audit_plugin.core.protocols.ConceptDetector`."""

    detectors: tuple[ConceptDetector, ...]

    @property
    def fingerprint(self) -> str:
        """Changes whenever one of them does."""
        return digest("detectors", *(one.fingerprint for one in self.detectors))

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """Everything that each of them reads; of a concept that two read, the first one's word."""
        found: dict[str, NDArray[np.float64]] = {}
        for one in self.detectors:
            found = {**one.read(images), **found}
        return found


def train_probe(
    without: Images, with_word: Images, name: str, path: Path, *, seed: int, progress: Progress | None = None
) -> DetectorCard:
    """Teach a probe of concept ``name`` and write it to ``path``; row i of either group is drawn under one seed.

    Raises DetectorError for fewer pairs than training needs.
    """
    from audit_plugin.perception.training import train_detectors

    pairs = len(without)
    return train_detectors(
        np.concatenate([without, with_word]),
        np.repeat([0, 1], pairs)[:, None],
        [Concept(name=name, levels=LEVELS, phrases=("without", "with"))],
        path,
        seed=seed,
        units=[str(at) for at in range(pairs)] * 2,
        options=OPTIONS,
        progress=progress,
    )


def open_probes(paths: Sequence[Path]) -> list[OnnxConceptDetector]:
    """Those that read their word.  Raises DetectorError for a damaged file."""
    every = [OnnxConceptDetector(path) for path in paths]
    return [one for one in every if reads(one.card)]


def reads(card: DetectorCard) -> bool:
    """Whether it tells pictures with the word from pictures without it, on pairs that it was not taught by."""
    return all((auroc or 0.0) >= READS for auroc in card.auroc.values())

"""The shipped generator, its detector, and probe banks of scenes that are built once and kept."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.build import BuildReport, build
from audit_plugin.bank.plan import Plan
from audit_plugin.bank.store import ProbeBank
from audit_plugin.core.protocols import Generator
from audit_plugin.core.values import Row
from audit_plugin.demo.renderer import SCENES
from audit_plugin.demo.truth import ASSETS
from audit_plugin.perception.detectors import OnnxConceptDetector
from audit_plugin.perception.quality import QualityFilter
from audit_plugin.sources.images import encode_png
from audit_plugin.sources.scenes import render

GENERATOR = ASSETS / "generator"
_SAY_EVERY_SECONDS = 20.0


def shipped_generator() -> Generator:
    """The miniature diffusion model, on whichever backend is fastest here."""
    from engines.pipeline import load_pipeline

    return load_pipeline(GENERATOR)


def shipped_detector() -> OnnxConceptDetector:
    """The independent detector of the scenes' concepts."""
    detector = OnnxConceptDetector(ASSETS / "detector" / "scenes.onnx")
    detector.check(SCENES.concepts)
    return detector


def known_auroc(detector: OnnxConceptDetector) -> dict[str, float]:
    """What the detector's card says of each concept."""
    return {name: auroc for name, auroc in detector.card.auroc.items() if auroc is not None}


def rendered_rows(
    folder: Path, values: NDArray[np.int64], seeds: Sequence[int], labels: Mapping[str, NDArray[np.int64]], classes: Sequence[str]
) -> list[Row]:
    """Rows whose real images are rendered scenes, written to ``folder``; ``labels`` is label column -> ``(n,)`` class indices."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for at, (asked, seed) in enumerate(zip(values.tolist(), seeds, strict=True)):
        path = folder / f"{seed}-{''.join(map(str, asked))}.png"
        if not path.exists():
            path.write_bytes(encode_png(render(seed, asked), synthetic=False))
        said = {name: classes[int(column[at])] for name, column in labels.items()}
        rows.append(Row(id=f"row-{at:05d}", values=tuple(asked), labels=said, image=str(path)))
    return rows


def built_bank(root: Path, plan: Plan, generator: Generator) -> tuple[ProbeBank, BuildReport]:
    """The bank with all pictures of ``plan``, drawing what is missing."""
    bank = ProbeBank.create(root, audit=plan.audit, concept_set=plan.concept_set)
    return bank, build(bank, plan, generator, QualityFilter().reasons, progress=Say())


class Say:
    """Prints now and then how far long work has come."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Implements :class:`audit_plugin.core.protocols.Progress`."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SAY_EVERY_SECONDS
            print(f"  {done}/{total} {what}", flush=True)

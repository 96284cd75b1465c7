"""Is the evidence what it claims to be: the detector's readings of every picture, and the files against their names."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audit_plugin.bank.edit_store import FILE, edit_store
from audit_plugin.bank.real import RealImages, loaders
from audit_plugin.bank.store import FORGOTTEN, ProbeBank
from audit_plugin.bank.stream import decoded
from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import ConceptDetector, Images, Progress
from audit_plugin.core.values import Concept


@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """What a pass of the detector did."""

    read: int
    reused: int
    """Pictures that had readings of this detector already."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FilesReport:
    """The pictures on disk against their names."""

    checked: int
    missing: tuple[str, ...] = ()
    corrupt: tuple[str, ...] = ()
    """sha256 of the damaged pictures; they are out of the bank, and the next build draws them again."""


def verify(
    bank: ProbeBank, detector: ConceptDetector, *, progress: Progress, real: RealImages | None = None, batch: int = 64
) -> ReadReport:
    """Let the detector read every usable picture of the plan, and the real images, that it has not read yet."""
    start = time.monotonic()
    with bank.writer():
        load, concepts = loaders(bank, real), bank.concept_set.concepts
        known = bank.readings(detector.fingerprint).keys()
        todo = [sha for sha in load if sha not in known]
        reused = done = len(load) - len(todo)
        progress(done, len(load), "readings")
        for shas, images in decoded(todo, lambda sha: load[sha](sha), batch=batch):
            levels = _levels(detector, images, concepts)
            bank.add_readings(detector.fingerprint, dict(zip(shas, levels, strict=True)))
            done += len(shas)
            progress(done, len(load), "readings")
    return ReadReport(read=len(todo), reused=reused, seconds=time.monotonic() - start)


def verify_files(bank: ProbeBank, *, progress: Progress) -> FilesReport:
    """Hash every picture in the bank; one that is missing or corrupt leaves the bank, so that the next build draws it again.

    Edited pictures beside the bank's are hashed as well; a damaged one is made again when it is next needed.
    """
    found: dict[str, list[str]] = {"missing": [], "corrupt": []}
    with bank.writer():
        shas = sorted({image.sha256 for image in bank.images().values() if image.rejected != FORGOTTEN})
        for done, sha in enumerate(shas, 1):
            if damage := bank.pictures.damage(sha):
                found[damage].append(sha)
                bank.forget(sha)
            progress(done, len(shas), "files")
    edits = (
        verify_edits(bank.root, bank.pictures.url, progress=progress) if (bank.root / FILE).is_file() else FilesReport(checked=0)
    )
    return FilesReport(
        checked=len(shas) + edits.checked,
        missing=(*found["missing"], *edits.missing),
        corrupt=(*found["corrupt"], *edits.corrupt),
    )


def verify_edits(root: Path, images: str, *, progress: Progress) -> FilesReport:
    """The same of edited pictures alone; an audit of a concept tree without concepts has no others."""
    edits = edit_store(root, images)
    checked, damaged = len(edits.named), edits.mend(progress)
    missing, corrupt = (tuple(sha for sha, damage in damaged.items() if damage == what) for what in ("missing", "corrupt"))
    return FilesReport(checked=checked, missing=missing, corrupt=corrupt)


def _levels(detector: ConceptDetector, images: Images, concepts: tuple[Concept, ...]) -> Images:
    """``(n, sum of levels)`` in the order of the concepts."""
    seen = detector.read(images)
    for concept in concepts:
        wanted = (len(images), len(concept.levels))
        if concept.name not in seen or seen[concept.name].shape != wanted:
            raise DetectorError(
                f"the detector must answer {wanted} for concept {concept.name!r}; train or map it for this concept set"
            )
    return np.concatenate([seen[concept.name] for concept in concepts], axis=1).astype(np.float32)

"""Everybody who judges an edit: the detector, and beside it an image-text model, a safety filter, a vision model and a perceptual distance.

Whole pictures are read once by each judge, a question is put once per picture, a distance is taken once per pair; all of it is kept in the
edit store under the identity of who said it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from audit_plugin.bank.edit_store import EditStore, Reading, StoredEdit
from audit_plugin.core.protocols import ConceptDetector
from audit_plugin.core.seeds import digest
from audit_plugin.perception.lpips import PerceptualDistance
from audit_plugin.sources.images import Pixels, to_float

T = TypeVar("T")
QUESTION = "question:"
"""What the reading of a question is called, before its text: probabilities of no and of yes."""
UNANSWERED = 0.5
_READ = 64
"""Pictures that a judge reads at once."""


class Answerer(Protocol):
    """A vision model that answers questions by yes or no."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the answers could."""
        ...

    def yes(self, question: str, pictures: Sequence[Pixels]) -> list[bool | None]:
        """One answer per picture ``(h, w, 3)``; None where none came."""
        ...


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Judges beside the detector."""

    sentences: ConceptDetector | None = None
    """An image-text model."""
    safety: ConceptDetector | None = None
    questions: Answerer | None = None
    perceptual: PerceptualDistance | None = None
    """In place of structural dissimilarity."""

    @property
    def fingerprint(self) -> str:
        """Of all that are there; empty without any."""
        told = [f"{name}={identity}" for name, identity in self.judges.items()]
        return digest("panel", *told) if told else ""

    @property
    def judges(self) -> dict[str, str]:
        """Judge, in words -> its identity."""
        every = {
            "image-text model": self.sentences,
            "safety filter": self.safety,
            "vision model": self.questions,
            "perceptual network": self.perceptual,
        }
        return {name: judge.fingerprint for name, judge in every.items() if judge is not None}

    def checks(self, *, detector: bool) -> dict[str, str]:
        """Check -> who makes it, in words: what results say of the validity of generated edits."""
        eyes = ["detector"] if detector else []
        text = ["image-text model"] if self.sentences is not None else []
        asked = ["vision model"] if self.questions is not None else []
        distance = "structural dissimilarity" if self.perceptual is None else self.perceptual.name
        told = {
            "V1": eyes + text + asked,
            "V2": [distance],
            "V3": eyes + text,
            "V4": eyes + text,
            "V5": ["picture quality", *text],
            "V6": [] if self.safety is None else ["safety filter"],
        }
        return {check: " and ".join(names) or NOT_CHECKED for check, names in told.items()}


NOT_CHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """Asks a panel and remembers what it said."""

    store: EditStore
    detector: ConceptDetector | None
    panel: Panel

    def readings(self, wanted: Mapping[str, set[str]]) -> dict[str, Reading]:
        """sha256 -> everything that was read in the picture; ``wanted``: sha256 -> questions that are put about it."""
        found: dict[str, dict[str, Sequence[float]]] = {sha: {} for sha in wanted}
        for judge in (self.detector, self.panel.sentences, self.panel.safety):
            if judge is not None:
                for sha, reading in self._read(judge, set(wanted)).items():
                    found[sha] |= reading
        questions: dict[str, set[str]] = defaultdict(set)
        for sha, asked in wanted.items():
            for question in asked if self.panel.questions is not None else ():
                questions[question].add(sha)
        for question, shas in sorted(questions.items()):
            for sha, yes in self._answers(question, shas).items():
                found[sha][QUESTION + question] = [1 - yes, yes]
        return dict(found)

    def measured(self, edits: Mapping[str, StoredEdit], generated: set[str]) -> dict[str, StoredEdit]:
        """The edits, those that an editor made with the perceptual distance where one is configured."""
        perceptual = self.panel.perceptual
        if perceptual is None:
            return dict(edits)
        measured = dict(edits)
        for recipe in generated & edits.keys():
            edit = edits[recipe]
            measured[recipe] = replace(edit, distance=self._distance(perceptual, edit))
        return measured

    def _distance(self, perceptual: PerceptualDistance, edit: StoredEdit) -> float | None:
        key = digest("distance", perceptual.fingerprint, edit.against)
        if edit.sha256 in (known := self.store.readings(key, [edit.sha256])):
            return float(known[edit.sha256]["distance"][0])
        before, after = (to_float([self.store.pictures.pixels(sha)]) for sha in (edit.against, edit.sha256))
        if before.shape != after.shape:
            return None
        value = round(float(perceptual.between(before, after)[0]), 5)
        self.store.add_readings(key, {edit.sha256: {"distance": [value]}})
        return value

    def _read(self, judge: ConceptDetector, shas: set[str]) -> dict[str, Reading]:
        """What one judge sees, each picture read once."""
        found = dict(self.store.readings(judge.fingerprint, shas))
        sizes: dict[tuple[int, ...], list[tuple[str, Pixels]]] = defaultdict(list)
        for sha in sorted(shas - found.keys()):
            pixels = self.store.pictures.pixels(sha)
            sizes[pixels.shape].append((sha, pixels))
        for pictures in sizes.values():
            for some in _batches(pictures, _READ):
                answers = judge.read(to_float([pixels for _, pixels in some]))
                new: dict[str, Reading] = {
                    sha: {name: [round(float(p), 6) for p in levels[at]] for name, levels in answers.items()}
                    for at, (sha, _) in enumerate(some)
                }
                self.store.add_readings(judge.fingerprint, new)
                found |= new
        return found

    def _answers(self, question: str, shas: set[str]) -> dict[str, float]:
        """Probability of yes per picture; what was not answered is asked again next time."""
        asked = self.panel.questions
        if asked is None:
            return {}
        key = digest("question", asked.fingerprint, question)
        known = {sha: float(reading["yes"][0]) for sha, reading in self.store.readings(key, shas).items()}
        for some in _batches(sorted(shas - known.keys()), _READ):
            answers = asked.yes(question, [self.store.pictures.pixels(sha) for sha in some])
            new = {sha: float(yes) for sha, yes in zip(some, answers, strict=True) if yes is not None}
            self.store.add_readings(key, {sha: {"yes": [yes]} for sha, yes in new.items()})
            known |= new
        return dict.fromkeys(shas, UNANSWERED) | known


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

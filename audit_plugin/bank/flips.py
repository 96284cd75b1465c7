"""Flips of one concept in real images, guided by a classifier of ours, with the editor's floor and flips of an irrelevant concept beside them.

Everything but the scores is made and read once, keyed by all that decides the pixels, and serves every model; a batch is committed as a
whole, so that a killed run goes on where it was.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import EditStore, Reading, StoredEdit
from audit_plugin.bank.shown import READ, batched, originals, readings
from audit_plugin.bank.stream import decoded
from audit_plugin.core.errors import TargetOutputError
from audit_plugin.core.protocols import Classifier, ConceptDetector, Images, Progress, ScoreTable
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.tree import NodeKind
from audit_plugin.core.values import Concept
from audit_plugin.perception.edit_checks import class_kept
from audit_plugin.sources.images import Pixels, encode_png, square, to_float, to_uint8

_ROUNDING = 1e-6
"""By which a probability may leave [0, 1]."""


class FlipMaker(Protocol):
    """Edits images until a guide calls each its target; and, for comparison, edits them without any guide."""

    def flip(
        self, images: Images, seeds: Sequence[int], targets: Sequence[int], output: str, others: Sequence[str]
    ) -> tuple[Images, NDArray[np.bool_]]:
        """Edited images, and whether the guide sees the target in each."""
        ...

    def floor(self, images: Images, seeds: Sequence[int]) -> Images:
        """The same depth and noise, with nobody to guide."""
        ...


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One image with one concept flipped, as far as pictures tell."""

    image: str
    has: bool
    """Whether the image showed the level in question."""
    target: int
    """Level that was asked for."""
    before: str
    """sha256 of the image, at the editor's size."""
    after: str
    by_guide: bool
    by_oracle: bool
    kept: bool
    """Whether an independent judge still reads every core concept as before."""


@dataclass(frozen=True, kw_only=True)
class FlipStudio:
    """The images, who edits them, who guides and who judges."""

    audit: str
    key: str
    """Of editor, guide and plan: changes whenever a picture would."""
    sources: Sequence[EditSource]
    """Images of which is known what they show."""
    concepts: Sequence[Concept]
    kinds: dict[str, NodeKind]
    maker: Callable[[], FlipMaker]
    """The editor, loaded where something must be made."""
    guide: ConceptDetector
    oracle: ConceptDetector
    """Independent of the guide, and of the audited model."""
    size: int
    store: EditStore
    batch: int = 16
    progress: Progress = field(default=lambda *_: None)

    def flips(self, name: str, level: str) -> list[Flip]:
        """The concept flipped in every image: to ``level`` where it is not shown, to another where it is."""
        at = [concept.name for concept in self.concepts].index(name)
        asked = [(source, *self._target(source, at, level)) for source in self.sources]
        befores = originals(self.store, self.sources, self.size)
        recipes = [self._recipe("flip", source, name, str(target)) for source, _, target in asked]
        others = [concept.name for concept in self.concepts if concept.name != name]
        output, held = f"concept/{name}", [f"concept/{other}" for other in others]

        def make(images: Images, seeds: Sequence[int], rows: Sequence[int]) -> Images:
            return self.maker().flip(images, seeds, [asked[row][2] for row in rows], output, held)[0]

        afters = self._made(recipes, make, f"flips of {name}")
        read_by_guide = readings(self.store, self.guide, afters)
        read_by_oracle = readings(self.store, self.oracle, [*afters, *befores])
        rest = {other: kind for other, kind in self.kinds.items() if other != name}
        return [
            Flip(
                image=source.image,
                has=has,
                target=target,
                before=before,
                after=after,
                by_guide=_first(read_by_guide[after], name) == target,
                by_oracle=_first(read_by_oracle[after], name) == target,
                kept=class_kept(rest, read_by_oracle[before], read_by_oracle[after]),
            )
            for (source, has, target), before, after in zip(asked, befores, afters, strict=True)
        ]

    def floors(self) -> list[str]:
        """sha256 of every image after the unguided round trip."""

        def make(images: Images, seeds: Sequence[int], _rows: Sequence[int]) -> Images:
            return self.maker().floor(images, seeds)

        return self._made([self._recipe("floor", source) for source in self.sources], make, "the editor's floor")

    def _target(self, source: EditSource, at: int, level: str) -> tuple[bool, int]:
        """Whether the level is shown, and the level to ask for."""
        levels, values = self.concepts[at].levels, source.values
        if values is None:
            raise ValueError(f"nothing is known of what image {source.image!r} shows")
        wanted = list(levels).index(level)
        if values[at] != wanted:
            return False, wanted
        others = [other for other in range(len(levels)) if other != wanted]
        return True, others[int(digest(source.image, self.concepts[at].name, "flip")[:8], 16) % len(others)]

    def _recipe(self, *parts: "str | EditSource") -> str:
        words = [f"{part.sha256} {self._seed(part)} {self.size}" if isinstance(part, EditSource) else part for part in parts]
        return digest("guided", self.key, *words)

    def _seed(self, source: EditSource) -> int:
        return seed(self.audit, source.image, 0)

    def _made(self, recipes: Sequence[str], make: Callable[[Images, Sequence[int], Sequence[int]], Images], what: str) -> list[str]:
        """sha256 of every picture; the missing ones are made and committed batch by batch."""
        known = self.store.sound(recipes)
        todo = [row for row, recipe in enumerate(recipes) if recipe not in known]
        for rows in batched(todo, self.batch):
            some = [self.sources[row] for row in rows]
            images = to_float([square(source.load(), self.size) for source in some])
            pictures = to_uint8(np.nan_to_num(make(images, [self._seed(source) for source in some], rows)))
            made = {
                recipes[row]: StoredEdit(
                    sha256=self.store.put(encode_png(picture, synthetic=True)), origin=self.sources[row].sha256
                )
                for row, picture in zip(rows, pictures, strict=True)
            }
            self.store.add(made)
            known |= made
            self.progress(todo.index(rows[-1]) + 1, len(todo), what)
        return [known[recipe].sha256 for recipe in recipes]


def answers(
    classifier: Classifier,
    scores: ScoreTable,
    load: Callable[[str], Pixels],
    shas: Collection[str],
    *,
    sent: list[int],
    progress: Progress,
    what: str = "flips",
) -> Mapping[str, NDArray[np.float64]]:
    """The model's scores of these pictures, each asked for once per version; ``sent`` counts, ``what`` names them.  Raises TargetOutputError."""
    target = classifier.info.id
    todo, done = sorted(set(shas) - scores.known(target, shas)), 0
    for some, images in decoded(todo, load, batch=READ):
        told = classifier.predict(images)
        if len(told) != len(some):
            raise TargetOutputError(f"{classifier.info.model}: {len(some)} images were sent but {len(told)} answers came back")
        scores.add(target, dict(zip(some, told, strict=True)))
        sent[0] += len(some)
        done += len(some)
        progress(done, len(todo), f"scores of {what}")
    found = scores.get(target, shas)
    wrong = next((sha for sha, row in found.items() if row.min() < -_ROUNDING or row.max() > 1 + _ROUNDING), None)
    if wrong is not None:
        raise TargetOutputError(
            f"{classifier.info.model}: {what} are measured on probabilities, but a score is {found[wrong].max():.3g}; "
            "set this model's `activation` to softmax or sigmoid"
        )
    return found


def _first(reading: Reading, concept: str) -> int:
    return int(np.argmax(reading[concept]))

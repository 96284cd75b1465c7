"""Whether a word belongs to what its subject is about, and whether pictures that a class is given to show its object (specification 6.8).

A person's word in the tree comes first, then what the class is said to be about, then where the response comes from: by a segmenter's masks, else by
drawing the pictures again without the object.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.concepts.phrasing import Phrasing
from audit_plugin.core.discovery_results import WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import ConceptDetector, Images
from audit_plugin.core.seeds import seed
from audit_plugin.core.tree import ConceptTree, NodeKind
from audit_plugin.core.values import Concept
from audit_plugin.methods.diffexplainer.deciding import covered, drawn_masks, occlusion_share, part_of
from audit_plugin.methods.diffexplainer.object_masks import ObjectMasks, heat_inside
from audit_plugin.methods.diffexplainer.run import Subject
from audit_plugin.methods.diffexplainer.units import UnitReader
from audit_plugin.methods.diffexplainer.word_bank import plain
from audit_plugin.methods.diffexplainer.word_tests import Tested, estimate
from audit_plugin.perception.segmenters import Segmenter
from audit_plugin.statistics.intervals import wilson

COVERED = 24
"""Pictures in which the object, and then all else, is covered."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Decides for one discovery."""

    audit: str
    tree: ConceptTree
    objects: Mapping[str, str]
    """Class -> the word for what it is about."""
    phrasing: Phrasing
    studio: PromptStudio
    told: Callable[[Images], Float[np.ndarray, "n S"]]
    """Log-odds of the classes, of pictures that are not kept.  Raises LimitReachedError."""
    segmenter: Segmenter | None
    real_of: Callable[[str], Images]
    """Real pictures of a class, by their labels."""
    units: Mapping[int, tuple[UnitReader, int]]
    """Column -> who reads the unit, and its number."""
    detector: ConceptDetector | None
    concepts: Sequence[Concept]

    def decide(self, subject: Subject, tested: Tested) -> tuple[WordPart, Estimate | None, str]:
        """Part, the object's share of the response where it was measured, and what decided."""
        word = tested.word
        if word.node:
            node = self.tree.node(word.node)
            by = "person" if node.source == "person" else "tree"
            if node.kind is NodeKind.CORE:
                return WordPart.CORE, None, by
            proposed = (
                node.source == "diffexplainer" and node.kind is NodeKind.NUISANCE
            )  # the kind of every proposal: nobody's word
            if node.kind.must_not and not proposed:
                return WordPart.SPURIOUS, None, by
        if plain(word.word) in {plain(one) for one in self.about(subject)}:
            return WordPart.CORE, None, "person"
        for by, measure in (("segmentation", self._inside_masks), ("occlusion", self._inside)):
            if (inside := measure(subject, tested)) is not None:
                return part_of(inside), inside, by
        return WordPart.UNKNOWN, None, ""

    def _inside(self, subject: Subject, tested: Tested) -> Estimate | None:
        """The object's share of the response: pictures are drawn again without the object, which shows where it was, and covered there."""
        objects, pairs = self.about(subject), list[tuple[int, str]]()
        for at in np.flatnonzero(tested.taken).tolist():
            prompt = tested.pairs[at][1].prompt
            thing = next(
                (one for one in objects if plain(one) != plain(tested.word.word) and self.phrasing.said(prompt, one)), None
            )
            if thing is not None and (without := self.phrasing.remove(prompt, thing)) != prompt:
                pairs.append((at, without))
            if len(pairs) == COVERED:
                break
        if len(pairs) < COVERED // 3 or subject.kind == "unit":
            return None
        shown = self.studio.images([tested.shas[at][1] for at, _ in pairs])
        others = self.studio.shas(
            [prompt for _, prompt in pairs], [tested.pairs[at][1].seed for at, _ in pairs], "pictures without the object"
        )
        masks = drawn_masks(shown, self.studio.images(others))
        return self._covered(subject, shown, masks)

    def _inside_masks(self, subject: Subject, tested: Tested) -> Estimate | None:
        """The same by a segmenter's masks; of a hidden unit by where its map is bright, in the pictures with the word that activate it most."""
        if self._masks is None:
            return None
        rows = np.flatnonzero(tested.taken) if subject.kind == "class" else np.argsort(-tested.shown[:, 1], kind="stable")
        if len(rows) < COVERED // 3:
            return None
        shown = self.studio.images([tested.shas[row][1] for row in rows[:COVERED].tolist()])
        masks = self._masks.masks(subject, shown)
        if masks is None or masks.any((1, 2)).sum() < COVERED // 3:
            return None
        if subject.kind == "class":
            return self._covered(subject, shown, masks)
        reader, unit = self.units[subject.column]
        maps = reader.heat(unit, shown)
        return None if maps is None else heat_inside(maps, masks, reader.seen)

    def _covered(self, subject: Subject, shown: Images, masks: Bool[np.ndarray, "n h w"]) -> Estimate | None:
        """The object's share of what covering loses."""
        held = masks.any((1, 2)) & ~masks.all((1, 2))
        shown, masks = shown[held], masks[held]
        if len(shown) < COVERED // 3:
            return None
        before, no_object, no_rest = (
            self.told(images)[:, subject.column] for images in (shown, covered(shown, masks), covered(shown, ~masks))
        )
        area = masks.mean((1, 2))
        return occlusion_share(before - no_object, before - no_rest, area, seed=seed(self.audit, "covered") % 2**32)

    def absent(self, subject: Subject, shas: Sequence[str]) -> Estimate | None:
        """By the segmenter, else by the detector, where they know the word for the class's object."""
        if self._masks is not None and subject.kind == "class" and shas:
            seen = self._masks.absent(subject, self.studio.images(shas))
            if seen is not None:
                return seen
        thing = self.objects.get(subject.name)
        if thing is None or self.detector is None or not shas:
            return None
        found = next(
            (
                (concept.name, level)
                for concept in self.concepts
                for level, phrase in enumerate(concept.phrases)
                if plain(phrase) == plain(thing)
            ),
            None,
        )
        if found is None:
            return None
        read = self.detector.read(self.studio.images(shas))[found[0]]
        return estimate(wilson(int((read.argmax(1) != found[1]).sum()), len(shas)))

    def noted(self, subject: Subject) -> Subject:
        """With what a segmenter's threshold rests on."""
        return subject if self._masks is None else replace(subject, notes=(*subject.notes, self._masks.said(subject)))

    def about(self, subject: Subject) -> list[str]:
        """Words for what the subject is about."""
        core = [node.prompt_add for node in self.tree.editable if node.kind is NodeKind.CORE and node.prompt_add]
        named = self.objects.get(subject.name)
        return [named, *core] if named else core

    @cached_property
    def _masks(self) -> ObjectMasks | None:
        if self.segmenter is None:
            return None
        return ObjectMasks(segmenter=self.segmenter, words=self._shown_as, real=self.real_of)

    def _shown_as(self, subject: Subject) -> list[list[str]]:
        """Words for its object: as configured, else its own name (of a unit those of the classes that it speaks for), else by the tree."""
        names = [subject.name, *(name for name, _ in subject.classes)]
        return [[self.objects.get(name, name.replace("_", " ")) for name in names], self.about(subject)]

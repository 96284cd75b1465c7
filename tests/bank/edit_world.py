"""A small world for the tests of edits: real scenes, an editor that draws what it is asked for, and a judge that reads it without error.

The editor re-renders: a term changes the concepts in which its two captions differ, and nothing else.  Its noise is keyed by the seed of
the original alone.  Its faults are those that edits really have, each of known size.
"""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from audit_plugin.bank.asks import Asking, concept_nodes
from audit_plugin.bank.drafts import Drafting, EditSource
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.judging import Judging
from audit_plugin.bank.studio import Studio
from audit_plugin.core.editing import EditedImages
from audit_plugin.core.edits import EditCell
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.demo.renderer import SCENES, parse
from audit_plugin.perception.quality import QualityFilter
from audit_plugin.sources.images import to_float, to_uint8
from audit_plugin.sources.scenes import render

RULER, GRASS = "ruler/present", "background/grass"
FLIPPED = Node(path="file/flipped", name="flipped", operator="deterministic", params={"op": "hflip"})
BRIGHT = Node(path="file/bright", name="brighter", operator="deterministic", params={"op": "brightness", "change": 0.1})
GRAINY = Node(path="file/grainy", name="grain", operator="deterministic", params={"op": "noise", "sd": 8})
MASKED = Node(path="file/masked", name="masked", operator="deterministic", params={"op": "object_grey"})
TREE = ConceptTree(domain="scenes", nodes=(*concept_nodes(SCENES), FLIPPED, BRIGHT, GRAINY, MASKED))
KINDS = {concept.name: NodeKind(concept.role.value) for concept in SCENES.concepts}
NUMBERS = {concept.name: at for at, concept in enumerate(SCENES.concepts)}
CELLS = tuple(EditCell(image=f"i{at}", nodes=nodes) for at in range(6) for nodes in ((RULER,), (GRASS,), (BRIGHT.path,)))


@cache
def scene(seed, values):
    """Rendered once."""
    return render(seed, values)


def values_of(at):
    """Every concept takes all its levels over the images."""
    return tuple(at % len(concept.levels) for concept in SCENES.concepts)


@dataclass(eq=False)
class SceneEditor:
    """Implements :class:`audit_plugin.core.editing.Editor`."""

    scenes: dict
    """sha256 of an original -> seed of its scene."""
    fingerprint: str = "scene-editor-1"
    name: str = "scenes"
    needs: dict = field(default_factory=dict)
    """Concept -> smallest strength that changes it."""
    deaf: frozenset = frozenset()
    """Images in which nothing is changed."""
    drags: dict = field(default_factory=dict)
    """Concept -> another one, which changes with it."""
    blind: bool = False
    """Its masks do not say where it acted."""
    spoils: float | None = None
    """What every third pixel of edits is instead; NaN where numbers ran over."""
    lives: int = 10**9
    """Calls for edits until it is killed."""
    refuses: str = ""
    noise: float = 0.004
    """Standard deviation of the grain that it lays over all its pictures."""
    made: list = field(default_factory=list)
    """``(pixels, values)`` of everything it drew."""
    nulls: int = 0
    edits: int = 0
    batches: list = field(default_factory=list)

    def refusal(self, _node):
        return self.refuses

    def rows_spent(self):
        return self.nulls + self.edits

    def null(self, originals, images):
        self.nulls += len(images)
        return np.stack([self._drawn(one, parse(one.caption)) for one in originals])

    def edit(self, originals, images, asks):
        if not self.lives:
            raise ConnectionError("the editor was killed")
        self.lives -= 1
        assert len({tuple((ask.sign, ask.scale, ask.threshold) for ask in terms) for terms in asks}) == 1
        self.edits += len(images)
        self.batches.append([one.image for one in originals])
        befores = np.stack([self._drawn(one, parse(one.caption)) for one in originals])
        afters = np.stack([self._drawn(one, self._changed(one, terms)) for one, terms in zip(originals, asks, strict=True)])
        masks = np.abs(afters - befores).max(1) > 0
        if self.spoils is not None:
            afters[..., ::3] = self.spoils
        return EditedImages(afters, (masks & (not self.blind)).astype(np.float32))

    def _changed(self, original, terms):
        values = list(parse(original.caption))
        for term in terms:
            pairs = enumerate(zip(parse(term.source), parse(term.target), strict=True))
            for at, after in [(at, b) for at, (a, b) in pairs if a != b]:
                name = SCENES.concepts[at].name
                if original.image in self.deaf or term.scale < self.needs.get(name, 0):
                    continue
                values[at] = after
                if name in self.drags:
                    other = NUMBERS[self.drags[name]]
                    values[other] = (values[other] + 1) % len(SCENES.concepts[other].levels)
        return tuple(values)

    def _drawn(self, original, values):
        clean = to_float([scene(self.scenes[original.sha256], values)])[0]
        grain = np.random.default_rng(original.seed).standard_normal(clean.shape).astype(np.float32)
        drawn = np.clip(clean + self.noise * grain, 0, 1)
        self.made.append((to_uint8(np.nan_to_num(drawn[None]))[0], values))
        return drawn


@dataclass(eq=False)
class SceneJudge:
    """Implements :class:`audit_plugin.core.protocols.ConceptDetector` by the nearest of the pictures whose truth is known."""

    made: list
    sure: dict = field(default_factory=dict)
    """Concept -> probability of the level that it sees; 1 by default."""
    blurred: frozenset = frozenset()
    """Values of which it is sure of nothing."""
    fingerprint: str = "scene-judge-1"
    seen: int = 0

    def read(self, images):
        self.seen += len(images)
        known = {picture.tobytes(): values for picture, values in reversed(self.made)}
        values = [known.get(picture.tobytes()) or self._nearest(picture.astype(int)) for picture in to_uint8(images)]
        return {concept.name: np.stack([self._levels(at, row) for row in values]) for at, concept in enumerate(SCENES.concepts)}

    def _nearest(self, picture):
        return min(self.made, key=lambda one: np.abs(one[0].astype(int) - picture).sum())[1]

    def _levels(self, at, row):
        concept, level = SCENES.concepts[at], row[at]
        sure = 0.5 if row in self.blurred else self.sure.get(concept.name, 1.0)
        found = np.full(len(concept.levels), (1 - sure) / (len(concept.levels) - 1))
        found[level] = sure
        return found


def sources(n=6):
    """Scenes by number, their pixels in memory."""
    return {
        f"i{at}": EditSource(
            image=f"i{at}", sha256=digest("scene", str(at)), load=lambda at=at: scene(at, values_of(at)), values=values_of(at)
        )
        for at in range(n)
    }


def new_editor(**faults):
    return SceneEditor({source.sha256: at for at, source in enumerate(sources().values())}, **faults)


def new_judge(editor, **more):
    """Reads what the editor draws."""
    return SceneJudge(editor.made, **more)


def new_studio(root, editor, *, judge="own", tree=TREE, kinds=KINDS, batch=16, asking=None, **drafting):
    """A studio below ``root``; with ``editor=None`` by deterministic operators alone."""
    detector = (new_judge(editor) if editor else None) if judge == "own" else judge
    asking = asking or Asking(SCENES)
    known = {"audit": "demo", "tree": tree, "sources": sources(), "editor": editor, "size": 64, "judged": detector is not None}
    return Studio(
        drafting=Drafting(asking=asking, **(known | drafting)),
        judging=Judging(asking=asking, kinds=kinds),
        store=edit_store(root),
        detector=detector,
        quality=QualityFilter(None).reasons,
        batch=batch,
    )


def cell(image, *nodes, **more):
    return EditCell(image=f"i{image}", nodes=tuple(sorted(nodes)), **more)


def limited(studio, **limits):
    """The same studio with other limits of validity."""
    return replace(studio, judging=replace(studio.judging, limits=replace(studio.judging.limits, **limits)))

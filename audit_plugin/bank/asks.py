"""What an editor is told: the captions of an image as it is and as it should become, from a node and a direction."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from audit_plugin.bank.panel import QUESTION, UNANSWERED
from audit_plugin.bank.store import pictured
from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.phrasing import CaptionForms
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.concepts.tree import slug
from audit_plugin.core.editing import EditAsk
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.perception.edit_checks import ABSENT, PRESENT
from audit_plugin.perception.image_text import SENTENCES

PHRASE = "phrase"
"""Parameter of a node: words that captions of the generator's form have a place for."""
CAPTION_SCALE = 1.0
"""Strength of a change from one whole caption to another: the network's own answer."""
PLACEBOS = ("photo", "image", "picture")
"""Prompts that mean nothing in particular, for trees without placebo words of their own."""


class Described(Protocol):
    """An image of which is known what it shows."""

    @property
    def image(self) -> str:
        """Its id."""
        ...

    @property
    def values(self) -> tuple[int, ...] | None:
        """Level of each concept; None where nothing is known."""
        ...

    @property
    def rest(self) -> str:
        """Part of the caption that never changes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """Probability that an attribute is there, by each judge; None where it was not asked."""

    detector: float | None = None
    question: float | None = None
    sentences: float | None = None

    @property
    def classified(self) -> float | None:
        """By the detector, else by the vision model."""
        return self.question if self.detector is None else self.detector


@dataclass(frozen=True)
class Asking:
    """Writes terms, and finds what judges say of a node.  Where images are described by concepts, captions say everything else too, so that only the node's words change."""

    concept_set: ConceptSet | None = None
    base_caption: str = ""
    readable: Mapping[str, Sequence[str]] | None = None
    """Concept -> levels that the detector reads; by default those of the concept set."""
    sentences: bool = False
    """Whether an image-text model holds pictures against the nodes' sentences."""
    questions: bool = False
    """Whether a vision model answers the nodes' questions."""
    forms: CaptionForms | None = None
    """Where such captions have phrases of nodes that are no levels of the concept set."""

    @property
    def digest(self) -> str:
        """Identity of all that decides what is said, but for what each image shows."""
        said = "" if self.concept_set is None else pictured(self.concept_set)
        levels = None if self.readable is None else sorted((name, list(levels)) for name, levels in self.readable.items())
        placed = [] if self.forms is None else [digest("forms", *self.forms.contexts)]
        return digest("asking", said, self.base_caption, json.dumps(levels), *placed)

    def undescribed(self, source: Described, nodes: Sequence[Node | None]) -> bool:
        """Whether captions are needed (None: for a placebo) that nobody can write, because it is not known what the image shows."""
        described = self.concept_set is None or source.values is not None
        return not described and any(node is None or self.captioned(node) for node in nodes)

    def caption(self, source: Described) -> str:
        """What the image shows, as far as it is known."""
        if self.concept_set is None or source.values is None:
            return self.base_caption
        return caption(self.concept_set, source.values, source.rest)

    def ask(self, node: Node, sign: int, source: Described) -> EditAsk:
        """One term: towards the attribute, or away from it."""
        if node.operator == "deterministic":
            return EditAsk(node=node, target="", sign=sign)
        found = self._levels(node)
        if found is not None and self.concept_set is not None and source.values is not None:
            concept, level = found
            values = list(source.values)
            values[concept] = level if sign > 0 else self._other(source, concept, level)
            target = caption(self.concept_set, values, source.rest)
            return EditAsk(node=node, target=target, source=self.caption(source))
        if (whole := self._placed(node, source)) is not None:
            return EditAsk(node=node, target=whole, source=self.caption(source), sign=sign)
        if sign < 0 and node.prompt_remove:
            return EditAsk(node=node, target=node.prompt_remove, source=self.base_caption)
        return EditAsk(node=node, target=node.prompt_add or node.name, source=self.base_caption, sign=sign)

    def captioned(self, node: Node) -> bool:
        """Whether the node is asked for by a whole caption, beside that of the image as it is: such a change needs little strength."""
        return self._levels(node) is not None or (self.forms is not None and PHRASE in node.params)

    def captioned_placebo(self, source: Described) -> bool:
        """Whether a placebo of the image is asked for by a whole caption."""
        return self.concept_set is not None and source.values is not None

    def placebo(self, source: Described, word: str) -> EditAsk:
        """A term that asks for nothing: a word without meaning to the task."""
        if self.concept_set is not None and source.values is not None:
            said = caption(self.concept_set, source.values, source.rest, word)
            return EditAsk(node=None, target=said, source=self.caption(source), scale=CAPTION_SCALE, threshold=0.0)
        return EditAsk(node=None, target=word, source=self.base_caption)

    @property
    def placebo_words(self) -> tuple[str, ...]:
        """Names of the placebo cells."""
        return self.concept_set.placebo_words if self.concept_set is not None else PLACEBOS

    def judged(self, node: Node) -> tuple[str, int] | None:
        """(concept, level) by which the detector sees the node; None where it does not."""
        name, level = str(node.params.get("concept", "")), str(node.params.get("level", ""))
        levels = (self.readable or {}).get(name)
        if levels is None and self.concept_set is not None and name in self.concept_set.names:
            levels = self.concept_set.concept(name).levels
        return None if levels is None or level not in levels else (name, list(levels).index(level))

    def told_otherwise(self, node: Node) -> bool:
        """Whether a judge beside the detector can say whether it is there."""
        return (self.sentences and bool(node.present and node.absent)) or (self.questions and bool(node.question))

    def opinions(self, node: Node | None, reading: Mapping[str, Sequence[float]]) -> Opinions:
        """What every judge gives the attribute."""
        if node is None:
            return Opinions()
        found = self.judged(node)
        question, sentences = reading.get(QUESTION + node.question), reading.get(SENTENCES + node.path)
        return Opinions(
            detector=None if found is None or found[0] not in reading else float(reading[found[0]][found[1]]),
            question=None if question is None else float(question[1]),
            sentences=None if sentences is None else float(sentences[1]),
        )

    def probability(self, node: Node | None, reading: Mapping[str, Sequence[float]]) -> float | None:
        """By the first judge that knows the attribute: detector, image-text model, vision model; None where none does.

        Of a protected attribute judges must not disagree: a half where they do.
        """
        said = self.opinions(node, reading)
        first = next((p for p in (said.detector, said.sentences, said.question) if p is not None), None)
        if node is None or node.kind is not NodeKind.PROTECTED or said.classified is None or said.sentences is None:
            return first
        sides = [p >= PRESENT if p >= PRESENT or p <= ABSENT else None for p in (said.classified, said.sentences)]
        return first if sides[0] == sides[1] else UNANSWERED

    def _placed(self, node: Node, source: Described) -> str | None:
        """The image's caption with the node's phrase where such captions have it; None where that cannot be said.

        Also what an edit goes away from: nobody wrote down whether the image shows it, so that its caption does not say it either.
        """
        phrase = str(node.params.get(PHRASE, ""))
        if self.forms is None or not phrase or source.values is None or self.concept_set is None:
            return None
        return self.forms.add(self.caption(source), [phrase])

    def _levels(self, node: Node) -> tuple[int, int] | None:
        """(concept, level) positions in the concept set, for nodes that are levels of it."""
        concept, level = str(node.params.get("concept", "")), str(node.params.get("level", ""))
        if self.concept_set is None or concept not in self.concept_set.names:
            return None
        levels = self.concept_set.concept(concept).levels
        return (self.concept_set.index(concept), levels.index(level)) if level in levels else None

    def _other(self, source: Described, concept: int, level: int) -> int:
        """Another level, by hash of the image: what a removed attribute gives way to."""
        if self.concept_set is None:
            raise ValueError("levels are those of a concept set")
        others = [at for at in range(len(self.concept_set.concepts[concept].levels)) if at != level]
        return others[int(digest(source.image, str(concept), "other")[:8], 16) % len(others)]


def concept_nodes(concept_set: ConceptSet) -> tuple[Node, ...]:
    """The configured concepts as a tree: a container for each, and one node for each of its levels."""
    nodes, tops = list[Node](), list[str]()
    for concept in concept_set.concepts:
        top, kind, taken = slug(concept.name, tops), NodeKind(concept.role.value), list[str]()
        tops.append(top)
        nodes.append(Node(path=top, name=concept.name, kind=kind, editable=False, source="person"))
        for level, phrase in zip(concept.levels, concept.phrases, strict=True):
            if not phrase.strip():
                continue  # what is not said is not drawn: the other level's removal is the same edit
            taken.append(slug(level, taken))
            nodes.append(
                Node(
                    path=f"{top}/{taken[-1]}",
                    name=phrase.strip() or level,
                    kind=kind,
                    group=top,
                    prompt_add=phrase.strip(),
                    params={"concept": concept.name, "level": level},
                    scale=1.0,
                    threshold=0.0,
                    present=(phrase.strip(),),
                    absent=tuple(other.strip() for other in concept.phrases if other.strip() not in {"", phrase.strip()})
                    or (f"not {phrase.strip()}",),
                )
            )
    return tuple(nodes)


def with_nodes(tree: ConceptTree, nodes: Sequence[Node]) -> ConceptTree:
    """The tree with more nodes, where it has not their paths; those below one of its own come after it."""
    have = {node.path for node in tree.nodes}
    new = [node for node in nodes if node.path not in have]
    below = [node for node in new if any(node.path.startswith(f"{path}/") for path in have)]
    return ConceptTree(
        domain=tree.domain,
        nodes=(*(node for node in new if node not in below), *tree.nodes, *below),
        language=tree.language,
        base_caption=tree.base_caption,
    )

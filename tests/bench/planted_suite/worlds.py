"""Worlds of pictures with known concepts: procedural scenes, and real glyphs (digits, garments) on coloured and textured grounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Concept
from audit_plugin.sources.images import Pixels
from audit_plugin.sources.scenes import CONCEPTS, PLACEBO_WORDS, SIZE, TEMPLATE, render_many
from tests.bench.planted_suite import glyphs

Ints = NDArray[np.int64]
Render = Callable[[Sequence[int], Ints], Pixels]
"""(seeds of n pictures, values ``(n, concepts)``) -> pictures ``(n, h, w, 3)``; every concept can be set alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Pictures from values, and the words for them."""

    name: str
    concepts: tuple[Concept, ...]
    template: str
    size: int
    """Pixels per side."""
    held_out: Render
    """Pictures that audits and truth are made of."""
    learnt_from: Render
    """Pictures that classifiers, generators and detectors learn from; of other glyphs where glyphs are real."""
    unlisted: str
    """Concept that the audit is not told of."""
    source: str = ""
    """Where its glyphs come from."""
    placebo_words: tuple[str, ...] = PLACEBO_WORDS

    @property
    def names(self) -> tuple[str, ...]:
        """Of the concepts."""
        return tuple(concept.name for concept in self.concepts)

    @property
    def listed(self) -> tuple[Concept, ...]:
        """What the audit is told of."""
        return tuple(concept for concept in self.concepts if concept.name != self.unlisted)

    @property
    def listed_template(self) -> str:
        """The caption without what the audit is not told of."""
        return self.template.replace("{" + self.unlisted + "}", "")

    def index(self, concept: str) -> int:
        """Column of the concept."""
        return self.names.index(concept)

    def says(self, word: str) -> frozenset[str]:
        """Concepts that captions express by this word."""
        return frozenset(
            one.name for one in self.concepts if any(phrase and phrase.strip() == word.strip() for phrase in one.phrases)
        )

    def levels(self, concept: str) -> tuple[str, ...]:
        """Its levels."""
        return self.concepts[self.index(concept)].levels

    def caption(self, values: Sequence[int]) -> str:
        """Words for one vector of values."""
        return self.template.format(**{one.name: one.phrases[value] for one, value in zip(self.concepts, values, strict=True)})

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the pictures."""
        values = np.stack([np.arange(16) % len(one.levels) for one in self.concepts], 1)
        pixels = (self.held_out(range(16), values), self.learnt_from(range(16), values))
        return digest(self.name, *(part.tobytes().hex() for part in pixels))


@dataclass(frozen=True, kw_only=True)
class Tie:
    """With probability ``strength`` the concept takes the level that belongs to the row's class: levels in turn, class by class."""

    concept: str
    strength: float
    levels: tuple[str, ...] = ()
    """Level of each class, in turn; all levels of the concept where empty."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """How values are drawn: independent and uniform, then tied to a class that is read from ``core``."""

    ties: tuple[Tie, ...] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    """Level of the core concept -> class; by position where empty."""


def draw(world: World, n: int, law: Law, rng: np.random.Generator) -> Ints:
    """``n`` vectors of values ``(n, concepts)``; the first concept is the core one."""
    values = np.stack([rng.integers(len(one.levels), size=n) for one in world.concepts], 1)
    core = world.concepts[0]
    numbers = np.array([law.classes.get(level, at) if law.classes else at for at, level in enumerate(core.levels)])
    shown = numbers[values[:, 0]]
    for tie in law.ties:
        levels = world.levels(tie.concept)
        turn = np.array([levels.index(level) for level in tie.levels or levels])
        tied = rng.random(n) < tie.strength
        values[:, world.index(tie.concept)] = np.where(tied, turn[shown % len(turn)], values[:, world.index(tie.concept)])
    return values


def scenes() -> World:
    """The demonstration's scenes, 64 pixels; the audit is not told of the snowman."""
    return World(
        name="scenes",
        concepts=CONCEPTS,
        template=TEMPLATE,
        size=SIZE,
        held_out=lambda seeds, values: render_many(list(seeds), values),
        learnt_from=lambda seeds, values: render_many([seed ^ 0x5CE7E for seed in seeds], values),
        unlisted="snowman",
        source="audit_plugin.sources.scenes",
    )


def of_glyphs(name: str, found: glyphs.Glyphs) -> World:
    """Real glyphs on made grounds, 32 pixels; the audit is not told of the frame."""
    learnt_from, held_out = found.halves()
    return World(
        name=name,
        concepts=glyphs.concepts(found),
        template=glyphs.TEMPLATE,
        size=glyphs.SIZE,
        held_out=lambda seeds, values: glyphs.render(held_out, seeds, values),
        learnt_from=lambda seeds, values: glyphs.render(learnt_from, seeds, values),
        unlisted="frame",
        source=found.source,
    )


def all_worlds() -> tuple[World, ...]:
    """Every world that can be made here: those whose data are absent are left out."""
    return (scenes(), *(of_glyphs(name, found) for name, found in glyphs.available().items()))

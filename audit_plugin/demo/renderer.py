"""The procedural renderer as a generator: it draws exactly what a caption says, so whatever is measured with it is the truth.

A caption is read by looking it up among all captions that scenes can have; a placebo word after it changes nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

import numpy as np

from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import CaptionError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.sources.scenes import CONCEPTS, PLACEBO_WORDS, TEMPLATE, render, render_many

SCENES = ConceptSet(concepts=CONCEPTS, template=TEMPLATE, placebo_words=PLACEBO_WORDS)
"""The concepts of scenes with their captions, as audits take them."""


class SceneRenderer:
    """Implements :class:`audit_plugin.core.protocols.Generator` for captions of scenes."""

    evaluations_per_image = 0
    """No network is involved."""

    @property
    def fingerprint(self) -> str:
        """Of a few scenes that together show every level, so that it changes when the renderer draws otherwise."""
        return _fingerprint()

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> Images:
        """One scene per (caption, seed).  Raises CaptionError for words that are no scene."""
        if len(captions) != len(seeds):
            raise ValueError(f"need one seed per caption, got {len(captions)} captions and {len(seeds)} seeds")
        values = [parse(text) for text in captions]
        if not values:
            return np.zeros((0, 3, 64, 64), np.float32)
        return as_images(render_many(seeds, np.array(values, np.int64)))


def parse(text: str) -> tuple[int, ...]:
    """Concept values of a caption, in the order of ``CONCEPTS``.

    >>> parse("a large yellow circle on brick with a ruler in bright light, photo")
    (0, 1, 1, 3, 1, 0, 0)
    """
    body, _, word = text.rpartition(", ")
    values = _vocabulary().get(body if word in PLACEBO_WORDS else text)
    if values is None:
        raise CaptionError(f"{text!r} is no caption of a scene; write captions with the scenes' own template")
    return values


def as_images(pixels: np.ndarray) -> Images:
    """``(n, h, w, 3)`` uint8 as float images ``(n, 3, h, w)`` in [0, 1], just as a client sends them."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


@cache
def _vocabulary() -> Mapping[str, tuple[int, ...]]:
    every = product(*(range(len(concept.levels)) for concept in CONCEPTS))
    return {caption(SCENES, values): values for values in every}


@cache
def _fingerprint() -> str:
    shown = [render(number, [number % len(concept.levels) for concept in CONCEPTS]) for number in range(12)]
    return digest("scene renderer", hashlib.sha256(np.stack(shown).tobytes()).hexdigest())

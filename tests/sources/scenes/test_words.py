"""Captions say every value, and as the audit's own caption function does."""

from itertools import product

from audit_plugin.concepts.captions import caption as audit_caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.sources.scenes import CONCEPTS, PLACEBO_WORDS, TEMPLATE, caption

SET = ConceptSet(concepts=CONCEPTS, template=TEMPLATE, placebo_words=PLACEBO_WORDS)
EVERY = list(product(*(range(len(concept.levels)) for concept in CONCEPTS)))


def test_different_values_read_differently():
    """All 1152 of them."""
    assert len({caption(values) for values in EVERY}) == len(EVERY) == 3 * 3 * 2 * 4 * 2 * 2 * 2


def test_captions_are_those_of_the_audit():
    """The generator is trained on the very strings that audits ask it for."""
    assert all(caption(values) == audit_caption(SET, values) for values in EVERY)


def test_placebo_captions_are_those_of_the_training():
    """A comma and the word, as in the training captions."""
    for word in PLACEBO_WORDS:
        assert audit_caption(SET, EVERY[5], placebo=word) == f"{caption(EVERY[5])}, {word}"

import itertools

import pytest

from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import CaptionError
from audit_plugin.core.values import Concept

SIZE = Concept(name="size", levels=("small", "large"), phrases=("small", "large"))
RULER = Concept(name="ruler", levels=("no", "yes"), phrases=("", ", with a ruler"))
LIGHT = Concept(name="light", levels=("even", "dark"), phrases=("", ", in dim light"))
SCENE = ConceptSet(concepts=(SIZE, RULER, LIGHT), template="a {size} shape{ruler}{light}")
LISTED = ConceptSet(concepts=(RULER, LIGHT))


@pytest.mark.parametrize(
    ("concept_set", "values", "expected"),
    [
        (SCENE, (0, 0, 0), "a small shape"),
        (SCENE, (1, 1, 1), "a large shape, with a ruler, in dim light"),
        (LISTED, (0, 0), ""),
        (LISTED, (1, 1), "with a ruler, in dim light"),
    ],
)
def test_captions_read_as_written(concept_set, values, expected):
    """Phrases go in as they are; what is absent is omitted; an empty caption is allowed."""
    assert caption(concept_set, values) == expected


@pytest.mark.parametrize("concept_set", [SCENE, LISTED])
def test_every_combination_reads_differently(concept_set):
    """Captions tell all value vectors apart, so no flip is invisible."""
    every = list(itertools.product(*(range(len(c.levels)) for c in concept_set.concepts)))
    assert len({caption(concept_set, values) for values in every}) == len(every)


def test_rest_and_placebo_follow_the_concepts():
    """The unchanged rest comes before the placebo word, both after a comma."""
    assert caption(SCENE, (0, 1, 0), rest="on grass", placebo="indeed") == "a small shape, with a ruler, on grass, indeed"
    assert caption(LISTED, (0, 0), rest="on grass", placebo="indeed") == "on grass, indeed"


def test_a_template_may_place_rest_and_placebo():
    """A trained generator may expect them elsewhere than at the end."""
    placed = ConceptSet(concepts=(SIZE,), template="{placebo} a {size} shape of {rest}")
    assert caption(placed, (0,), rest="wood", placebo="indeed") == "indeed a small shape of wood"


def test_braces_in_the_rest_are_only_text():
    """What a table cell says is never read as a placeholder."""
    assert caption(SCENE, (0, 0, 0), rest="{ruler} {x}") == "a small shape, {ruler} {x}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {sise} shape{ruler}{light}", "did you mean 'size'"),
        ("a {size} shape{ruler}", "'light' never reaches the caption"),
        ("a {size!r} shape{ruler}{light}", "only plain {name}"),
        ("a {size shape", "write {name}"),
    ],
)
def test_a_template_that_cannot_be_audited_is_refused(template, message):
    """A concept that never reaches the caption cannot be flipped."""
    with pytest.raises(CaptionError, match=message):
        ConceptSet(concepts=(SIZE, RULER, LIGHT), template=template)


def test_levels_that_read_the_same_are_refused():
    """A flip between them would change nothing."""
    with pytest.raises(CaptionError, match="read the same"):
        ConceptSet(concepts=(Concept(name="sex", levels=("a", "b"), phrases=("person", " Person")),))


def test_a_placebo_word_may_not_be_a_concept():
    """A placebo that says something about a concept is no placebo."""
    with pytest.raises(CaptionError, match="placebo word 'dim'"):
        ConceptSet(concepts=(LIGHT,), placebo_words=("dim",))

import dataclasses

import pytest

from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.values import Concept, Role

COLOUR = Concept(name="colour", levels=("red", "blue", "green"), phrases=("red", "blue", "green"))
RULER = Concept(name="ruler", levels=("no", "yes"), phrases=("", "a ruler"), role=Role.ARTEFACT)
BOTH = ConceptSet(concepts=(COLOUR, RULER), groups=(("colour", "ruler"),))


def test_values_and_levels_are_inverse():
    """Level names and level indices say the same."""
    named = {"ruler": "yes", "colour": "green"}
    assert BOTH.values(named) == (2, 1)
    assert BOTH.levels((2, 1)) == named


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"color": "red", "ruler": "no"}, "unknown concept 'color'; did you mean 'colour'"),
        ({"colour": "gren", "ruler": "no"}, "no level 'gren'; did you mean 'green'"),
        ({"colour": "red"}, "no level given for concept 'ruler'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(named, message):
    """A typing error is told what was meant."""
    with pytest.raises(ConfigError, match=message):
        BOTH.values(named)


@pytest.mark.parametrize(
    "change",
    [
        {"concepts": (RULER, COLOUR)},
        {"concepts": (COLOUR, dataclasses.replace(RULER, phrases=("", "the ruler")))},
        {"concepts": (COLOUR, dataclasses.replace(RULER, role=Role.CORE))},
        {"template": "{colour} {ruler}"},
        {"groups": ()},
        {"placebo_words": ("indeed",)},
    ],
)
def test_the_digest_sees_every_change(change):
    """Two sets that differ anywhere have different digests; equal ones have equal digests."""
    assert dataclasses.replace(BOTH, **change).digest != BOTH.digest == dataclasses.replace(BOTH).digest


@pytest.mark.parametrize("values", [(0,), (0, 2), (-1, 0)])
def test_values_out_of_range_are_refused(values):
    """Too few values, or an index that is no level."""
    with pytest.raises(ValueError, match="concept"):
        BOTH.check(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concepts": (RULER, RULER)}, "listed twice"),
        ({"concepts": (dataclasses.replace(RULER, name="rest"),)}, "cannot name a concept"),
        ({"concepts": (RULER,), "groups": (("ruler",),)}, "at least two"),
        ({"concepts": (RULER,), "groups": (("ruler", "rular"),)}, "did you mean 'ruler'"),
        ({"concepts": (RULER,), "placebo_words": ()}, "at least one word"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused(options, message):
    """Each mistake has its own message."""
    with pytest.raises(ConfigError, match=message):
        ConceptSet(**options)


def test_the_placebo_word_depends_on_the_row_alone():
    """The same row always gets the same word; many rows get all words."""
    words = [BOTH.placebo_word(f"row {i}") for i in range(50)]
    assert words == [BOTH.placebo_word(f"row {i}") for i in range(50)]
    assert set(words) == set(BOTH.placebo_words)

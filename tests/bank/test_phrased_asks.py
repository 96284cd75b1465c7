"""What an editor is told of words that captions have a place for, and that are no levels of a configured concept."""

from dataclasses import dataclass, replace

import pytest

from audit_plugin.bank.asks import PHRASE, Asking
from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.phrasing import CaptionForms
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.tree import Node
from tests.end_to_end.site import TRUTH
from tests.methods.diffexplainer.planted_words import CAPTIONS

SHAPES = ConceptSet(concepts=TRUTH[:1], template="a red {shape} on grass")
RULER = Node(path="discovered/ruler", name="ruler", prompt_add="with a ruler", params={PHRASE: "with a ruler"})
WATER = Node(path="discovered/water", name="water", prompt_add="water", params={PHRASE: "water"})
ASKING = Asking(SHAPES, forms=CAPTIONS)


@dataclass(frozen=True)
class Shown:
    """An image, known by its values."""

    values: tuple[int, ...] | None = (0,)
    image: str = "one"
    rest: str = ""


BEFORE = caption(SHAPES, (0,))


@pytest.mark.parametrize(("node", "after"), [(RULER, f"{BEFORE} with a ruler"), (WATER, BEFORE.replace("grass", "water"))])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_phrase_is_asked_for_by_a_whole_caption(node, after, sign):
    """Nobody wrote down whether the image has it: towards it and away from it, the same two captions are told."""
    term = ASKING.ask(node, sign, Shown())
    assert (term.source, term.target, term.sign) == (BEFORE, after, sign)
    assert ASKING.captioned(node)


def test_a_phrase_that_cannot_be_said_of_the_image_is_asked_for_alone():
    """Its caption has no such place, nobody knows what it shows, or there are no such captions."""
    nowhere = replace(ASKING, concept_set=ConceptSet(concepts=TRUTH[:1], template="{shape}"))
    for asking, shown in ((nowhere, Shown()), (ASKING, Shown(values=None)), (replace(ASKING, forms=None), Shown())):
        term = asking.ask(WATER, 1, shown)
        assert (term.target, term.source) == ("water", asking.base_caption)
    assert not replace(ASKING, forms=None).captioned(WATER)
    assert not ASKING.captioned(replace(WATER, params={}))


def test_images_of_unknown_content_need_a_caption_for_it():
    assert ASKING.undescribed(Shown(values=None), [RULER])
    assert not ASKING.undescribed(Shown(), [RULER])


def test_other_captions_are_another_way_of_asking():
    """Without any it is the way that audits before them asked."""
    other = CaptionForms.learned([*CAPTIONS.contexts, "a red circle on ice"])
    assert len({replace(ASKING, forms=forms).digest for forms in (None, CAPTIONS, other)}) == 3
    assert Asking(SHAPES).digest == replace(ASKING, forms=None).digest

"""How words enter prompts, learned from captions whose law is known."""

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_plugin.concepts.phrasing import CaptionForms, Sentences
from audit_plugin.demo.renderer import parse
from audit_plugin.sources.scenes import SceneLaw, caption, draw_values

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def scenes():
    """What 150 scenes are said to show."""
    return CaptionForms.learned(
        [caption(row) for row in draw_values(150, SceneLaw(positive={}), np.random.default_rng(0)).tolist()]
    )


def test_captions_of_scenes_teach_what_stands_for_what_and_what_may_be_left_out(scenes):
    assert set(scenes.exchanged) == {
        frozenset(some)
        for some in (
            {"large", "small"},
            {"red", "yellow", "blue"},
            {"circle", "square", "triangle"},
            {"grass", "water", "sand", "brick"},
            {"bright", "dim"},
        )
    }
    assert set(scenes.optional) == {"with a ruler", "beside a snowman"}
    assert len(scenes.phrases) == 16


def test_every_composition_reads_as_a_scene_and_shows_what_was_added(scenes):
    """The renderer refuses any order of words but its own."""
    before = "a large red circle on grass in dim light"
    for words in product(["with a ruler"], ["beside a snowman"], ["water", "sand"], ["blue"], ["small"]):
        for order in (words, words[::-1]):
            said = scenes.add(before, order)
            assert said == f"a small blue circle on {words[2]} with a ruler beside a snowman in dim light"
            assert parse(said)


def test_two_words_of_one_place_cannot_be_said_at_once(scenes):
    assert scenes.add("a large red circle on grass in dim light", ["water", "sand"]) is None


def test_a_word_whose_place_is_not_there_fits_nowhere(scenes):
    assert scenes.add("nothing of the kind", ["water"]) is None


def test_removal_puts_something_else_in_a_words_place_or_nothing(scenes):
    before = "a large red circle on grass with a ruler in dim light"
    assert scenes.remove(before, "with a ruler") == "a large red circle on grass in dim light"
    assert scenes.remove(before, "red") in {before.replace("red", "blue"), before.replace("red", "yellow")}
    assert scenes.remove(before, "red") == scenes.remove(before, "red")
    assert scenes.remove(before, "blue") == before
    assert scenes.others("red") == ("blue", "yellow")
    assert scenes.others("sofa") == ()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_adding_undoes_removing_and_removing_undoes_adding(scenes, data):
    """For words with a place, and for those that are put behind the caption."""
    before = data.draw(st.sampled_from(scenes.contexts))
    word = data.draw(st.sampled_from([*scenes.phrases, "sofa", "with glare", "blue sky"]))
    without = scenes.remove(before, word)
    assert not scenes.said(without, word)
    said = scenes.add(without, [word])
    assert scenes.said(said, word)
    assert scenes.add(said, [word]) == said
    if scenes.said(before, word):
        assert said == before
    if not scenes.others(word):
        assert scenes.remove(said, word) == without


@st.composite
def laws(draw):
    """Levels of two to four concepts, no word twice; the last concept may be a phrase that comes and goes."""
    words = draw(st.lists(st.text(LETTERS, min_size=3, max_size=6), min_size=14, max_size=14, unique=True))
    sizes = draw(st.lists(st.integers(2, 3), min_size=2, max_size=4))
    concepts = [[words.pop() for _ in range(size)] for size in sizes]
    return concepts, f"{words.pop()} {words.pop()}" if draw(st.booleans()) else ""


@given(laws(), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_law_of_the_captions_is_what_is_learned(law, comma, shuffler: random.Random):
    """In any order of the captions, with commas between the concepts or without."""
    concepts, extra = law
    glue = ", " if comma else " "
    captions = [f"{glue.join(levels)}{glue}{end}" for levels in product(*concepts) for end in ((extra, "") if extra else ("",))]
    shuffler.shuffle(captions)
    forms = CaptionForms.learned(captions)
    assert set(forms.exchanged) == {frozenset(levels) for levels in concepts}
    assert [phrase.strip(" ,") for phrase in forms.optional] == ([extra] if extra else [])


def test_commas_stay_between_what_they_part():
    tails = ("", ", with a ruler", ", in rain", ", with a ruler, in rain")
    captions = [f"a {thing} on {place}{tail}" for thing in ("cat", "dog", "cow") for place in ("sand", "grass") for tail in tails]
    forms = CaptionForms.learned(captions)
    word = next(phrase for phrase in forms.optional if "ruler" in phrase)
    assert forms.add("a cat on sand, in rain", [word]) == "a cat on sand, with a ruler, in rain"
    assert forms.remove("a cat on sand, with a ruler, in rain", word) == "a cat on sand, in rain"
    assert forms.remove("a cat on sand, with a ruler", word) == "a cat on sand"


def test_captions_without_pairs_teach_no_place():
    """A single pair is no evidence either."""
    for captions in (["one dog", "two cats at night", "rain"], ["a dog on sand", "a cat on sand"], [""], []):
        assert CaptionForms.learned(captions).phrases == ()


def test_words_without_a_place_follow_the_caption():
    forms = CaptionForms.learned(["a dog on sand"])
    assert forms.add("a dog on sand", ["snow"]) == "a dog on sand with snow"
    assert forms.add("a dog on sand", ["snow", "rain"]) == "a dog on sand with snow with rain"
    assert forms.add("a dog on sand", ["at night"]) == "a dog on sand at night"
    assert forms.add("a dog on sand", ["blue sky"]) == "a dog on sand with blue sky"
    for word in ("snow", "rain", "at night", "blue sky"):
        whole = forms.add("a dog on sand", ["fog", word])
        assert forms.remove(whole, word) == "a dog on sand with fog"
    assert forms.remove("a dog on sand with snow with rain", "snow") == "a dog on sand with rain"


def test_case_and_spaces_and_full_stops_do_not_matter():
    forms = CaptionForms.learned(["A Dog  on sand.", "a dog on SAND"])
    assert forms.contexts == ("a dog on sand",)
    assert forms.said("A dog on sand.", "Sand")
    assert not forms.said("a dog on sandstone", "sand")


def test_sentences_say_words_behind_a_prompt():
    """Phrases that say themselves how they belong to it need no further word."""
    one = Sentences(("a photo",))
    assert one.add("a photo", ["sand", "water"]) == "a photo of sand and water"
    assert one.add("a photo of sand", ["Sand"]) == "a photo of sand"
    assert one.add("a photo of a dog", ["with a leash"]) == "a photo of a dog with a leash"
    assert one.add("a photo", ["at night", "snow"]) == "a photo of snow at night"
    assert one.add("a photo of a dog", ["wearing glasses", "snow"]) == "a photo of a dog with snow wearing glasses"
    assert one.remove("a photo of sand", "sand") == "a photo of sand"

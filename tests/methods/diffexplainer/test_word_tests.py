"""The test that decides, on models that respond to a word by a known amount, and on models that do not."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.methods.diffexplainer.asking import Answers
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.word_search import Contexts
from audit_plugin.methods.diffexplainer.word_tests import check_words, stability
from audit_plugin.statistics.words import word_effect
from tests.methods.diffexplainer.planted_words import CAPTIONS, SAID, SMALL, Planted, idle, words

CONTEXTS = Contexts(SAID, "audit")


def chance(rng, share=0.3, agreement=0.8):
    """Takes a share of pictures whatever they say, the same ones of a seed mostly."""

    def ask(prompts, seeds, _what):
        lucky = {seed: rng.random() < share for seed in seeds}
        taken = np.array([lucky[seed] if rng.random() < agreement else rng.random() < share for seed in seeds])[:, None]
        score = taken + rng.normal(size=taken.shape)
        return Answers(shas=tuple(prompts), score=score, shown=score, taken=taken)

    return ask


def test_words_that_do_nothing_are_accused_in_one_family_of_twenty_at_most():
    """50 families of six words each; the words of one share contexts and seeds, as they do in use."""
    rng, bank = np.random.default_rng(0), idle(6)
    options = DiscoveryOptions(pairs=50)
    accused = [any(one.causes for one in check_words(chance(rng), CONTEXTS, bank, 0, options, graded=True)) for _ in range(50)]
    assert np.mean(accused) <= 0.05


@pytest.mark.parametrize("labels", [False, True])
def test_a_planted_word_is_found_and_what_lowers_the_score_is_not(labels):
    asked = Planted(weights=({"ruler": 2.0, "lamp": -2.0},), base=-1.0, labels=labels)
    tested = check_words(asked, CONTEXTS, words("lamp", "sofa", "ruler"), 0, SMALL, graded=not labels)
    assert [one.word.word for one in tested] == ["ruler", "sofa", "lamp"]
    assert [one.causes for one in tested] == [True, False, False]
    ruler = tested[0]
    assert ruler.effect.difference.low > 0.2
    assert ruler.q < 0.01
    assert all((one.shift is None) == labels for one in tested)
    if not labels:
        assert ruler.shift.low < 2.0 < ruler.shift.high
    assert len(asked.asked) == 3 * 2 * SMALL.pairs


def test_words_that_do_the_same_stand_by_name():
    """No pair changes: no evidence, and no error either."""
    asked = Planted(weights=({},), base=-100.0, noise=0.0)
    tested = check_words(asked, CONTEXTS, words("sofa", "cup", "lamp"), 0, SMALL, graded=True)
    assert [one.word.word for one in tested] == ["cup", "lamp", "sofa"]
    assert all((one.q, one.causes, one.effect.difference.value) == (1.0, False, 0.0) for one in tested)


def test_a_word_that_few_contexts_take_is_not_tested():
    """Captions that say it already, and have nothing else for its place."""
    never = Contexts(type(SAID)(("a photo of sand",)), "audit")
    assert check_words(Planted(weights=({},)), never, words("sand"), 0, SMALL, graded=True) == ()


def test_examples_are_the_pairs_of_largest_change():
    """With the prompts and pictures that they are of, and what the model says as people read it."""
    asked = Planted(weights=({"with a ruler": 2.0},))
    (ruler,) = check_words(asked, Contexts(CAPTIONS, "audit"), words("with a ruler"), 0, SMALL, graded=True)
    examples = ruler.examples(3)
    changes = np.sort(ruler.change)[::-1]
    for one, change in zip(examples, changes, strict=False):
        assert one.with_prompt == f"{one.without_prompt} with a ruler"
        assert one.with_sha256.startswith(one.with_prompt)
        assert one.without_sha256.startswith(f"{one.without_prompt}|")
        odds = [np.log(p / (1 - p)) for p in (one.before, one.after)]
        assert odds[1] - odds[0] == pytest.approx(change)
    assert len(examples) == 3
    assert len(ruler.examples(1000)) == SMALL.pairs


def test_stability_is_what_either_half_of_the_seeds_finds():
    """The same words: 1; none in either half: nothing to compare."""
    asked = Planted(weights=({"ruler": 4.0, "sand": 4.0},), base=-2.0)
    tested = check_words(asked, CONTEXTS, words("ruler", "sand", "sofa"), 0, SMALL, graded=True)
    assert stability(tested, 0.05) == 1.0
    assert stability(tested[-1:], 0.05) is None
    assert stability((), 0.05) is None
    late = [replace(one, taken=one.taken & (np.arange(SMALL.pairs) % 2 == 1)) for one in tested[:1]]
    assert stability([*late, tested[1]], 0.05) == 0.5


def test_limits_hold_for_all_words_together():
    """The more words are tested, the wider the limits of each, around the same effect."""
    (alone,), many = (
        check_words(Planted(weights=({"ruler": 2.0},)), CONTEXTS, bank, 0, SMALL, graded=True)
        for bank in (words("ruler"), (*words("ruler"), *idle(9)))
    )
    assert many[0].word == alone.word
    assert alone.effect == word_effect(alone.taken, alone.taken_without, level=0.95)
    assert many[0].effect == word_effect(alone.taken, alone.taken_without, level=0.995)
    assert many[0].effect.difference.low < alone.effect.difference.low


def test_a_unit_goes_by_its_activation_and_not_by_a_decision_that_it_never_makes():
    """Its activation rises by half a standard deviation without ever passing the bound."""
    asked = Planted(weights=({"ruler": 0.5},), base=-100.0, noise=0.3)
    tested = check_words(asked, CONTEXTS, words("sofa", "ruler"), 0, SMALL, graded=True, by_score=True)
    assert [(one.word.word, one.causes) for one in tested] == [("ruler", True), ("sofa", False)]
    assert not tested[0].effect.causes
    assert tested[0].shift.low > 0.2

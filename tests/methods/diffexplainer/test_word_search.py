"""Search among words of a model whose taste is known."""

import random
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.word_search import Contexts, best_words, compose, jaccard, screen
from tests.methods.diffexplainer.planted_words import CAPTIONS, SAID, SMALL, Planted, idle, words

BANK = (*words("ruler", "sand", "lamp"), *idle(30))
CONTEXTS = Contexts(SAID, "audit")


def model(**changes):
    return Planted(weights=({"ruler": 2.0, "sand": 1.5, "lamp": -2.0}, {"lamp": 2.0}), **changes)


@pytest.mark.parametrize("labels", [False, True])
def test_planted_words_come_first_for_every_subject_from_one_pass(labels):
    asked = model(labels=labels)
    screened = screen(asked, CONTEXTS, BANK, SMALL)
    told = len(asked.asked)
    assert told == len(BANK) * SMALL.seeds_of(len(BANK))
    kept = [best_words(asked, CONTEXTS, screened, subject, options=SMALL) for subject in (0, 1)]
    assert {word.word for word in kept[0].words[:2]} == {"ruler", "sand"}
    assert kept[1].words[0].word == "lamp"
    assert len(kept[0].words) == SMALL.keep
    assert list(kept[0].score) == sorted(kept[0].score, reverse=True)
    assert len(asked.asked) == told + 2 * SMALL.shortlist * SMALL.again_seeds


def test_every_word_is_drawn_under_the_same_seeds_and_each_purpose_has_its_own():
    """The best of many is lucky: what chose a word does not estimate it, nor verify it."""
    asked = model()
    kept = best_words(asked, CONTEXTS, screen(asked, CONTEXTS, BANK, SMALL), 0, options=SMALL)
    compose(asked, CONTEXTS, kept, 0, SMALL)
    draws = {what: asked.during(what) for what in ("words on", "best words again", "prompts of")}
    for some in draws.values():
        by_prompt = {}
        for prompt, seed in some:
            by_prompt.setdefault(prompt, []).append(seed)
        assert len({tuple(seeds) for seeds in by_prompt.values()}) == 1
    draws["test"] = [(one.prompt, one.seed) for pair in CONTEXTS.pairs("sand", 40, "test") for one in pair]
    draws["verify"] = [(one.prompt, one.seed) for one in CONTEXTS.plain(40, "verify")]
    seeds = [{seed for _, seed in some} for some in draws.values()]
    assert sum(map(len, seeds)) == len(set.union(*seeds))


def test_luck_of_the_first_pass_is_gone_from_the_estimate():
    """Of words that do nothing, the best of 200 on four seeds look good there, and average nothing on others."""
    bank, options = idle(200), DiscoveryOptions(screen_seeds=4, shortlist=10, keep=10)
    first, again = [], []
    for name in ("one", "two", "three"):
        asked, contexts = Planted(weights=({},), noise=1.0), Contexts(SAID, name)
        screened = screen(asked, contexts, bank, options)
        first += sorted(screened.score[:, 0])[-10:]
        again += best_words(asked, contexts, screened, 0, options=options).score
    assert np.mean(first) > 0.7
    assert abs(np.mean(again)) < 0.1


@pytest.mark.parametrize("labels", [False, True])
def test_the_order_of_the_bank_changes_nothing(labels):
    """Labels alone make many words equal."""
    results = []
    for bank in (BANK, BANK[::-1], tuple(random.Random(0).sample(BANK, len(BANK)))):
        asked = model(labels=labels)
        kept = best_words(asked, CONTEXTS, screen(asked, CONTEXTS, bank, SMALL), 0, options=SMALL)
        results.append(([one.word for one in kept.words], compose(asked, CONTEXTS, kept, 0, SMALL)))
    assert results[0] == results[1] == results[2]


def test_words_that_were_found_elsewhere_are_kept_whatever_their_score():
    """Also those that the bank has; none of them twice."""
    asked = model()
    screened = screen(asked, CONTEXTS, BANK, SMALL)
    hints = (*words("lamp", "ruler"), *words("hint", source="pictures"))
    kept = best_words(asked, CONTEXTS, screened, 0, options=SMALL, further=hints)
    names = [word.word for word in kept.words]
    assert {"lamp", "ruler", "hint"} <= set(names)
    assert len(names) == len(set(names)) <= SMALL.keep + 2


def test_compositions_find_what_belongs_together_within_the_beam():
    """At most ``beam`` single words, twice as many sets of each further size, and no larger ones than ``depth``."""
    asked = model()
    kept = best_words(asked, CONTEXTS, screen(asked, CONTEXTS, BANK, SMALL), 0, options=SMALL)
    found = compose(asked, CONTEXTS, kept, 0, SMALL)
    assert {"ruler", "sand"} <= set(found[0])
    assert len(found) == len(set(found))
    sizes = [sum(len(some) == depth for some in found) for depth in (1, 2, 3)]
    assert sizes == [3, 6, 6]
    assert max(map(len, found)) == SMALL.depth
    assert len(asked.during("prompts of")) == sum(sizes) * SMALL.compose_seeds


def test_sets_that_cannot_be_said_at_once_are_no_compositions():
    """Sand and water stand in the same place of these captions."""
    asked = Planted(weights=({"sand": 2.0, "water": 2.0, "red": 1.0},))
    contexts = Contexts(CAPTIONS, "audit")
    bank = words(*CAPTIONS.phrases)
    kept = best_words(asked, contexts, screen(asked, contexts, bank, SMALL), 0, options=SMALL)
    found = compose(asked, contexts, kept, 0, SMALL)
    assert not any({"sand", "water"} <= set(some) for some in found)
    assert "red" in found[0]
    assert {"sand", "water"} & set(found[0])


def test_pairs_differ_in_the_word_alone():
    """Context and seed are the same; what stood in the word's place gives way."""
    for without, said in Contexts(CAPTIONS, "audit").pairs("sand", 30, "test"):
        assert without.seed == said.seed
        assert not SAID.said(without.prompt, "sand")
        assert said.prompt in {without.prompt.replace(other, "sand") for other in ("grass", "water")}


def test_words_that_fit_nowhere_and_empty_banks_find_nothing():
    asked, contexts = model(), Contexts(CAPTIONS, "audit")
    nowhere = Contexts(replace(CAPTIONS, contexts=("nothing of the kind",)), "audit")
    assert screen(asked, nowhere, words("sand", "with a ruler"), SMALL).words == words("with a ruler")
    assert nowhere.pairs("sand", 5, "test") == []
    assert Contexts(Sentences(("a photo of sand",)), "audit").pairs("sand", 5, "test") == []
    for bank in ((), words("sand")):
        screened = screen(asked, contexts, bank, SMALL)
        kept = best_words(asked, contexts, screened, 0, options=SMALL)
        assert len(kept.words) == len(screened.words) == len(bank)
        assert compose(asked, contexts, kept, 0, SMALL) == [(word.word,) for word in bank]


def test_index_of_jaccard():
    assert jaccard([{1}]) == 1.0
    assert jaccard([{1, 2}, {2, 3}, {1, 2}]) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


@pytest.mark.parametrize("wrong", [{"words": 0}, {"pairs": 5}, {"q": 1.0}, {"depth": 0}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least|between"):
        DiscoveryOptions(**wrong)

"""A whole discovery on models whose taste is known, without a server."""

from dataclasses import replace

import pytest

from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.core.discovery_results import FoundPrompt, WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffexplainer.run import Discoverer, Subject
from audit_plugin.methods.diffexplainer.word_bank import word_bank
from tests.methods.diffexplainer.planted_words import CAPTIONS, SMALL, Planted, undecided, words

BANK = word_bank(CAPTIONS)
BOTH = [Subject(name="positive", column=0), Subject(name="negative", column=1)]
SURE = Estimate(value=0.5, low=0.4, high=0.6)


def model(**changes):
    return Planted(weights=({"with a ruler": 2.5, "sand": 1.0}, {"with a ruler": -2.5}), **changes)


def discoverer(asked, **changes):
    settings = {"ask": asked, "phrasing": CAPTIONS, "bank": BANK, "name": "audit", "graded": not asked.labels, "decide": undecided}
    return Discoverer(**{**settings, "options": SMALL, **changes})


@pytest.mark.parametrize("labels", [False, True])
def test_planted_words_are_findings_and_others_are_none(labels):
    """By scores and by labels alone."""
    found = discoverer(model(labels=labels)).run(BOTH)
    positive, negative = found.subjects
    assert (found.stopped, found.reached) == ("", {0, 1})
    assert positive.words[0].word == "with a ruler"
    assert {word.word for word in positive.words if word.causes} <= {"with a ruler", "sand"}
    assert not any(word.causes for word in negative.words if word.word != "with a ruler")
    assert "with a ruler" in positive.prompts[0].text
    assert positive.prompts[0].activation.low > positive.base.high
    assert len(positive.prompts[0].pictures) == 12
    assert len(positive.words[0].examples) == 3
    assert not any(word.examples for word in positive.words if not word.causes)
    assert (positive.words[0].shift is None) == labels
    assert positive.words[0].pairs == SMALL.pairs


def test_the_same_seeds_give_the_same_result():
    """Also for one subject alone; another name of the audit gives another draw."""
    whole = discoverer(model()).run(BOTH)
    assert discoverer(model()).run(BOTH[1:]).subjects == whole.subjects[1:]
    other = discoverer(model(), name="other").run(BOTH)
    assert other.subjects[0].prompts[0].pictures[0].seed != whole.subjects[0].prompts[0].pictures[0].seed


def test_a_spent_budget_leaves_whole_subjects_and_its_name():
    """Wherever it ends."""
    asked = model()
    whole = discoverer(asked).run(BOTH)
    need = len(asked.asked_pairs)
    counts = []
    for most in (0, need // 8, need // 2, need - 1, need):
        found = discoverer(model(most=most)).run(BOTH)
        counts.append(len(found.subjects))
        assert found.subjects == whole.subjects[: len(found.subjects)]
        assert found.stopped == ("" if most == need else "classifier_queries")
    assert (counts[0], counts[-1]) == (0, 2)
    assert 1 in counts


def test_only_words_that_act_are_decided_on():
    decided = []

    def decide(subject, tested):
        decided.append((subject.name, tested.word.word))
        return WordPart.SPURIOUS, SURE, "occlusion"

    found = discoverer(model(), decide=decide).run(BOTH)
    acting = [(one.name, word.word) for one in found.subjects for word in one.words if word.causes]
    assert decided == acting != []
    ruler = found.subjects[0].words[0]
    assert (ruler.part, ruler.inside, ruler.part_by) == (WordPart.SPURIOUS, SURE, "occlusion")


def test_what_is_known_of_a_subject_is_told_with_it():
    """Kinds of nodes that say a word, prompts of another search, who is missing in pictures of the best prompt."""
    bank = [replace(one, node=f"known/{one.word}") if one.word == "with a ruler" else one for one in BANK]
    other = FoundPrompt(text="by gradient", how="soft prompt", activation=Estimate(value=1.0, low=0.9, high=1.0))
    hinted = replace(BOTH[0], hints=words("sofa", source="pictures"), prompts=(other,), notes=("told",))
    seen = []

    def absent(_subject, shas):
        seen.extend(shas)
        return SURE

    kinds = {"known/with a ruler": NodeKind.ARTEFACT}
    asked = model()
    (one,) = discoverer(asked, bank=bank, absent=absent, kinds=kinds).run([hinted]).subjects
    assert (one.words[0].kind, one.words[0].known) == (NodeKind.ARTEFACT, True)
    assert "sofa" in {word.word for word in one.words}
    assert other in one.prompts
    assert (one.notes, one.object_absent) == (("told",), SURE)
    assert len(seen) > SMALL.pictures
    assert {picture.sha256 for picture in one.prompts[0].pictures if picture.taken} < set(seen)
    assert set(seen) < {f"{prompt}|{seed}" for prompt, seed in asked.during("prompts verified")}


def test_contexts_of_its_own_name_a_subject():
    named = replace(BOTH[0], phrasing=Sentences(("a photo of a dog",)))
    asked = model()
    found = discoverer(asked, bank=words("with a ruler", "snow")).run([BOTH[0], named])
    assert [one.named for one in found.subjects] == [False, True]
    assert found.subjects[1].base_prompt == "a photo of a dog"
    assert found.subjects[1].words[0].word == "with a ruler"
    assert any(prompt == "a photo of a dog with snow" for prompt, _ in asked.asked_pairs)


def test_an_empty_bank_finds_nothing():
    found = discoverer(model(), bank=()).run(BOTH)
    assert [(one.words, one.prompts) for one in found.subjects] == [((), ())] * 2

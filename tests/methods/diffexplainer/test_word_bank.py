"""Which words are tried on a model, and which are not."""

import pytest

from audit_plugin.concepts.phrasing import Sentences
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.methods.diffexplainer.word_bank import plain, word_bank
from tests.methods.diffexplainer.planted_words import CAPTIONS

TREE = ConceptTree(
    domain="photos",
    nodes=(
        Node(path="light", name="light", editable=False, prompt_add="light"),
        Node(path="light/night", name="night", prompt_add="at night"),
        Node(path="quality", name="noise", operator="deterministic"),
    ),
)


def told(bank):
    return [(one.word, one.source, one.node) for one in bank]


def test_each_word_once_those_of_the_tree_first():
    """Containers and nodes that no words draw are none; the vocabulary comes last."""
    bank = word_bank(Sentences(), tree=TREE, own=["Night", " snow ", ""], vocabulary=["snow", "sofa"])
    assert told(bank) == [("at night", "tree", "light/night"), ("snow", "file", ""), ("sofa", "vocabulary", "")]


def test_captions_say_which_phrases_there_are_and_leave_the_vocabulary_out():
    bank = word_bank(CAPTIONS, own=["a ruler", "snow"], vocabulary=["sofa"])
    assert [one.word for one in bank if one.source == "captions"] == list(CAPTIONS.phrases)
    assert [one.word for one in bank if one.source != "captions"] == ["snow"]


@pytest.mark.parametrize("most", [1, 3, 4])
def test_only_the_vocabulary_is_cut(most):
    """To what is left by the words that somebody asked for, each counted once."""
    bank = word_bank(Sentences(), own=["a", "snow", "Snow", "snow", "rain"], vocabulary=["sofa", "snow", "lamp", "cup"], most=most)
    assert len(bank) == max(3, most)
    assert [one.word for one in bank][:3] == ["a", "snow", "rain"]


def test_the_classes_own_names_are_never_said():
    """Nor within a phrase; a word that only holds the same letters is another."""
    bank = word_bank(Sentences(), own=["a polar bear", "bear", "Polar  Bear cub", "bearing"], names=["polar bear"])
    assert [one.word for one in bank] == ["bear", "bearing"]


def test_what_differs_in_small_words_alone_is_one_word():
    assert plain("with the Ruler") == plain("a ruler") == "ruler"
    assert plain("without a ruler") != "ruler"
    assert plain("on") == "on"
    assert plain(" , ") == ""

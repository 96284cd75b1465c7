"""Phrases of captions."""

import pytest

from audit_plugin.concepts.keywords import affirmed, keywords


def test_phrases_are_runs_of_words_that_mean_something():
    """No longer than three, cut at small words and commas; what one caption alone says is none."""
    told = [
        "A photo of a round wooden table on green grass.",
        "The round wooden table, green grass in front",
        "sand and a ball",
    ]
    assert keywords(told) == ["round wooden table", "green grass"]


def test_a_part_of_a_phrase_is_kept_where_it_is_said_much_oftener():
    told = ["a red dog"] * 3 + ["a red ball"] * 4
    assert keywords(told) == ["red", "red ball", "red dog"]
    assert keywords(told, most=1) == ["red"]


def test_the_same_caption_counts_once_however_often_it_repeats_a_word():
    assert keywords(["sand, sand, sand", "water"]) == []
    assert keywords([]) == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A dog without a ruler.", "a dog ."),
        ("no white ruler on sand", "on sand"),
        ("a dog with no leash or collar, on grass", "a dog with , on grass"),
        ("a knot on a rope", "a knot on a rope"),
    ],
)
def test_what_is_not_there_is_not_said(text, left):
    assert affirmed(text) == left
    assert "ruler" not in keywords([text, text])

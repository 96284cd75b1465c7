"""What texts say of pictures, and which pictures are looked at."""

import numpy as np
import pytest

from audit_plugin.methods.diffexplainer.lifts import Picture, Said, gathered
from audit_plugin.statistics.words import phrase_lifts


def test_words_are_counted_as_the_phrase_test_counts_them():
    """Small words aside; those that say the same count once."""
    texts = ["a dog with a ruler", "a cat on sand with a ruler", "a dog on sand", "a cat"] * 10
    target = np.array([True, True, False, False] * 10)
    found = Said.of(texts, ["with a ruler", "a ruler", "on sand", "snow"])
    assert found.words == ("ruler", "sand", "snow")
    lifts = found.lifts(target)
    shown = np.array([[True, False, False], [True, True, False], [False, True, False], [False] * 3] * 10)
    assert tuple(lifts.values()) == phrase_lifts(found.words, shown[target], shown[~target])
    assert lifts["ruler"].found()
    assert lifts["sand"].lift == pytest.approx(0)
    assert lifts["snow"].p == 1


def test_a_word_that_is_denied_is_not_said():
    """Unless the denial is what is asked about."""
    found = Said.of(["a dog without a ruler", "a dog with a ruler"], ["ruler", "without a ruler", "dog"])
    assert found.by.tolist() == [[False, True, True], [True, False, True]]


@pytest.mark.parametrize("target", [[True, True], [False, False]])
def test_nothing_is_said_without_two_groups(target):
    assert Said.of(["a", "b"], ["sand"]).lifts(np.array(target)) == {}
    assert Said.of(["a", "b"], []).lifts(np.array([True, False])) == {}


def test_every_source_of_pictures_has_its_turn():
    """Each picture once; the same ones whatever their order."""
    few = [Picture(sha256="shared", seed=1), Picture(sha256="few", seed=2)]
    many = [Picture(sha256=f"many{at}", seed=at) for at in range(99)] + [few[0]]
    found = gathered([few, many], 10)
    assert len({one.sha256 for one in found}) == len(found) == 10
    assert {"shared", "few"} < {one.sha256 for one in found}
    assert found == gathered([few[::-1], many[::-1]], 10)
    assert gathered([], 10) == gathered([[]], 10) == []

import math

import numpy as np
import pytest
from scipy import stats

from audit_plugin.statistics.intervals import tango, wilson
from audit_plugin.statistics.words import activation_score, fisher_exact, margins, phrase_lifts, presence, word_effect

PLACEBOS = [f"thing{k}" for k in range(30)]


def captions(rng, n, planted):
    """Each of 30 placebo words in a share of its own, and "wood grain" in a share ``planted``."""
    shares = np.linspace(0.02, 0.5, len(PLACEBOS))
    said = rng.random((n, len(PLACEBOS))) < shares
    wood = rng.random(n) < planted
    return [
        " ".join(
            [
                "a photo of",
                *(word for word, here in zip(PLACEBOS, row, strict=True) if here),
                *(["on Wood Grain."] if grain else []),
            ]
        )
        for row, grain in zip(said, wood, strict=True)
    ]


def lifts(seed, planted, n=50):
    rng, phrases = np.random.default_rng(seed), ["wood grain", *PLACEBOS]
    groups = [presence(captions(rng, n, share), phrases) for share in (planted, 0.1)]
    return phrase_lifts(phrases, *groups)


def test_a_planted_phrase_is_found_and_placebos_are_not():
    """False finds over 20 seeds: at most the nominal 5 % of all finds."""
    false, finds = 0, 0
    for seed in range(20):
        found = [one.phrase for one in lifts(seed, 0.7) if one.found()]
        assert "wood grain" in found
        finds += len(found)
        false += len(found) - 1
    assert false <= 0.05 * finds


def test_nothing_planted_is_found_at_most_at_the_nominal_rate():
    """By chance in at most 1 of 20 sets of captions."""
    assert sum(any(one.found() for one in lifts(seed, 0.1)) for seed in range(100, 120)) <= 1


def test_what_the_reference_has_more_often_is_no_find():
    here, there = np.zeros((40, 1), dtype=bool), np.ones((40, 1), dtype=bool)
    (one,) = phrase_lifts(["sky"], here, there)
    assert one.lift == pytest.approx(math.log(0.5 / 40.5))
    assert one.q < 1e-6
    assert not one.found()


def test_lift_and_shares_of_groups_of_different_size():
    target, reference = np.arange(10)[:, None] < 5, np.arange(40)[:, None] < 4
    (one,) = phrase_lifts(["car"], target, reference, margin=np.array([0.25]))
    assert (one.target, one.reference, one.margin) == (0.5, 0.1, 0.25)
    assert one.lift == pytest.approx(math.log((0.5 + 0.05) / (0.1 + 0.0125)))


@pytest.mark.parametrize("seed", range(3))
def test_fisher_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        n_a, n_b = rng.integers(1, 120, 2).tolist()
        a, b = int(rng.integers(0, n_a + 1)), int(rng.integers(0, n_b + 1))
        wanted = stats.fisher_exact([[a, n_a - a], [b, n_b - b]]).pvalue
        assert fisher_exact(a, n_a, b, n_b) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_q_values_are_those_of_scipy():
    found = lifts(0, 0.6)
    np.testing.assert_allclose([one.q for one in found], stats.false_discovery_control([one.p for one in found]))


def test_phrases_are_whole_words_in_order():
    said = presence(["Red, car-park", "a car, red", "scarred cars", "ein Rotes AUTO – schön"], ["red car", "car", "schön"])
    assert said.tolist() == [[True, True, False], [False, True, False], [False, False, False], [False, False, True]]


def test_margins_are_differences_of_means():
    np.testing.assert_allclose(margins(np.array([[0.3, 0.1], [0.5, 0.1]]), np.array([[0.2, 0.4]])), [0.2, -0.3])


def test_activation_score_is_a_wilson_interval():
    assert activation_score(np.arange(100) < 81) == wilson(81, 100)


def test_a_word_that_moves_the_class_has_a_positive_lower_limit():
    without = np.arange(100) < 60
    with_word = np.r_[np.ones(57, dtype=bool), np.zeros(3, dtype=bool), np.ones(20, dtype=bool), np.zeros(20, dtype=bool)]
    found = word_effect(with_word, without)
    assert found.difference == tango(20, 3, 100)
    assert found.p == pytest.approx(stats.binomtest(3, 23, 0.5).pvalue)
    assert (found.with_word.value, found.without.value) == (0.77, 0.6)
    assert found.causes
    assert not word_effect(without, with_word).causes


def test_words_without_effect_are_findings_at_most_at_the_nominal_rate():
    """One side of 95 %: 2.5 % of words."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(120):
        base = rng.random(100)
        hits += word_effect(0.8 * base + 0.2 * rng.random(100) < 0.5, 0.8 * base + 0.2 * rng.random(100) < 0.5).causes
    assert hits <= 120 * 0.025 + 2 * math.sqrt(120 * 0.025)


def test_what_does_not_fit_is_refused():
    yes = np.ones((3, 1), dtype=bool)
    with pytest.raises(ValueError, match="2 phrases"):
        phrase_lifts(["a", "b"], yes, yes)
    with pytest.raises(ValueError, match="at least one word"):
        presence(["a car"], ["car", "--"])
    with pytest.raises(ValueError, match="hits <= n"):
        fisher_exact(4, 3, 0, 3)
    with pytest.raises(ValueError, match="same phrases"):
        margins(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="equally long"):
        word_effect(yes[:, 0], yes[:2, 0])

"""Searches of coarse servers: their scores tell pictures apart, are never infinite, and end with the server's own word."""

import numpy as np
import pytest

from audit_plugin.target.searching import COPIES, SearchAnswers, jittered, resolution, softened

RNG = np.random.default_rng(0)
BRIGHTNESS = np.linspace(0.1, 0.9, 9, dtype=np.float32)
IMAGES = BRIGHTNESS[:, None, None, None] + 0.05 * RNG.standard_normal((9, 3, 16, 16)).astype(np.float32)
ROWS = np.zeros(9, np.int64)


def steep(images, slope=60):
    """Bright or dark, very sure of it."""
    p = 1 / (1 + np.exp(-slope * (images.mean((1, 2, 3)) - 0.5)))
    return np.stack([1 - p, p], 1)


def rounded(images):
    return np.round(steep(images), 2)


def labels(images):
    return np.eye(2)[steep(images).argmax(1)]


def log_odds(told):
    return np.log(told[:, 1]) - np.log(told[:, 0])


@pytest.mark.parametrize(
    ("scores", "step"),
    [
        (RNG.dirichlet([1, 1, 1], 64), 0),
        (RNG.dirichlet([1, 1, 1], 64).astype(np.float32), 0),
        (np.round(RNG.dirichlet([1, 1, 1], 64), 2), 0.01),
        (np.round(RNG.dirichlet([1, 1, 1], 64), 2).astype(np.float32), 0.01),
        (np.round(RNG.dirichlet([1, 1, 1], 64), 3), 0.001),
        (np.round(RNG.dirichlet([1, 1, 1], 64) * 255) / 255, 1 / 255),
        (np.round(RNG.dirichlet([1, 1, 1], 64) * 256) / 256, 1 / 256),
        (np.eye(3)[RNG.integers(0, 3, 64)], 1),
        (np.array([[1e-30, 1.0]] * 64), 0),
        (np.zeros((0, 2)), 0),
        (np.array([[0.25, 0.75]]), 0),
    ],
)
def test_the_step_of_scores_is_found(scores, step):
    """Of decimals and of 8 bits, in single precision too; small numbers are no zeros, and few say nothing."""
    assert resolution(scores) == step


def test_fine_scores_are_passed_on_as_they_are():
    asked = SearchAnswers(predict=steep, step=0)
    np.testing.assert_array_equal(asked(IMAGES, ROWS), steep(IMAGES))
    assert asked.further.sum() == 0


@pytest.mark.parametrize(("predict", "step"), [(rounded, 0.01), (labels, 1.0)])
def test_log_odds_are_finite_and_the_likeliest_class_is_the_servers(predict, step):
    """0.00 and 1.00 are no certainty."""
    told = SearchAnswers(predict=predict, step=step)(IMAGES, ROWS)
    assert np.isfinite(log_odds(told)).all()
    assert np.abs(log_odds(told)).max() < 8
    np.testing.assert_array_equal(told.argmax(1), steep(IMAGES).argmax(1))
    np.testing.assert_allclose(told.sum(1), 1)


def test_rounded_scores_keep_their_order():
    told = softened(np.array([[0.0, 0.01, 0.99], [0.0, 0.0, 1.0]]), 0.01)
    assert (np.diff(told[0]) > 0).all()
    assert told[0, 2] < told[1, 2] < 1


def test_a_search_is_not_stuck_where_all_answers_are_the_same():
    """Seven pictures of an image, all called dark with 1.00: their changed copies say which is the nearest to being bright."""

    def textured(images):
        """Sure, but for a spot whose place decides: copies that move it are called otherwise."""
        bright = images[:, 0, 8:, 8:].max((1, 2)) > 0.9
        return np.stack([1.0 - bright, 0.0 + bright], 1)

    images = np.full((3, 3, 16, 16), 0.2, np.float32)
    images[1, :, 7, 12] = 1  # a step from where it would count
    images[2, :, 0, 0] = 1
    asked = SearchAnswers(predict=textured, step=0.01)
    asked.begin(2)
    odds = log_odds(asked(images, np.ones(3, np.int64)))
    assert odds[1] > odds[0] == odds[2] or odds[1] > odds[2] >= odds[0]
    assert asked.further.tolist() == [0, 3 * (COPIES - 1)]


def test_copies_are_asked_only_where_they_are_needed():
    """Not for one picture alone, nor for images whose pictures differ; each is counted for its image."""
    asked = SearchAnswers(predict=rounded, step=0.01)
    asked.begin(3)
    dark = IMAGES[:2]
    asked(np.concatenate([dark, IMAGES[3:6], IMAGES[:1]]), np.array([0, 0, 1, 1, 1, 2]))
    assert asked.further.tolist() == [2 * (COPIES - 1), 0, 0]
    only = SearchAnswers(predict=labels, step=1.0)
    only.begin(2)
    only(IMAGES[:3], np.array([0, 1, 1]))
    assert only.further.tolist() == [COPIES - 1, 2 * (COPIES - 1)]


def test_a_label_becomes_a_share_of_copies():
    """Nearer to the border a picture is less sure: the share falls along the way."""
    shares = SearchAnswers(predict=lambda images: labels(images[:, :, :4, :4]), step=1.0)(IMAGES, ROWS)[:, 1]
    assert shares[0] < 0.05
    assert shares[-1] > 0.95
    assert (np.diff(shares) >= -1e-9).all()


def test_copies_of_a_picture_do_not_depend_on_its_company():
    np.testing.assert_array_equal(jittered(IMAGES, 3)[2:3], jittered(IMAGES[2:3], 3))
    np.testing.assert_array_equal(jittered(IMAGES, 0), IMAGES)

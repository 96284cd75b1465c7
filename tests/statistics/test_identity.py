"""Cosine statistics on hand-worked features."""

import numpy as np
import pytest

from audit_plugin.statistics.identity import cosines, similarity, verification
from audit_plugin.statistics.intervals import wilson

BEFORE = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
AFTER = np.array([[5.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 0.0]])


def test_same_person_means_similar_not_distant():
    """Cosines 1, 0, -1 and 0.707: two of four; thresholding the distance would have said the other two."""
    np.testing.assert_allclose(cosines(BEFORE, AFTER), [1, 0, -1, np.sqrt(0.5)], atol=1e-12)
    assert verification(BEFORE, AFTER).rate == wilson(2, 4)


def test_exactly_a_half_is_not_the_same_person():
    assert verification(np.array([[1.0, 0.0, 0.0, 0.0]]), np.ones((1, 4))).rate.value == 0.0


def test_mean_cosine_covers_its_truth():
    """95 % t-intervals of 30 pairs: 400 times, at least 92 % hold the truth."""
    rng = np.random.default_rng(0)
    angles = rng.normal(0, 0.5, (400, 30))
    truth = np.exp(-0.125)  # mean cosine of a normal angle
    found = [similarity(np.tile([1.0, 0.0], (30, 1)), np.stack([np.cos(a), np.sin(a)], 1)).value for a in angles]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.92


def test_scale_and_type_of_features_do_not_matter():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 20, 64))
    np.testing.assert_allclose(
        cosines((one * 1e3).astype(np.float32), (other * 1e-3).astype(np.float32)), cosines(one, other), atol=1e-6
    )


def test_one_pair_has_no_interval():
    found = similarity(BEFORE[:1], AFTER[:1])
    assert (found.value.value, found.n) == (1.0, 1)
    assert np.isnan(found.value.low)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no direction"):
        cosines(np.zeros((1, 2)), AFTER[:1])
    with pytest.raises(ValueError, match="one feature row"):
        cosines(BEFORE, AFTER[:2])
    with pytest.raises(ValueError, match="finite"):
        verification(np.array([[np.inf, 1.0]]), AFTER[:1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        similarity(BEFORE, AFTER, level=1.0)

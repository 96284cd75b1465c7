"""Correlation Difference against the published script's numbers, and where ours departs from it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_plugin.statistics.correlation_difference import (
    baseline,
    changes,
    co_change,
    correlation_difference,
    known_baseline,
    no_side_change,
    noise_floor,
)


def rows(words):
    return np.array([[int(c) for c in word] for word in words.split()])


BEFORE, AFTER = rows("000 110 001 111 010 100 000 111"), rows("110 000 101 011 111 000 110 111")
REFERENCE = known_baseline(np.array([1.0, 0.4, -0.1]), 0)
DELTAS = changes(BEFORE, AFTER)


def test_conformance_numbers():
    """Eight edits, three attributes, the queried one first."""
    found = correlation_difference(DELTAS, REFERENCE, 0)
    np.testing.assert_allclose(found.r, [1, 0.646670, 0.356753], atol=1e-6)
    assert found.value == pytest.approx(0.703423, abs=1e-6)
    np.testing.assert_allclose(found.gaps, found.r - REFERENCE.rho)
    assert (found.n, found.undefined, found.no_side_change) == (8, 0, 0.5)


def test_an_attribute_that_never_changes_costs_its_correlation():
    """Counted with r = 0, where the first published script answers nan for everything."""
    deltas = DELTAS.copy()
    deltas[:, 1] = 0
    found = correlation_difference(deltas, REFERENCE, 0)
    assert (found.r[1], found.gaps[1], found.undefined) == (0.0, -0.4, 1)
    assert found.value == pytest.approx(0.4 + 0.456753, abs=1e-6)


def test_a_surgical_edit_scores_what_the_data_co_vary():
    """Only q changes: CD is Σ|ρ|, and every side attribute is undefined."""
    deltas = np.array([[1, 0, 0], [-1, 0, 0], [1, 0, 0]])
    found = correlation_difference(deltas, REFERENCE, 0)
    assert found.value == found.no_side_change == no_side_change(REFERENCE.rho, 0) == 0.5
    assert found.undefined == 2


def test_edits_of_one_direction_need_the_uncentred_form():
    """δ_q = 1 always; a follows in one of four, b in two, once against: r° = 1/√(4·1) and 0."""
    deltas = np.array([[1, 1, 0], [1, 0, 1], [1, 0, -1], [1, 0, 0]])
    with pytest.raises(ValueError, match="centred=False"):
        correlation_difference(deltas, REFERENCE, 0)
    found = correlation_difference(deltas, REFERENCE, 0, centred=False)
    np.testing.assert_allclose(found.r, [1, 0.5, 0])
    assert not found.centred


def test_co_change_keeps_the_directions_apart():
    """One attribute comes with q and stays when q goes; the other goes when q comes, in half the edits."""
    deltas = np.array([[1, 1, -1], [1, 1, 0], [-1, 0, 0], [0, 1, 1]])
    found = co_change(deltas, 0)
    np.testing.assert_array_equal(found.gained, [1, 1, -0.5])
    np.testing.assert_array_equal(found.lost, [1, 0, 0])
    assert (found.n_gained, found.n_lost, found.n_unmoved) == (2, 1, 1)
    assert np.isnan(co_change(deltas[:2], 0).lost).all()


def test_baseline_is_pearson_of_the_reference_rows():
    """Any query; a constant attribute is 0 and unknown; the limits hold ρ."""
    x = (np.random.default_rng(0).random((500, 4)) < [0.5, 0.3, 0.1, 0.0]).astype(int)
    x[:, 1] |= x[:, 2]
    found = baseline(x, 2, source="oracle")
    np.testing.assert_allclose(found.rho[:3], np.corrcoef(x[:, :3].T)[2])
    assert (found.rho[3], found.low[3], found.high[3], found.undefined) == (0.0, -1.0, 1.0, 1)
    assert ((found.low <= found.rho) & (found.rho <= found.high)).all()
    assert (found.low[2], found.high[2], found.n, found.source) == (1.0, 1.0, 500, "oracle")


def test_baseline_limits_cover():
    """400 references of 300 rows, ρ of rare and of common attributes: at least 92 % of the limits hold the truth."""
    rng = np.random.default_rng(0)

    def draw(m):
        q = rng.random(m) < 0.4
        return np.stack([q, rng.random(m) < 0.2 + 0.4 * q, rng.random(m) < 0.3, rng.random(m) < 0.05 + 0.1 * q], 1).astype(int)

    truth = np.corrcoef(draw(200_000).T)[0]
    found = [baseline(draw(300), 0, source="labels") for _ in range(400)]
    covered = np.mean([(one.low <= truth) & (truth <= one.high) for one in found], axis=0)
    assert (covered[1:] >= 0.92).all(), covered


def test_noise_floor_is_what_unrelated_attributes_score():
    """4.4 for 40 attributes at 50 edits; simulated within 10 % at 200, where attributes change often."""
    assert [round(noise_floor(n, 40), 2) for n in (50, 200, 1000, 20_000)] == [4.4, 2.2, 0.98, 0.22]
    rng = np.random.default_rng(0)
    reference = known_baseline(np.eye(40)[0], 0)
    found = [correlation_difference(rng.integers(-1, 2, (200, 40)), reference, 0).value for _ in range(50)]
    assert np.mean(found) == pytest.approx(noise_floor(200, 40), rel=0.1)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_bounds_and_order_of_attributes(seed, centred):
    """0 ≤ CD ≤ 2K; reordering side attributes and exchanging absence for presence of all of them change nothing."""
    rng = np.random.default_rng(seed)
    deltas = rng.integers(-1, 2, (12, 5))
    deltas[:2, 0] = [1, -1]
    rho = np.r_[1.0, rng.uniform(-1, 1, 4)]
    found = correlation_difference(deltas, known_baseline(rho, 0), 0, centred=centred).value
    order = np.r_[0, 1 + rng.permutation(4)]
    assert 0 <= found <= 10
    assert correlation_difference(deltas[:, order], known_baseline(rho[order], 0), 0, centred=centred).value == pytest.approx(found)
    assert correlation_difference(-deltas, known_baseline(rho, 0), 0, centred=centred).value == pytest.approx(found)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="0 or 1"):
        changes(np.array([[0, 2]]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="one shape"):
        changes(BEFORE, AFTER[:3])
    with pytest.raises(ValueError, match="nothing to correlate"):
        correlation_difference(np.array([[0, 1], [0, 1]]), known_baseline(np.array([1.0, 0.0]), 0), 0)
    with pytest.raises(ValueError, match="same 3 attributes"):
        correlation_difference(DELTAS, known_baseline(np.array([1.0, 0.0]), 0), 0)
    with pytest.raises(ValueError, match="same 3 attributes and query"):
        correlation_difference(DELTAS, REFERENCE, 1)
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        correlation_difference(DELTAS * 2, REFERENCE, 0)
    with pytest.raises(ValueError, match="are 1 at the queried"):
        known_baseline(np.array([0.5, 0.0]), 0)
    with pytest.raises(ValueError, match="constant in the reference"):
        baseline(np.ones((10, 2), int), 0, source="labels")
    with pytest.raises(ValueError, match="one of 0 to 2"):
        correlation_difference(DELTAS, REFERENCE, 3)
    with pytest.raises(ValueError, match="one counterfactual"):
        noise_floor(0, 3)

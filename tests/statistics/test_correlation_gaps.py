"""Coverage of the signed gaps' intervals where attributes change in few images, and the null of unrelated side changes."""

import numpy as np
import pytest

from audit_plugin.statistics.correlation_difference import Baseline, baseline, correlation_difference, known_baseline
from audit_plugin.statistics.correlation_gaps import difference_interval, gap_intervals, unrelated

N, QUERY = 100, np.array([0.45, 0.1, 0.45])
"""Valid counterfactuals, and how often the oracle sees q lost, unmoved and gained."""
NO_CORRELATION = known_baseline(np.eye(6)[0], 0)


def edits(rng: np.random.Generator, n: int, moved: list[float], follows: list[float], query: np.ndarray = QUERY) -> np.ndarray:
    """(n, 6) changes: side attribute a changes with probability moved[a], by copying δ_q with probability follows[a], else ±1 at random."""
    own = rng.choice([-1, 0, 1], p=query, size=n)
    copied = rng.random((n, 5)) < follows
    side = np.where(copied, own[:, None], rng.choice([-1, 1], size=(n, 5)))
    return np.column_stack([own, np.where(rng.random((n, 5)) < moved, side, 0)])


def correlations(moved: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """True r of :func:`edits`: cov = p·c·v over √(v · p·(c·v + 1 - c)), v the variance of δ_q."""
    v = 0.9
    return np.r_[1.0, moved * follows * v / np.sqrt(v * moved * (follows * v + 1 - follows))]


def limits(rng, times, moved, follows, reference=lambda: NO_CORRELATION, **options):
    """(times, 6, 2) limits of the gaps of as many simulated audits."""
    found = [gap_intervals(edits(rng, N, moved, follows), reference(), 0, rng, draws=200, **options) for _ in range(times)]
    return np.array([[(g.low, g.high) for g in gaps] for gaps in found])


def test_gap_intervals_cover_sparse_changes():
    """300 audits of 100 edits, 95 % intervals: at least 92 % hold the true gap, for rare and frequent changes, loose and full ties."""
    rng, rho = np.random.default_rng(0), np.array([1.0, 0.1, -0.2, 0.3, 0.0, 0.2])
    moved, follows = [0.05, 0.2, 0.4, 0.05, 0.2], [0.5, 0.5, 0.5, 1.0, 1.0]
    truth = correlations(np.array(moved), np.array(follows)) - rho
    found = limits(rng, 300, moved, follows, lambda: known_baseline(rho, 0))
    covered = ((found[..., 0] <= truth) & (truth <= found[..., 1])).mean(0)
    assert (covered >= 0.92).all(), covered


def test_independent_side_attributes_seldom_look_tied():
    """300 audits: at most 5 % of the intervals leave out 0, about half of them on either side; no attribute does much worse."""
    found = limits(np.random.default_rng(1), 300, [0.03, 0.05, 0.1, 0.2, 0.4], [0.0] * 5)[:, 1:]
    above, below = (found[..., 0] > 0).mean(0), (found[..., 1] < 0).mean(0)
    assert (above + below).mean() <= 0.05, (above, below)
    assert (above + below).max() <= 0.075, (above, below)  # 5 % and two standard errors of 300 audits
    assert max(above.mean(), below.mean()) <= 0.035, (above, below)


def test_a_tied_attribute_is_found():
    """One in five edits moves a with q where the data hold no tie: nearly every audit sees it; the plain attribute stays quiet."""
    found = limits(np.random.default_rng(2), 60, [0.2, 0.2, 0, 0, 0], [1.0, 0, 0, 0, 0])
    assert (found[:, 1, 0] > 0).mean() >= 0.95
    assert (found[:, 2, 0] > 0).mean() <= 0.1


def test_one_directional_audits_cover_too():
    """δ_q is 1 in nine of ten edits, else 0; uncentred r° of an attribute that follows in p of them is √0.9·√p."""
    rng, p = np.random.default_rng(3), np.array([0.03, 0.05, 0.1, 0.2, 0.4])
    deltas = [edits(rng, N, p.tolist(), [1.0] * 5, np.array([0, 0.1, 0.9])) for _ in range(150)]
    found = [gap_intervals(d, NO_CORRELATION, 0, rng, centred=False, draws=200) for d in deltas]
    inside = [[g.low <= truth <= g.high for g, truth in zip(gaps[1:], np.sqrt(p), strict=True)] for gaps in found]
    assert np.mean(inside) >= 0.92
    assert (np.mean(inside, axis=0) >= 0.9).all(), np.mean(inside, axis=0)


def test_sampled_reference_is_counted_in():
    """ρ from 150 images: intervals that take it as known miss too often, those that count it in do not."""
    rng = np.random.default_rng(4)

    def reference() -> Baseline:
        q = rng.random(150) < 0.5
        return baseline(np.column_stack([q, *(rng.random(150) < 0.3 + 0.3 * q for _ in range(5))]).astype(int), 0, source="oracle")

    truth = correlations(np.full(5, 0.4), np.full(5, 0.5))[1:] - 0.3 * 0.5 / np.sqrt(0.45 * 0.55)
    counted = limits(rng, 80, [0.4] * 5, [0.5] * 5, reference)[:, 1:]
    known = limits(rng, 80, [0.4] * 5, [0.5] * 5, lambda: known_baseline(reference().rho, 0))[:, 1:]
    covers = [((found[..., 0] <= truth) & (truth <= found[..., 1])).mean() for found in (counted, known)]
    assert covers[0] >= 0.92 > covers[1], covers


def test_nothing_seen_is_not_nothing():
    """No edit moved a: the gap is -ρ with room for what 100 edits may have missed; the queried attribute has none."""
    deltas = edits(np.random.default_rng(5), N, [0.0] * 5, [0.0] * 5)
    own, side, *_ = gap_intervals(deltas, NO_CORRELATION, 0, np.random.default_rng(0))
    assert (own.low, own.high) == (0, 0)
    assert -0.3 < side.low < -0.1
    assert 0.1 < side.high < 0.3


def test_repeated_rows_of_a_unit_do_not_narrow():
    """Each edit entered four times: by units the interval is that of the 100 edits, by rows it is half as wide."""
    deltas = edits(np.random.default_rng(6), N, [0.3] * 5, [0.5] * 5)
    widths = []
    for rows, units in ((deltas, None), (np.repeat(deltas, 4, 0), np.repeat(np.arange(N), 4)), (np.repeat(deltas, 4, 0), None)):
        gaps = gap_intervals(rows, NO_CORRELATION, 0, np.random.default_rng(0), units=units)
        widths.append(np.mean([g.high - g.low for g in gaps[1:]]))
    assert widths[1] == pytest.approx(widths[0], rel=0.05)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.1)


def test_difference_interval_covers_its_mean_at_this_n():
    """Not the CD of endless images, which lies lower.  A small CD, its worst case: 92 % in 800 audits; here 120."""
    rng, setup = np.random.default_rng(7), ([0.1] * 5, [0.5] * 5)
    reference = known_baseline(np.r_[1.0, np.full(5, 0.1)], 0)
    found = [difference_interval(edits(rng, N, *setup), reference, 0, rng, draws=200) for _ in range(120)]
    mean = np.mean([one.value for one in found])
    assert np.mean([one.low <= mean <= one.high for one in found]) >= 0.87


def test_null_is_uniform_where_side_changes_are_unrelated():
    """Permutation and random signs: p at most 0.1 in about a tenth of 150 audits; and tiny for a planted tie."""
    rng = np.random.default_rng(8)
    for centred, query in ((True, QUERY), (False, np.array([0, 0.1, 0.9]))):
        p = [
            unrelated(edits(rng, N, [0.2] * 5, [0.0] * 5, query), NO_CORRELATION, 0, rng, centred=centred, draws=99).p_above
            for _ in range(150)
        ]
        assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
        tied = unrelated(edits(rng, N, [0.4] * 5, [1.0] * 5, query), NO_CORRELATION, 0, rng, centred=centred, draws=999)
        assert tied.p_above == 0.001


def test_null_of_unrelated_attributes_holds_the_noise_floor():
    """ρ = 0 and frequent changes: its mean is the floor; its value on the data comes from the same formula."""
    deltas = np.random.default_rng(9).integers(-1, 2, (200, 6))
    found = correlation_difference(deltas, NO_CORRELATION, 0)
    null = unrelated(deltas, NO_CORRELATION, 0, np.random.default_rng(0))
    assert null.mean == pytest.approx(found.noise_floor, rel=0.05)
    assert null.low < found.value < null.high


def test_edits_that_follow_the_data_beat_unrelated_ones():
    """ρ is what the edits do: CD lies below the null."""
    moved, follows = [0.4] * 5, [1.0] * 5
    reference = known_baseline(correlations(np.array(moved), np.array(follows)), 0)
    null = unrelated(edits(np.random.default_rng(10), N, moved, follows), reference, 0, np.random.default_rng(0), draws=999)
    assert (null.p_below, null.p_above) == (0.001, 1.0)


def test_nonsense_is_refused():
    deltas, rng = edits(np.random.default_rng(0), N, [0.2] * 5, [0.0] * 5), np.random.default_rng(0)
    with pytest.raises(ValueError, match="two units"):
        gap_intervals(deltas, NO_CORRELATION, 0, rng, units=np.zeros(N, int))
    with pytest.raises(ValueError, match="unit for each"):
        difference_interval(deltas, NO_CORRELATION, 0, rng, units=np.arange(5))
    with pytest.raises(ValueError, match="between 0 and 1"):
        gap_intervals(deltas, NO_CORRELATION, 0, rng, level=2)
    with pytest.raises(ValueError, match="at least one draw"):
        unrelated(deltas, NO_CORRELATION, 0, rng, draws=0)
    with pytest.raises(ValueError, match="centred=False"):
        unrelated(np.abs(deltas) | 1, NO_CORRELATION, 0, rng)

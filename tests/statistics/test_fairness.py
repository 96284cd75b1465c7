"""Observational figures against fairlearn, interventional ones by hand."""

import numpy as np
import pytest
from fairlearn import metrics as oracle
from scipy.stats import ttest_1samp

from audit_plugin.statistics import fairness as fair
from audit_plugin.statistics.bootstrap import unit_weights

N = 400


@pytest.fixture(scope="module")
def world():
    """Decisions that favour group 0, labels, three groups, resamples."""
    rng = np.random.default_rng(0)
    groups, positive = rng.integers(0, 3, N), rng.random(N) < 0.4
    decisions = rng.random(N) < 0.2 + 0.5 * positive + 0.1 * (groups == 0)
    return decisions, positive, groups, unit_weights(np.arange(N), 500, rng)


def arms(pattern):
    """Rows favourable at both levels, at a only, at b only, at neither."""
    a, b = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], pattern, axis=0).T.astype(bool)
    return a, b


def test_parity_and_impact_agree_with_fairlearn(world):
    """Two groups: difference and ratio of selection rates."""
    decisions, positive, groups, _ = world
    group = groups == 0
    theirs = oracle.demographic_parity_difference(positive, decisions, sensitive_features=group)
    assert abs(fair.statistical_parity(decisions[group], decisions[~group]).value) == pytest.approx(theirs)
    ratio = oracle.demographic_parity_ratio(positive, decisions, sensitive_features=group)
    assert fair.disparate_impact(decisions[group], decisions[~group]).value == pytest.approx(ratio)
    assert fair.disparate_impact(decisions[~group], decisions[group]).value == pytest.approx(ratio)


@pytest.mark.parametrize("mean", [False, True])
def test_equalised_odds_agrees_with_fairlearn(world, mean):
    """Three groups, worst case or mean of both rates; the interval lies around it."""
    decisions, positive, groups, weights = world
    agg = "mean" if mean else "worst_case"
    theirs = oracle.equalized_odds_difference(positive, decisions, sensitive_features=groups, agg=agg)
    found = fair.equalised_odds(decisions, positive, groups, weights, mean=mean)
    assert found.value == pytest.approx(theirs)
    assert found.low < found.high


@pytest.mark.parametrize("count", [2, 3])
def test_equal_opportunity_agrees_with_fairlearn(world, count):
    """Two groups (Newcombe) and three (bootstrap)."""
    decisions, positive, groups, weights = world
    found = fair.equal_opportunity(decisions, positive, groups % count, weights)
    theirs = oracle.equal_opportunity_difference(positive, decisions, sensitive_features=groups % count)
    assert found.value == pytest.approx(theirs)
    assert found.low <= found.value <= found.high


def test_flips_by_hand():
    """12 rows lose and 4 gain by going from a to b, of 100."""
    a, b = arms([40, 12, 4, 44])
    directed = fair.directed_flips(a, b)
    assert fair.flip_rate(a, b).value == pytest.approx(0.16)
    assert (directed.to_unfavourable.value, directed.to_favourable.value) == pytest.approx((0.12, 0.04))
    assert directed.p_symmetric == pytest.approx(0.0768, abs=1e-4)
    assert fair.parity_gap(a, b).value == pytest.approx(0.08)


def test_odds_gap_is_the_worse_of_both_classes():
    """0.5 on the positive rows, −0.25 on the negative ones."""
    positive = np.repeat([True, False], 40)
    a = np.concatenate([arms([10, 20, 0, 10])[0], arms([10, 0, 10, 20])[0]])
    b = np.concatenate([arms([10, 20, 0, 10])[1], arms([10, 0, 10, 20])[1]])
    weights = unit_weights(np.arange(80), 300, np.random.default_rng(0))
    found = fair.odds_gap(a, b, positive, weights)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


def test_excess_flips_of_a_placebo_are_none():
    """The same rows flipped by the concept and by the placebo: exactly 0; a concept that flips more: above 0."""
    rng = np.random.default_rng(0)
    placebo, weights = rng.random(200) < 0.1, unit_weights(np.arange(200), 300, rng)
    same = fair.flip_rate_excess(placebo, placebo, weights)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert fair.flip_rate_excess(placebo | (rng.random(200) < 0.3), placebo, weights).low > 0.1


def test_score_shift_is_the_paired_t_interval():
    """As scipy computes it."""
    rng = np.random.default_rng(0)
    a, b = rng.random(30), rng.random(30)
    theirs = ttest_1samp(a - b, 0).confidence_interval(0.95)
    found = fair.score_shift(a, b)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


def test_fair_share_counts_rows_that_hardly_move():
    """Over all three levels: moves of 0.02, 0.04, 0.05 and 0.2 at tolerance 0.05."""
    moves = np.array([0.02, 0.04, 0.0501, 0.2])
    scores = 0.5 + moves[:, None] * np.array([0, 0.5, 1])
    assert fair.fair_share(scores).value == 0.5


def test_parity_gap_covers():
    """400 audits of 150 rows with gap 0.06: Tango covers 93 to 98 %."""
    rng, hits = np.random.default_rng(0), 0
    for b, c in rng.multinomial(150, [0.10, 0.04, 0.86], size=400)[:, :2]:
        found = fair.parity_gap(*arms([0, b, c, 150 - b - c]))
        hits += found.low <= 0.06 <= found.high
    assert 372 <= hits <= 392


def drawings(rng, count, *, gap=0.0, copies=5, kept=1.0):
    """Rows (a, b, unit): 12 % of drawings change, each stands in several rows, and a share ``kept`` of these answers alike."""
    share = [0.06 - gap / 2, 0.88, 0.06 + gap / 2]
    units = np.repeat(np.arange(count), copies)
    own, other = rng.choice([-1, 0, 1], p=share, size=count)[units], rng.choice([-1, 0, 1], p=share, size=len(units))
    change = np.where(rng.random(len(units)) < kept, own, other)
    return change == 1, change == -1, units


@pytest.mark.parametrize(("kept", "gap"), [(1.0, 0.0), (0.7, 0.06)])
def test_parity_gap_covers_where_a_unit_has_several_rows(kept, gap):
    """500 audits of 32 drawings in five rows each; by rows it would cover 55 and 75 %."""
    rng, hits, by_rows = np.random.default_rng(1), 0, 0
    for _ in range(500):
        a, b, units = drawings(rng, 32, gap=gap, kept=kept)
        found, naive = fair.parity_gap(a, b, units), fair.parity_gap(a, b)
        hits += found.low <= gap <= found.high
        by_rows += naive.low <= gap <= naive.high
    assert 460 <= hits <= 490
    assert by_rows < 400


def test_gaps_of_repeated_drawings_are_rarely_found_by_chance():
    """200 audits of 32 drawings that change either way alike: neither gap exceeds 0.05 beyond doubt in 5 %; by rows 12 % would."""
    rng, parity, odds = np.random.default_rng(0), 0, 0
    for _ in range(200):
        a, b, units = drawings(rng, 32)
        gap, weights = fair.parity_gap(a, b, units), unit_weights(units, 2, rng)
        parity += max(gap.low, -gap.high) > 0.05
        odds += fair.odds_gap(a, b, units % 2 == 0, weights, units).low > 0.05
    assert parity <= 10
    assert odds <= 10


def test_copies_of_rows_say_no_more_than_the_rows():
    rng = np.random.default_rng(0)
    a, b = rng.random(40) < 0.6, rng.random(40) < 0.4
    found, once = fair.parity_gap(np.repeat(a, 5), np.repeat(b, 5), np.repeat(np.arange(40), 5)), fair.parity_gap(a, b)
    assert (found.low, found.high) == pytest.approx((once.low, once.high))
    same = fair.parity_gap(np.repeat(a, 5), np.repeat(a, 5), np.repeat(np.arange(40), 5))
    assert same.high == pytest.approx(fair.parity_gap(a, a).high)


def test_rows_that_are_their_own_units_keep_their_figures():
    rng = np.random.default_rng(0)
    a, b, positive = rng.random((3, 60)) < 0.5
    units, weights = np.arange(60), unit_weights(np.arange(60), 200, rng)
    assert fair.parity_gap(a, b, units) == fair.parity_gap(a, b)
    assert fair.odds_gap(a, b, positive, weights, units) == fair.odds_gap(a, b, positive, weights)


def test_empty_groups_drop_out_of_a_resample():
    """A group without weight has rate nan; spreads use the others."""
    weights = np.array([[1.0, 1.0, 1.0, 0.0]])
    rates = fair.group_rates(np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 2]), weights)
    np.testing.assert_allclose(rates, [[0.5, 1.0, np.nan]])


def test_nonsense_is_refused(world):
    """Arms of other lengths, a group without positives, one row."""
    decisions, positive, groups, weights = world
    for call in (
        lambda: fair.flip_rate(decisions, decisions[:5]),
        lambda: fair.equal_opportunity(decisions, positive & (groups == 0), groups, weights),
        lambda: fair.score_shift(np.ones(1), np.ones(1)),
    ):
        with pytest.raises(ValueError):
            call()

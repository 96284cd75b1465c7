"""Confidence sequences hold at every look, and stop when they should."""

import math

import numpy as np
import pytest

from audit_plugin.statistics.sequential import asymptotic, betting_martingale, empirical_bernstein, exceeds_e_value


def discordant(rng, n, share, drop):
    """Contributions −1, 0, 1 with a share of changed rows and a mean drop."""
    return rng.choice([1.0, -1.0, 0.0], size=n, p=[(share + drop) / 2, (share - drop) / 2, 1 - share])


@pytest.mark.parametrize("mean", [0.01, 0.1, 0.5])
def test_sequence_covers_at_all_looks_at_once(mean):
    """1,000 runs of 1,000 Bernoulli observations: at least 95 % never exclude the mean."""
    rng, truth, hits = np.random.default_rng(0), 2 * mean - 1, 0
    for _ in range(1_000):
        found = empirical_bernstein(2.0 * (rng.random(1_000) < mean) - 1, bound=1)
        hits += (found.low <= truth).all() and (truth <= found.high).all()
    assert hits >= 950


def test_sequence_follows_its_formula_step_by_step():
    """The published recursion in plain Python."""
    x, q, alpha = np.random.default_rng(1).uniform(-0.5, 0.5, 30), 0.5, 0.05
    z, mean, var, lam, wz, err, low = (x / q + 1) / 2, 0.5, 0.25, 0.0, 0.0, 0.0, []
    sum_z, sum_v = 0.5, 0.25
    for t, value in enumerate(z, start=1):
        bet = min(math.sqrt(2 * math.log(2 / alpha) / (t * math.log(1 + t) * var)), 0.5)
        lam, wz = lam + bet, wz + bet * value
        err += (value - mean) ** 2 * (-math.log(1 - bet) - bet)
        sum_z += value
        mean = sum_z / (t + 1)
        sum_v += (value - mean) ** 2
        var = sum_v / (t + 1)
        low.append(max(0.0, wz / lam - (math.log(2 / alpha) + err) / lam))
    np.testing.assert_allclose(empirical_bernstein(x, bound=q).low, q * (2 * np.maximum.accumulate(low) - 1), atol=1e-12)


def test_limits_only_tighten():
    """Running intersection."""
    found = empirical_bernstein(discordant(np.random.default_rng(0), 500, 0.2, 0.1), bound=1)
    assert (np.diff(found.low) >= 0).all()
    assert (np.diff(found.high) <= 0).all()


def test_a_clear_drop_stops_early():
    """20 % discordant, drop 0.10: the median stop against 0 is near 230 rows."""
    rng = np.random.default_rng(0)
    stops = []
    for _ in range(200):
        found = empirical_bernstein(discordant(rng, 2_000, 0.2, 0.1), bound=1)
        stops.append(np.append(np.flatnonzero(found.low > 0), 2_000)[0] + 1)
    assert 180 <= np.median(stops) <= 290


@pytest.mark.parametrize(("drop", "word"), [(0.5, "relies"), (-0.5, "hurts"), (0.0, "negligible")])
def test_each_way_to_stop(drop, word):
    """Above the margin, below it, and inside."""
    x = np.full(3_000, drop) if drop else np.zeros(3_000)
    stop = empirical_bernstein(x, bound=1).stop(0.05)
    assert stop is not None
    assert stop[1] == word


def test_no_stop_without_enough_rows():
    """Ten rows decide nothing."""
    assert empirical_bernstein(np.zeros(10), bound=1).stop(0.02) is None


def test_betting_rarely_rejects_the_truth():
    """1,000 runs: at most 5 % ever reach 1/α."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(1_000):
        alarms += betting_martingale(discordant(rng, 500, 0.2, 0.05), 0.05, bound=1).max() >= 20
    assert alarms <= 50


def test_betting_finds_an_effect_sooner():
    """The median look at which 0 is rejected comes before the empirical-Bernstein one."""
    rng, bet, bernstein = np.random.default_rng(0), [], []
    for _ in range(100):
        x = discordant(rng, 2_000, 0.2, 0.1)
        bet.append(np.append(np.flatnonzero(betting_martingale(x, 0.0, bound=1) >= 20), 2_000)[0])
        bernstein.append(np.append(np.flatnonzero(empirical_bernstein(x, bound=1).low > 0), 2_000)[0])
    assert np.median(bet) <= np.median(bernstein)


def test_e_value_has_mean_at_most_one_at_the_margin():
    """And grows when the effect is larger than the margin."""
    rng = np.random.default_rng(0)
    null = [exceeds_e_value(discordant(rng, 200, 0.3, 0.02), 0.02, bound=1) for _ in range(3_000)]
    assert np.mean(null) < 1.15
    assert exceeds_e_value(discordant(rng, 2_000, 0.3, 0.2), 0.02, bound=1) > 1_000


def test_asymptotic_sequence_waits_for_changes():
    """Infinite before 50 rows and 20 changed ones, then narrower than empirical-Bernstein."""
    x = np.tile([0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0], 100)
    found = asymptotic(x)
    first = np.flatnonzero(np.isfinite(found.low))[0]
    assert first + 1 >= 50
    assert np.count_nonzero(x[: first + 1]) == 20
    bernstein = empirical_bernstein(x, bound=1)
    assert found.high[-1] - found.low[-1] < bernstein.high[-1] - bernstein.low[-1]


def test_asymptotic_sequence_covers_when_many_rows_change():
    """300 runs at 50 % discordance: at least 93 % never exclude the mean."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        found = asymptotic(discordant(rng, 1_000, 0.5, 0.1))
        hits += found.low.max() <= 0.1 <= found.high.min()
    assert hits >= 279


def test_nonsense_is_refused():
    """Observations out of bounds; a mean or margin on the bound."""
    for call in (
        lambda: empirical_bernstein(np.array([2.0]), bound=1),
        lambda: betting_martingale(np.zeros(3), 1.0, bound=1),
        lambda: exceeds_e_value(np.zeros(3), 2.0, bound=1),
    ):
        with pytest.raises(ValueError):
            call()

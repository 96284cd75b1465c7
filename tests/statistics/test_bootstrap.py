"""Resampling units, percentile intervals, ranks."""

import time

import numpy as np
import pytest

from audit_plugin.statistics.bootstrap import bootstrap, margin_p, percentile_interval, rank_intervals, unit_weights
from audit_plugin.statistics.flip_table import importance, importances, influence_se
from audit_plugin.statistics.metrics import METRICS


def test_a_unit_is_drawn_whole():
    """Rows of one patient have one weight; the number of units drawn is the number of units."""
    units = np.array([7, 7, 3, 9, 9, 9])
    weights = unit_weights(units, 100, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(1), 3)


def test_resamples_equal_explicit_ones(random_table):
    """A weighted statistic is the statistic of the resampled rows."""
    table, metric = random_table(30), METRICS["auroc"]
    weights = unit_weights(np.arange(30), 5, np.random.default_rng(0))
    explicit = [importance(table.rows(np.repeat(np.arange(30), w.astype(int))), metric) for w in weights]
    found = bootstrap(lambda w: importances(table, metric, w), weights)
    np.testing.assert_allclose(found.samples, explicit, atol=1e-12)
    assert found.value == importance(table, metric)


def test_chunks_change_nothing(monkeypatch, random_table):
    """One resample at a time or all at once."""
    table, weights = random_table(30), unit_weights(np.arange(30), 40, np.random.default_rng(0))
    whole = bootstrap(lambda w: importances(table, METRICS["auroc"], w), weights)
    monkeypatch.setattr("audit_plugin.statistics.bootstrap.CHUNK_CELLS", 1)
    single = bootstrap(lambda w: importances(table, METRICS["auroc"], w), weights)
    np.testing.assert_allclose(single.samples, whole.samples, atol=1e-14)


def test_bootstrap_error_is_the_influence_error(planted):
    """Two roads to one standard error, within 10 %, also for clustered rows."""
    table, rng = planted(500, np.random.default_rng(0), 0), np.random.default_rng(1)
    for units in (np.arange(500), np.arange(500) // 2):
        found = bootstrap(lambda w: importances(table, METRICS["brier"], w), unit_weights(units, 2_000, rng))
        assert found.se == pytest.approx(influence_se(table, METRICS["brier"], units), rel=0.1)


@pytest.mark.parametrize("concept", [0, 3])
def test_auroc_interval_covers(concept, planted):
    """60 audits of 600 rows, 95 % interval: no fewer hits than three standard errors of the binomial law below 57."""
    rng, metric = np.random.default_rng(concept), METRICS["auroc"]
    truth = importance(planted(100_000, np.random.default_rng(77), concept), metric)
    hits = 0
    for _ in range(60):
        table = planted(600, rng, concept)
        interval = bootstrap(lambda w, t=table: importances(t, metric, w), unit_weights(np.arange(600), 300, rng)).interval()
        hits += interval.low <= truth <= interval.high
    assert hits >= 52


def test_seven_auroc_concepts_take_seconds(planted):
    """2,000 resamples, 500 rows, 7 concepts: far below a minute."""
    rng, start = np.random.default_rng(0), time.process_time()
    weights = unit_weights(np.arange(500), 2_000, rng)
    for concept in (0, 1, 2, 3, 4, 5, 0):
        table = planted(500, rng, concept)
        bootstrap(lambda w, t=table: importances(t, METRICS["auroc"], w), weights)
    assert time.process_time() - start < 20


def test_undefined_draws_are_left_out():
    """A resample without positives does not spoil the interval; none left gives nan limits."""
    interval = percentile_interval(0.5, np.array([0.0, np.nan, 1.0]), level=0.5)
    assert (interval.low, interval.high) == (0.25, 0.75)
    assert np.isnan(percentile_interval(0.5, np.array([np.nan])).low)


def test_margin_p_counts_draws_at_or_below():
    """(1 + #)/(B + 1)."""
    assert margin_p(np.array([0.01, 0.02, 0.03]), 0.02) == 0.75


def test_ranks_of_clear_and_of_tied_concepts():
    """A clear first is first; two equal ones share second and third place."""
    rng = np.random.default_rng(0)
    samples = np.stack([rng.normal(1, 0.01, 500), rng.normal(0, 0.1, 500), rng.normal(0, 0.1, 500)], axis=1)
    first, *rest = rank_intervals(samples)
    assert (first.low, first.high, first.p_first) == (1, 1, 1.0)
    assert all((other.low, other.high, other.p_first) == (2, 3, 0.0) for other in rest)


def test_equal_importances_share_first_place():
    """Probabilities of being first sum to one."""
    equal = rank_intervals(np.zeros((10, 4)))
    assert [r.p_first for r in equal] == [0.25] * 4
    assert {(r.low, r.high) for r in equal} == {(2, 3)}


def test_nonsense_is_refused():
    """One unit cannot be resampled; ranks need numbers."""
    with pytest.raises(ValueError, match="two units"):
        unit_weights(np.zeros(5, int), 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match="finite"):
        rank_intervals(np.full((3, 2), np.nan))

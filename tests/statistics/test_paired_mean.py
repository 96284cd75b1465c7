import numpy as np
import pytest
from scipy import stats

from audit_plugin.statistics.bootstrap import unit_weights
from audit_plugin.statistics.paired_mean import bootstrap_t, mean_intervals, sign_flips, student_interval, studentised


def test_students_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=17)
    found, wanted = student_interval(values), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_studentised_means_are_t_statistics_of_resamples():
    """A resample written out: its t is that of its own mean and spread."""
    values = np.array([0.1, 0.5, -0.2, 0.9, 0.4])
    weights = np.array([[2.0, 1, 1, 1, 0]])
    drawn = np.array([0.1, 0.1, 0.5, -0.2, 0.9])
    wanted = (drawn.mean() - values.mean()) / (drawn.std(ddof=1) / np.sqrt(5))
    assert studentised(values, weights)[0] == pytest.approx(wanted)


def test_a_skewed_sample_has_a_lopsided_interval():
    values = np.random.default_rng(1).exponential(size=40)
    found = bootstrap_t(values, unit_weights(np.arange(40), 2_000, np.random.default_rng(2)))
    assert found.high - found.value > 1.2 * (found.value - found.low)


def test_constant_values_have_no_width_and_do_not_divide_by_zero():
    found = mean_intervals(np.full(40, 0.3), np.random.default_rng(0))
    assert (found.interval.low, found.interval.high, found.low_n) == (0.3, 0.3, False)


def test_the_interval_of_equivalence_is_narrower():
    found = mean_intervals(np.random.default_rng(3).normal(size=50), np.random.default_rng(4))
    assert found.interval.low < found.equivalence.low < found.equivalence.high < found.interval.high


@pytest.mark.parametrize(("n", "low"), [(31, True), (32, False)])
def test_few_values_are_flagged(n, low):
    assert mean_intervals(np.arange(n, dtype=float), np.random.default_rng(0), draws=50).low_n is low


def test_missing_values_and_empty_rows_in_sign_flips():
    values = np.array([[1.0, 1.0, 1.0, np.nan], [np.nan] * 4, [0.0, 0.0, 0.0, 0.0]])
    assert sign_flips(values, np.random.default_rng(0)).tolist() == [0.25, 1.0, 1.0]


def test_sign_flips_of_no_effect_are_uniform():
    values = np.random.default_rng(5).normal(size=(400, 20))
    p = sign_flips(values, np.random.default_rng(6), rounds=999)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="two values"):
        student_interval(np.ones(1))
    with pytest.raises(ValueError, match="confidence level"):
        student_interval(np.ones(3), level=1.5)

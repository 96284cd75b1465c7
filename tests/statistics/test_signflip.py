"""Sign-flip and exact tests: enumeration, size, power, and the interval for few changes."""

from itertools import product

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from audit_plugin.statistics.flip_table import row_contributions
from audit_plugin.statistics.metrics import METRICS
from audit_plugin.statistics.signflip import few_changed, few_said, margin_test, mcnemar_exact, sign_flip, sparse_interval

RNG = np.random.default_rng


def test_exact_test_enumerates_all_signs():
    """Eight rows by brute force; zeros change nothing but the mean."""
    x = RNG(0).normal(0.3, 1, 8)
    totals = [np.dot(signs, x) for signs in product([-1, 1], repeat=8)]
    found = sign_flip(np.concatenate([x, np.zeros(50)]), RNG(0))
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.abs(totals) >= abs(x.sum()) - 1e-12))
    assert (found.nonzero, found.statistic) == (8, pytest.approx(x.sum() / 58))


def test_random_test_agrees_with_the_exact_one(monkeypatch):
    """The same 18 rows both ways."""
    x = RNG(1).normal(0.4, 1, 18)
    exact = sign_flip(x, RNG(0)).p
    monkeypatch.setattr("audit_plugin.statistics.signflip.EXACT_UP_TO", 0)
    found = sign_flip(x, RNG(0), rounds=20_000)
    assert not found.exact
    assert found.p == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 7), (5, 5), (2, 12), (30, 11)])
def test_mcnemar_agrees_with_statsmodels(only_a, only_b):
    """The exact binomial version."""
    assert mcnemar_exact(only_a, only_b) == pytest.approx(mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)


def test_unweighted_sign_flip_is_exact_mcnemar():
    """With 0/1 loss and q dropped."""
    x = np.repeat([1.0, -1.0, 0.0], [12, 3, 100])
    assert sign_flip(x, RNG(0)).p == pytest.approx(mcnemar_exact(12, 3))


def test_no_change_is_no_evidence():
    """All zero: p is 1."""
    assert sign_flip(np.zeros(100), RNG(0)).p == 1


@pytest.mark.parametrize("name", ["accuracy", "brier"])
def test_size_on_an_irrelevant_concept(name, planted):
    """400 audits of 400 rows at nominal 5 %: between 2 % and 8 % alarms."""
    rng = RNG(0)
    tables = (planted(400, rng, 3) for _ in range(400))
    alarms = [sign_flip(row_contributions(table, METRICS[name]), rng, rounds=199).p <= 0.05 for table in tables]
    assert 0.02 <= np.mean(alarms) <= 0.08


def test_power_on_a_used_concept(planted):
    """A concept worth 0.04 AUROC is found at 1,000 rows, with the smallest possible p."""
    found = sign_flip(row_contributions(planted(1_000, RNG(0), 1), METRICS["brier"]), RNG(1))
    assert found.p == pytest.approx(1 / 10_000)


def test_rows_of_one_unit_share_a_sign():
    """Copies of a row under one unit are no further evidence."""
    x = RNG(0).normal(0.5, 1, 12)
    copied = sign_flip(np.tile(x, 5), RNG(0), units=np.tile(np.arange(12), 5))
    assert copied.p == pytest.approx(sign_flip(x, RNG(0)).p)


def test_margin_test_is_one_sided():
    """Half at the margin itself; certain without error."""
    assert margin_test(0.02, 0.01, 0.02) == pytest.approx(0.5)
    assert (margin_test(0.03, 0, 0.02), margin_test(0.01, 0, 0.02)) == (0.0, 1.0)


@pytest.mark.parametrize(("rise", "fall"), [(0.0, 0.0), (0.01, 0.0), (0.02, 0.01), (0.005, 0.02)])
def test_sparse_interval_covers_when_few_rows_change(rise, fall):
    """500 audits of 300 rows of size 1/2: at least 95 % cover."""
    rng, hits = RNG(0), 0
    for _ in range(500):
        x = rng.choice([0.5, -0.5, 0.0], size=300, p=[rise, fall, 1 - rise - fall])
        interval = sparse_interval(x, bound=0.5)
        hits += interval.low <= 0.5 * (rise - fall) <= interval.high
    assert hits >= 475


def test_sparse_interval_without_changes_is_not_empty():
    """300 rows without a change still allow an effect of about 4.4/300 times the bound."""
    interval = sparse_interval(np.zeros(300), bound=0.5)
    assert interval.high == pytest.approx(-interval.low)
    assert interval.high == pytest.approx(0.5 * (1 - 0.0125 ** (1 / 300)))


def test_rows_of_a_unit_are_one_observation():
    """Forty patients of five rows say as much as forty rows, however the rows' sizes are spread over the patients."""
    units = np.repeat(np.arange(40), 5)
    alone = sparse_interval(np.zeros(40), bound=0.5)
    assert sparse_interval(np.zeros(200), bound=0.5, units=units) == alone
    assert sparse_interval(np.zeros(200), bound=0.5).high < 0.25 * alone.high
    x = np.where(units < 3, 0.1, 0.0)
    by_units = sparse_interval(x, bound=0.5, units=units)
    assert by_units.value == pytest.approx(x.mean())
    assert by_units.low == pytest.approx(sparse_interval(np.where(np.arange(40) < 3, 0.1, 0.0), bound=0.5).low)


def test_units_that_nearly_all_change_are_not_few():
    """A dozen patients of whom all react: how they differ decides, and the shares of those that rose and fell know nothing of it."""
    dozen = np.repeat(np.arange(12), 20)
    assert not few_changed(np.ones(240), dozen)
    assert few_changed(np.where(dozen < 6, 1.0, 0.0), dozen)
    assert not few_changed(np.ones(200), np.arange(200))
    assert few_changed(np.ones(19), np.arange(19))
    assert few_changed(np.ones(19))
    cancels = np.where(np.arange(240) % 2, 0.3, -0.3)
    assert few_changed(cancels, dozen)
    assert few_said(cancels, dozen) == "only 0 units, by the sums of their rows,"
    assert few_said(np.where(dozen < 6, 1.0, 0.0), dozen) == "only 6 units, by the sums of their rows,"
    assert few_said(np.eye(240)[0], dozen) == "only 1 rows"


def test_what_cancels_within_a_unit_says_no_more_than_nothing():
    """Rows that rise and fall alike in one patient, but for rounding, and a patient with a single row that moves."""
    units = np.repeat(np.arange(100), 4)
    cancelled = np.zeros(400)
    cancelled[:4] = 0.1, 0.2, -0.1, -0.2
    none = sparse_interval(np.zeros(400), bound=0.5, units=units)
    assert sparse_interval(cancelled, bound=0.5, units=units) == none
    cancelled[0] = 0.102
    assert sparse_interval(cancelled, bound=0.5, units=units).high > 0.2 * none.high
    uneven = np.r_[np.repeat(np.arange(10), 20), np.arange(10, 100)]
    one = np.where(np.arange(len(uneven)) == len(uneven) - 1, 0.5, 0.0)
    assert sparse_interval(one, bound=0.5, units=uneven).high >= 0.5 * sparse_interval(np.eye(100)[0] * 0.5, bound=0.5).high


def test_nonsense_is_refused():
    """Missing contributions, sizes over the bound, negative errors and counts."""
    for call in (
        lambda: sign_flip(np.array([np.nan]), RNG(0)),
        lambda: sparse_interval(np.array([2.0]), bound=1.0),
        lambda: margin_test(0, -1, 0),
        lambda: mcnemar_exact(-1, 2),
    ):
        with pytest.raises(ValueError):
            call()

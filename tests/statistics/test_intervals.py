"""Published worked examples, an independent library, and exact coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from audit_plugin.statistics.intervals import (
    Interval,
    clopper_pearson,
    katz,
    newcombe,
    normal,
    paired_difference,
    tango,
    wilson,
)

LIMITS = st.tuples(*(st.floats(-1, 1, allow_nan=False) for _ in range(3)))
COUNTS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def limits(interval):
    return interval.low, interval.high


@pytest.mark.parametrize(
    ("hits", "n", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_single_proportions_of_newcombe_1998(hits, n, score, exact):
    """Table I of "Two-sided confidence intervals for the single proportion"."""
    assert limits(wilson(hits, n)) == pytest.approx(score, abs=1e-4)
    assert limits(clopper_pearson(hits, n)) == pytest.approx(exact, abs=1e-4)


@given(COUNTS)
def test_single_proportions_agree_with_statsmodels(counts):
    """Wilson and Clopper-Pearson for any counts."""
    assert limits(wilson(*counts)) == pytest.approx(proportion_confint(*counts, method="wilson"), abs=1e-9)
    assert limits(clopper_pearson(*counts)) == pytest.approx(proportion_confint(*counts, method="beta"), abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 10), (0.6075, 1.0000)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
    ],
)
def test_differences_of_newcombe_1998(counts, expected):
    """Method 10 in Table II of "Interval estimation for the difference between independent proportions"."""
    assert limits(newcombe(*counts)) == pytest.approx(expected, abs=1e-4)


@given(COUNTS, COUNTS)
def test_differences_agree_with_statsmodels(a, b):
    """The hybrid score interval for any counts."""
    theirs = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff")
    assert limits(newcombe(*a, *b)) == pytest.approx(theirs, abs=1e-9)


def test_ratio_of_the_aspirin_trial():
    """Heart attacks 189/11,034 on placebo, 104/11,037 on aspirin: 1.82, logarithm 0.360 to 0.835 (Agresti 2002, section 3.1)."""
    found = katz(189, 11_034, 104, 11_037)
    assert found.value == pytest.approx(1.82, abs=5e-3)
    assert np.log(limits(found)) == pytest.approx((0.360, 0.835), abs=1e-3)


def test_ratio_agrees_with_statsmodels():
    """Filled cells: the log method; an empty cell: the same after adding one half to every cell."""
    assert limits(katz(12, 40, 25, 50)) == pytest.approx(confint_proportions_2indep(12, 40, 25, 50, method="log", compare="ratio"))
    assert limits(katz(0, 40, 25, 50)) == pytest.approx(
        confint_proportions_2indep(0.5, 41, 25.5, 51, method="log", compare="ratio")
    )


def test_tango_of_the_airway_trial():
    """Children before and after stem cell transplantation (1, 1, 7, 12): −0.517 to −0.026, Fagerland et al. 2014."""
    assert limits(tango(1, 7, 21)) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(12, 5, 60), (0, 9, 40), (3, 0, 25), (0, 0, 30), (20, 20, 45)])
def test_tango_limits_solve_the_score_equation(only_a, only_b, n):
    """At both limits the score with numerically maximised nuisance is ±1.96."""
    found = tango(only_a, only_b, n)
    for delta, sign in ((found.low, 1), (found.high, -1)):

        def minus_likelihood(q, delta=delta):
            p_a, p_b = q + delta, q
            terms = [(only_a, p_a), (only_b, p_b), (n - only_a - only_b, 1 - p_a - p_b)]
            return -sum(count * np.log(max(p, 1e-300)) for count, p in terms if count)

        bounds = (max(0.0, -delta), (1 - delta) / 2)
        q = minimize_scalar(minus_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        score = (only_a - only_b - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))
        assert score == pytest.approx(sign * 1.96, abs=1e-3)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_tango_is_antisymmetric_and_bounded(only_a, only_b, rest):
    """Swapping the arms mirrors the interval; it stays within ±1 around the difference."""
    n = only_a + only_b + rest + 1
    found, mirrored = tango(only_a, only_b, n), -tango(only_b, only_a, n)
    assert limits(found) == pytest.approx(limits(mirrored), abs=1e-6)
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_tango_when_every_pair_is_discordant():
    """The upper limit is 1, the lower is inside."""
    found = tango(8, 0, 8)
    assert found.high == 1
    assert 0 < found.low < 1


def test_paired_difference_is_the_error_of_the_mean():
    """SE² is the variance of the −1/0/1 differences over n."""
    x = np.repeat([1.0, -1.0, 0.0], [12, 5, 43])
    expected = normal(float(x.mean()), float(x.std() / np.sqrt(60)))
    assert limits(paired_difference(12, 5, 60)) == pytest.approx(limits(expected))


@pytest.mark.parametrize("n", [15, 60])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5])
def test_clopper_pearson_covers_exactly(n, p):
    """Summed over all outcomes, never below 95 %; Wilson is never far below."""
    cover = {
        kind: sum(binom.pmf(k, n, p) for k in range(n + 1) if kind(k, n).low <= p <= kind(k, n).high)
        for kind in (clopper_pearson, wilson)
    }
    assert cover[clopper_pearson] >= 0.95
    assert cover[wilson] >= 0.91


def test_an_interval_lies_inside_a_margin_or_not():
    """Strictly on both sides."""
    assert Interval(0, -0.01, 0.01).inside(0.02)
    assert not Interval(0, -0.01, 0.02).inside(0.02)
    assert not Interval(0, -0.03, 0.01).inside(0.02)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: clopper_pearson(-1, 5),
        lambda: newcombe(1, 2, 3, 0),
        lambda: katz(1, 2, 3, 2),
        lambda: tango(3, 3, 5),
        lambda: normal(0.0, float("nan")),
        lambda: wilson(1, 2, level=95),
    ],
)
def test_nonsense_is_refused(call):
    """Impossible counts, errors and levels."""
    with pytest.raises(ValueError, match=r"need|level|error"):
        call()


@given(LIMITS, st.floats(0, 1))
def test_an_interval_reaches_at_least_as_far_as_asked(three, least):
    """And no limit comes closer, nor moves where it lay far enough."""
    low, value, high = sorted(three)
    found = Interval(value, low, high).reaching(least)
    assert found.value == value
    assert limits(found) == (min(low, value - least), max(high, value + least))


def test_what_has_no_limits_reaches_nowhere():
    undefined = Interval(0.0, float("nan"), float("nan"))
    assert undefined.reaching(0.1) is undefined
    with pytest.raises(ValueError, match="reaches a number >= 0"):
        Interval(0, -1, 1).reaching(-0.1)

"""Losses and areas against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from audit_plugin.statistics.metrics import METRICS, brier, chance, log_loss, weighted_auroc, weighted_aurocs, zero_one

SCORES = np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]])
LABELS = np.array([0, 0, 1])


def test_losses_by_hand():
    """0/1, Brier and log-loss of three rows."""
    np.testing.assert_allclose(zero_one(SCORES, LABELS), [0, 1, 1])
    np.testing.assert_allclose(brier(SCORES, LABELS), [0.09, 0.64, 0.25])
    np.testing.assert_allclose(log_loss(SCORES, LABELS), -np.log([0.7, 0.2, 0.5]))


def test_log_loss_is_clipped_at_its_range():
    """A score of 0 costs the stated range, not infinity."""
    loss = log_loss(np.array([[0.0, 1.0]]), np.array([0]))
    assert loss[0] == METRICS["log_loss"].loss_range


@pytest.mark.parametrize("name", ["accuracy", "brier", "log_loss"])
def test_additive_performance_is_its_mean_loss_turned(name):
    """Higher is better for every metric."""
    metric = METRICS[name]
    offset = 1.0 if name == "accuracy" else 0.0
    assert metric.performance(SCORES, LABELS) == pytest.approx(offset - metric.row_losses(SCORES, LABELS).mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 25), st.integers(0, 10_000))
def test_weighted_area_equals_all_pairs(n, seed):
    """Σ over positive-negative pairs of w_i w_k (1 above, ½ tied) / total, with many ties."""
    rng = np.random.default_rng(seed)
    scores, weights = rng.integers(0, 5, n) / 4, rng.random(n)
    positive = np.arange(n) % 2 == 0
    wins = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = weights[:, None] * weights * positive[:, None] * ~positive
    assert weighted_auroc(scores, positive, weights) == pytest.approx((wins * pairs).sum() / pairs.sum())


def test_area_equals_the_rank_sum():
    """Unweighted, it is the Mann-Whitney statistic."""
    rng = np.random.default_rng(1)
    scores, positive = rng.normal(size=300).round(1), rng.random(300) < 0.3
    m = positive.sum()
    u = rankdata(scores)[positive].sum() - m * (m + 1) / 2
    assert weighted_auroc(scores, positive, np.ones(300)) == pytest.approx(u / (m * (300 - m)))


def test_area_without_positive_weight_is_undefined():
    """A resample without positives answers nan, the others stay."""
    weights = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    areas = weighted_aurocs(np.array([0.1, 0.2, 0.9]), np.array([False, False, True]), weights)
    np.testing.assert_array_equal(areas, [1.0, np.nan])


def test_macro_area_is_the_mean_over_classes(random_table):
    """One-vs-rest over three classes."""
    table = random_table(60, classes=3)
    each = [weighted_auroc(table.baseline[:, c], table.labels == c, np.ones(60)) for c in range(3)]
    assert METRICS["auroc"].performance(table.baseline, table.labels) == pytest.approx(np.mean(each))


def test_two_classes_need_one_area(random_table):
    """With two classes one-vs-rest is the same from either side."""
    table = random_table(60)
    flipped = METRICS["auroc"].performance(table.baseline[:, ::-1], 1 - table.labels)
    assert METRICS["auroc"].performance(table.baseline, table.labels) == pytest.approx(flipped)


def test_chance_is_what_a_constant_reaches():
    """Majority share, −p(1−p), −entropy, one half."""
    labels = np.array([0, 1, 1, 1])
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    found = [chance(METRICS[name], labels, 2) for name in ("accuracy", "brier", "log_loss", "auroc")]
    np.testing.assert_allclose(found, [0.75, -0.1875, -entropy, 0.5])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.ones((3, 1)), np.zeros(3, int), "k >= 2"),
        (np.full((2, 2), np.nan), np.zeros(2, int), "2 rows of scores are not finite"),
        (np.ones((2, 2)), np.array([0, 2]), "index 2 score columns"),
        (np.ones((2, 2)), np.array([0]), "as many labels"),
    ],
)
def test_nonsense_is_refused(scores, labels, message):
    """Shapes, values and labels that cannot be meant."""
    from audit_plugin.statistics.metrics import check_scores

    with pytest.raises(ValueError, match=message):
        check_scores(scores, labels)


def test_rank_metrics_have_no_row_loss():
    """And say what to use instead; one class alone has no area."""
    with pytest.raises(ValueError, match="use accuracy"):
        METRICS["auroc"].row_losses(SCORES, LABELS)
    with pytest.raises(ValueError, match="two classes"):
        METRICS["auroc"].performance(SCORES, np.zeros(3, int))

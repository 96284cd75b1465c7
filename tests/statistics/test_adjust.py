"""Weak and leaky generators with known truth: each adjustment repairs what it is for."""

import numpy as np
import pytest

from audit_plugin.statistics.adjust import (
    compliance_scaled,
    complied,
    contrasts,
    leak_adjusted,
    leak_coefficients,
    log_scores,
    ratio,
    true_change,
)
from audit_plugin.statistics.bootstrap import Bootstrap, bootstrap, unit_weights
from audit_plugin.statistics.flip_table import FlipTable, importance, importances
from audit_plugin.statistics.metrics import METRICS

N, BETA = 1_500, np.array([2.0, 1.0, -0.5])
BRIER = METRICS["brier"]


def two_columns(logit):
    p = 1 / (1 + np.exp(-logit))
    return np.stack([1 - p, p], axis=-1)


def audit(seed, comply, leak):
    """Linear model of three concepts; a flip succeeds with probability comply and drags the next concept along with leak."""
    rng = np.random.default_rng(seed)
    c = rng.integers(0, 2, (N, 3))
    logit = (c - 0.5) @ BETA + rng.normal(0, 0.5, N)
    labels = (rng.random(N) < two_columns(logit)[:, 1]).astype(int)
    ideal, real, changes = [], [], []
    for j in range(3):
        change = np.zeros((N, 3))
        change[:, j] = (1 - 2 * c[:, j]) * (rng.random(N) < comply)
        spill = (j + 1) % 3
        change[:, spill] = (1 - 2 * c[:, spill]) * (rng.random(N) < leak)
        ideal.append(table_of(logit, (1 - 2 * c[:, j]) * BETA[j], c[:, j], labels))
        real.append(table_of(logit, change @ BETA, c[:, j], labels))
        changes.append(change)
    return ideal, real, changes


def table_of(logit, shift, values, labels):
    flips = np.repeat(two_columns(logit)[:, None], 2, axis=1)
    flips[np.arange(N), 1 - values] = two_columns(logit + shift)
    return FlipTable(baseline=two_columns(logit), flips=flips, values=values, labels=labels)


def test_leak_adjustment_recovers_single_concept_importance():
    """Weak and leaky edits of a linear model with perfect readings: exact, where the plain estimate is not."""
    ideal, real, changes = audit(0, comply=0.6, leak=0.3)
    deltas = [log_scores(t.flips[np.arange(N), 1 - t.values]) - log_scores(t.baseline) for t in real]
    beta = leak_coefficients(np.concatenate(deltas), np.concatenate(changes))
    np.testing.assert_allclose(beta[:, 1] - beta[:, 0], BETA, atol=1e-9)
    for j in range(3):
        assert importance(leak_adjusted(real[j], beta[j]), BRIER) == pytest.approx(importance(ideal[j], BRIER), abs=1e-9)
    assert abs(importance(real[2], BRIER) - importance(ideal[2], BRIER)) > 0.005


def test_compliance_scaling_repairs_weak_edits():
    """Six of ten flips succeed: the scaled interval holds the truth, the plain value is 40 % short."""
    ideal, real, changes = audit(1, comply=0.6, leak=0.0)
    weights = unit_weights(np.arange(N), 400, np.random.default_rng(0))
    table, own = real[0], real[0].values
    read, asked = np.concatenate([own, own + changes[0][:, 0].astype(int)]), np.concatenate([own, 1 - own])
    kappa = bootstrap(lambda w: contrasts(read, asked, np.concatenate([w, w], axis=1)), weights)
    plain = bootstrap(lambda w: importances(table, BRIER, w), weights)
    truth, scaled = importance(ideal[0], BRIER), compliance_scaled(plain, kappa)
    assert scaled is not None
    assert scaled.low < truth < scaled.high
    assert plain.value / truth == pytest.approx(0.6, abs=0.06)
    assert kappa.value == pytest.approx(0.6, abs=0.04)


def test_flipped_pictures_alone_count_a_failed_edit_twice():
    """Six of ten flips succeed: 0.6 seen when added, 0.4 still seen when removed, contrast 0.2."""
    own, works = np.repeat([0, 1], 500), np.tile(np.repeat([True, False], [300, 200]), 2)
    read = np.where(works, 1 - own, own)
    assert contrasts(read, 1 - own, np.ones((1, 1_000)))[0] == pytest.approx(0.2)


def test_per_protocol_rows_give_the_ideal_answer_here():
    """Only rows whose asked concept alone changed, in a model without unusual rows."""
    ideal, real, changes = audit(2, comply=0.6, leak=0.3)
    before = np.column_stack([t.values for t in real])
    keep = complied(before, before + changes[1].astype(int), 1, 1 - before[:, 1])
    assert 0.3 < keep.mean() < 0.55
    assert importance(real[1].rows(keep), BRIER) == pytest.approx(importance(ideal[1].rows(keep), BRIER))


def test_contrast_by_hand():
    """3 of 4 seen when asked for, 1 of 4 when asked against; undefined without one side."""
    read, asked = np.array([1, 1, 1, 0, 1, 0, 0, 0.0]), np.repeat([1, 0], 4)
    weights = np.stack([np.ones(8), np.repeat([1.0, 0.0], 4)])
    np.testing.assert_allclose(contrasts(read, asked, weights), [0.5, np.nan])


def test_scaled_importance_is_withheld_for_edits_that_fail():
    """Below κ = 0.2, or undefined."""
    figure = Bootstrap(value=0.1, samples=np.full(10, 0.1))
    for kappa in (0.19, float("nan")):
        assert compliance_scaled(figure, Bootstrap(value=kappa, samples=np.full(10, 0.19))) is None


def test_ratio_keeps_the_denominator_off_zero():
    """Draws at 0 count as the floor; other resamples are refused."""
    top = Bootstrap(value=0.1, samples=np.array([0.1, 0.1]))
    found = ratio(top, Bootstrap(value=0.5, samples=np.array([0.5, 0.0])))
    np.testing.assert_allclose(found.samples, [0.2, 2.0])
    with pytest.raises(ValueError, match="same resamples"):
        ratio(top, Bootstrap(value=0.5, samples=np.ones(3)))


def test_detector_error_is_divided_out():
    """Readings of a detector with sensitivity 0.9 and specificity 0.8 change by 0.7 per true change."""
    np.testing.assert_allclose(true_change(np.array([0.7, -0.35]), 0.9, 0.8), [1, -0.5])
    with pytest.raises(ValueError, match="no better than chance"):
        true_change(np.ones(1), 0.5, 0.5)


def test_leak_adjustment_needs_binary_concepts_and_matching_rows(random_table):
    """Explicit refusals."""
    with pytest.raises(ValueError, match="binary"):
        leak_adjusted(random_table(10, levels=3), np.zeros(2))
    with pytest.raises(ValueError, match="score changes"):
        leak_coefficients(np.zeros((3, 2)), np.zeros((4, 1)))

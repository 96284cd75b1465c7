"""The estimator against explicit permutations, brute force and the formulas it was derived from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_plugin.statistics import flip_table as ft
from audit_plugin.statistics.metrics import METRICS

ADDITIVE = ["accuracy", "brier", "log_loss"]


def explicit_drops(table, metric, permutations, seed=0):
    """The paper's procedure: shuffle the column, take each row's scores at its new value, evaluate."""
    rng = np.random.default_rng(seed)
    rows, base = np.arange(len(table)), metric.performance(table.baseline, table.labels)
    columns = (rng.permutation(table.values) for _ in range(permutations))
    return np.array([base - metric.performance(table.flips[rows, column], table.labels) for column in columns])


@pytest.mark.parametrize("name", ADDITIVE)
@pytest.mark.parametrize("levels", [2, 4])
def test_importance_is_the_mean_of_explicit_permutations(name, levels, random_table):
    """Within four Monte-Carlo standard errors of 5,000 shuffles."""
    table = random_table(60, levels, seed=levels)
    drops = explicit_drops(table, METRICS[name], 5_000)
    error = drops.std() / np.sqrt(len(drops))
    assert abs(ft.importance(table, METRICS[name]) - drops.mean()) < 4 * error


@pytest.mark.parametrize("concept", [0, 1, 3])
def test_rank_form_is_the_mean_of_explicit_permutations(concept, planted):
    """Within 0.001 at 500 rows."""
    table = planted(500, np.random.default_rng(concept), concept)
    drops = explicit_drops(table, METRICS["auroc"], 2_000)
    assert ft.importance(table, METRICS["auroc"]) == pytest.approx(drops.mean(), abs=1e-3)


@pytest.mark.parametrize("name", ADDITIVE)
@pytest.mark.parametrize("levels", [2, 3])
def test_excluding_self_is_e_switch_exactly(name, levels, random_table):
    """All ordered pairs of different rows, as in Fisher, Rudin and Dominici 2019, at 30 rows."""
    table, metric = random_table(30, levels), METRICS[name]
    pairs = [(i, k) for i in range(30) for k in range(30) if i != k]
    rows, donors = np.array(pairs).T
    switched = metric.row_losses(table.flips[rows, table.values[donors]], table.labels[rows]).mean()
    truth = switched - metric.row_losses(table.baseline, table.labels).mean()
    assert ft.importance(table, metric, exclude_self=True) == pytest.approx(truth, rel=1e-12)
    assert ft.importance(table, metric) * 30 / 29 == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("name", ADDITIVE)
def test_binary_importance_is_made_of_removing_and_adding(name, random_table):
    """Δ = p(1−p)(D⁻ + D⁺) and Δ* = (D⁻ + D⁺)/4."""
    table, metric, one = random_table(80), METRICS[name], np.ones((1, 80))
    p = table.shares[1]
    both = ft.removed(table, metric, one)[0] + ft.added(table, metric, one)[0]
    assert ft.importance(table, metric) == pytest.approx(p * (1 - p) * both)
    assert ft.prevalence_free(table, metric) == pytest.approx(both / 4)


def test_removing_is_the_mean_rise_over_rows_that_have_it(random_table):
    """D⁻ by its definition."""
    table, metric = random_table(80), METRICS["brier"]
    has = table.values == 1
    rise = metric.row_losses(table.flips[has, 0], table.labels[has]) - metric.row_losses(table.baseline[has], table.labels[has])
    assert ft.removed(table, metric, np.ones((1, 80)))[0] == pytest.approx(rise.mean())


@pytest.mark.parametrize("name", list(METRICS))
def test_prevalence_free_importance_is_that_of_a_balanced_set(name, random_table):
    """Repeating rows until both levels are equally common gives the same number."""
    table = random_table(40, seed=3)
    rows = [np.flatnonzero(table.values == level) for level in (0, 1)]
    balanced = np.concatenate([np.repeat(rows[0], len(rows[1])), np.repeat(rows[1], len(rows[0]))])
    expected = ft.importance(table.rows(balanced), METRICS[name])
    assert ft.prevalence_free(table, METRICS[name]) == pytest.approx(expected)


@pytest.mark.parametrize("name", list(METRICS))
@pytest.mark.parametrize("exclude_self", [False, True])
def test_weights_mean_repeated_rows(name, exclude_self, random_table):
    """An integer weight is a row that occurs as often: what the bootstrap rests on."""
    table = random_table(40, levels=3, classes=3)
    weights = np.random.default_rng(0).integers(0, 4, (1, 40)).astype(float)
    repeated = table.rows(np.repeat(np.arange(40), weights[0].astype(int)))
    expected = ft.importance(repeated, METRICS[name], exclude_self=exclude_self)
    assert ft.importances(table, METRICS[name], weights, exclude_self=exclude_self)[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", ADDITIVE)
def test_conditional_importance_is_the_weighted_sum_over_strata(name, random_table):
    """Σ_b w_b Δ_b, each stratum permuted by itself."""
    table, strata = random_table(90), np.arange(90) % 3
    each = [ft.importance(table.rows(strata == b), METRICS[name]) for b in range(3)]
    assert ft.importance(table, METRICS[name], strata=strata) == pytest.approx(np.mean(each))


def test_conditional_rank_form_is_the_mean_of_explicit_permutations(planted):
    """Shuffling within strata, within 0.001 at 500 rows."""
    table, strata, metric = planted(500, np.random.default_rng(5), 0), np.arange(500) % 3, METRICS["auroc"]
    rng, base, scores = np.random.default_rng(0), metric.performance(table.baseline, table.labels), []
    for _ in range(1_500):
        column = table.values.copy()
        for b in range(3):
            column[strata == b] = rng.permutation(column[strata == b])
        scores.append(metric.performance(table.flips[np.arange(500), column], table.labels))
    assert ft.importance(table, metric, strata=strata) == pytest.approx(base - np.mean(scores), abs=1e-3)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_flip_that_is_not_allowed_is_not_made(name, random_table):
    """Forbidding it equals a model that does not react to it; forbidding all leaves exactly nothing."""
    table = random_table(50)
    allowed = np.random.default_rng(1).random((50, 2)) < 0.5
    deaf = np.where(allowed[:, :, None], table.flips, table.baseline[:, None, :])
    deaf_table = ft.FlipTable(baseline=table.baseline, flips=deaf, values=table.values, labels=table.labels)
    expected = ft.importance(deaf_table, METRICS[name])
    assert ft.importance(table, METRICS[name], allowed=allowed) == pytest.approx(expected)
    assert ft.importance(table, METRICS[name], allowed=np.zeros((50, 2), bool)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_deaf_model_has_no_importance(name, random_table):
    """Flips that change no score give exactly 0, with rows or resamples."""
    table = random_table(50)
    same = np.repeat(table.baseline[:, None], 2, axis=1)
    deaf = ft.FlipTable(baseline=table.baseline, flips=same, values=table.values, labels=table.labels)
    weights = np.random.default_rng(0).multinomial(50, np.full(50, 0.02), 20).astype(float)
    np.testing.assert_allclose(ft.importances(deaf, METRICS[name], weights), 0, atol=1e-12)


def test_planted_auroc_drops_are_found(planted):
    """Truth of the simulation from 300-400 thousand rows, here from 40,000."""
    rng, truth = np.random.default_rng(0), [0.290, 0.043, 0.009, 0.000, 0.019, 0.000]
    found = [ft.importance(planted(40_000, rng, concept), METRICS["auroc"]) for concept in range(6)]
    np.testing.assert_allclose(found, truth, atol=0.005)


@pytest.mark.parametrize("name", list(METRICS))
def test_the_sign_is_kept(name, planted):
    """A model that the concept misleads gets better without it."""
    table = planted(2_000, np.random.default_rng(0), 0)
    misled = ft.FlipTable(baseline=table.baseline[:, ::-1], flips=table.flips[:, :, ::-1], values=table.values, labels=table.labels)
    assert ft.importance(misled, METRICS[name]) < -0.05 < 0.05 < ft.importance(table, METRICS[name])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(list(METRICS)))
def test_order_and_names_do_not_matter(seed, name, random_table):
    """Rows, levels and classes in another order give the same importance."""
    table, rng = random_table(30, levels=3, classes=3, seed=seed), np.random.default_rng(seed)
    rows, levels, classes = rng.permutation(30), rng.permutation(3), rng.permutation(3)
    other = ft.FlipTable(
        baseline=table.baseline[rows][:, classes],
        flips=table.flips[rows][:, levels][:, :, classes],
        values=np.argsort(levels)[table.values[rows]],
        labels=np.argsort(classes)[table.labels[rows]],
    )
    assert ft.importance(other, METRICS[name]) == pytest.approx(ft.importance(table, METRICS[name]), abs=1e-12)


def test_contributions_average_to_the_importance_and_stay_in_bounds(random_table):
    """x_i sums to nΔ, and no row can exceed the bound."""
    table = random_table(70, levels=4)
    for name in ADDITIVE:
        x = ft.row_contributions(table, METRICS[name])
        assert x.mean() == pytest.approx(ft.importance(table, METRICS[name]))
        assert np.abs(x).max() <= ft.contribution_bound(table, METRICS[name])


def test_influence_is_the_binary_formula(random_table):
    """ψ_i = (1−2p)(c−p)(D⁻+D⁺) + p(1−p)[(c/p)(d−D⁻) + ((1−c)/(1−p))(d−D⁺)]."""
    table, metric, one = random_table(80, seed=2), METRICS["brier"], np.ones((1, 80))
    c, p = table.values, table.shares[1]
    gone, new = ft.removed(table, metric, one)[0], ft.added(table, metric, one)[0]
    d = ft.loss_gains(table, metric)[np.arange(80), 1 - c]
    psi = (1 - 2 * p) * (c - p) * (gone + new) + p * (1 - p) * (c / p * (d - gone) + (1 - c) / (1 - p) * (d - new))
    np.testing.assert_allclose(ft.influence(table, metric), psi, atol=1e-12)


def test_influence_is_the_derivative_by_row_weight(random_table):
    """Also with three levels: n·dΔ/dw_i at equal weights."""
    table, metric, step = random_table(40, levels=3), METRICS["log_loss"], 1e-6
    nudged = np.ones((40, 40)) + step * np.eye(40)
    slope = (ft.importances(table, metric, nudged) - ft.importance(table, metric)) / step * 40
    np.testing.assert_allclose(ft.influence(table, metric), slope, atol=1e-4)


@pytest.mark.parametrize("concept", [0, 1, 3])
@pytest.mark.parametrize("n", [300, 1000])
def test_influence_interval_covers(concept, n, planted):
    """400 audits, 95 % interval: coverage within 0.915 to 0.98."""
    rng, metric = np.random.default_rng(n + concept), METRICS["accuracy"]
    truth = ft.importance(planted(200_000, np.random.default_rng(99 + concept), concept), metric)
    hits = 0
    for _ in range(400):
        table = planted(n, rng, concept)
        hits += abs(ft.importance(table, metric) - truth) <= 1.96 * ft.influence_se(table, metric)
    assert 0.915 <= hits / 400 <= 0.98


def test_rows_of_one_unit_count_once():
    """Every row twice under one unit: the error is that of the rows once (up to the small-sample factor)."""
    x = np.random.default_rng(0).normal(size=50)
    assert ft.mean_se(np.tile(x, 2), np.tile(np.arange(50), 2)) == pytest.approx(ft.mean_se(x))
    assert ft.mean_se(x) == pytest.approx(x.std(ddof=1) / np.sqrt(50))


def test_tables_that_disagree_are_refused(random_table):
    """A baseline that is not the flip at the own level, a missing flip, a level out of range."""
    table = random_table(10)
    parts = {"baseline": table.baseline, "flips": table.flips, "values": table.values, "labels": table.labels}
    for change, message in [
        ({"baseline": table.baseline[::-1].copy()}, "baseline itself"),
        ({"flips": np.where(np.arange(2)[:, None] == 0, np.nan, table.flips)}, "missing"),
        ({"values": table.values + 1}, "level indices"),
        ({"flips": table.flips[:, :1]}, "levels >= 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            ft.FlipTable(**(parts | change))


def test_removing_needs_a_binary_concept(random_table):
    """Three levels have no opposite."""
    with pytest.raises(ValueError, match="binary"):
        ft.removed(random_table(10, levels=3), METRICS["brier"], np.ones((1, 10)))

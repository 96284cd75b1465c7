import numpy as np

from audit_plugin.perception.balance import balanced_weights, split


def test_weights_break_the_tie_between_correlated_concepts():
    """Under the weights, knowing the other concept tells nothing about this one."""
    rng = np.random.default_rng(0)
    other = rng.integers(0, 2, 2000)
    own = np.where(rng.random(2000) < 0.8, other, 1 - other)
    weight = balanced_weights(np.stack([own, other], 1), 0)
    shares = [weight[(own == 1) & (other == o)].sum() / weight[other == o].sum() for o in (0, 1)]
    np.testing.assert_allclose(shares, 0.5, atol=1e-6)


def test_no_row_rules():
    """One counter-example among hundreds is believed ten times, not hundreds of times."""
    values = np.array([[0, 0]] * 500 + [[1, 1]] * 499 + [[1, 0]])
    weight = balanced_weights(values, 0)
    np.testing.assert_allclose(weight[-1] / weight[600], 10)
    np.testing.assert_allclose([weight[:500].sum(), weight[500:].sum()], 500)


def test_units_stay_on_one_side_of_the_split():
    """No patient is both learnt from and judged on; every row is somewhere."""
    units = [f"patient {i // 3}" for i in range(300)]
    parts = split(units, 0.2, np.random.default_rng(0))
    named = [{units[i] for i in part} for part in (parts.train, parts.tune, parts.test)]
    assert [len(names) for names in named] == [60, 20, 20]
    assert len(set.union(*named)) == 100

"""Fréchet and kernel distances against closed forms and the definition; pairing bias; refusals."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from audit_plugin.statistics.frechet import frechet, kernel_distance, split_frechet


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    s, t = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))


def test_equals_the_matrix_root_form():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), rng.normal(1, 1, size=(70, 8)) @ rng.normal(size=(8, 8))
    found = frechet(a, b, minimum=50)
    assert found.value == pytest.approx(by_definition(a, b))
    assert (found.n_real, found.n_counterfactual) == (60, 70)


def test_scaled_axes_have_a_closed_form():
    """Same data stretched by 3 and moved by 2 along each axis: Σ(sd·(3 - 1))² + |move|²; also with fewer rows than features."""
    a = np.random.default_rng(1).normal(size=(20, 30))
    b = 3 * (a - a.mean(0)) + a.mean(0) + 2
    assert frechet(a, b, minimum=20).value == pytest.approx(4 * a.var(0, ddof=1).sum() + 4 * 30)
    assert frechet(a, a[::-1], minimum=20).value == pytest.approx(0, abs=1e-9)


def test_symmetric_and_blind_to_rotation():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(40, 6)), rng.normal(0.5, 2, size=(50, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    here = frechet(a, b, minimum=40).value
    assert frechet(b, a, minimum=40).value == pytest.approx(here)
    assert frechet(a @ turn, b @ turn, minimum=40).value == pytest.approx(here)


def test_split_form_removes_the_flattery_of_shared_pixels():
    """Counterfactuals that hardly leave their originals: FID sees no distance, sFID what two samples of 500 differ by."""
    rng = np.random.default_rng(3)
    real = rng.normal(size=(1_200, 16))
    made_from = rng.permutation(1_200)[:1_100]
    counterfactual = real[made_from] + 0.01 * rng.normal(size=(1_100, 16))
    plain = frechet(real, counterfactual).value
    split = split_frechet(real, counterfactual, made_from, rng, repeats=3)
    unrelated = frechet(rng.normal(size=(600, 16)), rng.normal(size=(550, 16))).value
    assert plain < 0.1 * split.value
    assert split.value == pytest.approx(unrelated, rel=0.3)
    assert (split.repeats, split.n_real) == (3, 600)
    assert 500 <= split.n_counterfactual <= 550


def test_kernel_distance_is_the_textbook_estimate_in_one_dimension():
    """Two blocks: mean of the blocks' unbiased MMD², by plain loops over the same blocks."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(8, 3)), rng.normal(1, 1, size=(8, 3))
    found = kernel_distance(a, b, np.random.default_rng(0), blocks=2, minimum=8)
    order = np.random.default_rng(0)
    first, second = order.permutation(8) % 2, order.permutation(8) % 2

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    def mmd(x, y):
        n, m = len(x), len(y)
        within = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        other = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        return within + other - 2 * sum(k(p, q) for p in x for q in y) / (n * m)

    values = [mmd(a[first == g], b[second == g]) for g in (0, 1)]
    assert found.value.value == pytest.approx(np.mean(values))
    assert found.se == pytest.approx(np.std(values, ddof=1) / np.sqrt(2))


@pytest.mark.parametrize("paired", [False, True])
def test_kernel_distance_of_one_distribution_is_zero_on_average(paired):
    """Unbiased at 60 images, where FID is far from 0, pairs that share their pixels included; the interval holds 0 in 92 % or more."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(120):
        real = rng.normal(size=(60, 4))
        made_from = rng.permutation(60) if paired else None
        counterfactual = rng.normal(size=(60, 4)) if made_from is None else 0.8 * real[made_from] + 0.6 * rng.normal(size=(60, 4))
        found.append(kernel_distance(real, counterfactual, rng, originals=made_from))
    values = np.array([one.value.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(120)
    assert np.mean([one.value.low <= 0 <= one.value.high for one in found]) >= 0.92


def test_ignored_pairs_flatter_the_kernel_distance():
    """The same near-copies, as if they were unrelated: far below 0 when copies fall into one block."""
    rng = np.random.default_rng(6)
    real = rng.normal(size=(100, 4))
    known = kernel_distance(real, real, rng, originals=np.arange(100), blocks=2)
    ignored = kernel_distance(real, real, rng, blocks=2)
    assert ignored.value.value < known.value.value
    assert known.value.value == pytest.approx(0, abs=1e-9)


def test_kernel_distance_sees_a_shift():
    rng = np.random.default_rng(7)
    found = kernel_distance(rng.normal(size=(300, 8)), rng.normal(0.5, 1, size=(250, 8)), rng)
    assert found.value.low > 0
    assert (found.n_real, found.n_counterfactual, found.blocks) == (300, 250, 10)


def test_many_images_are_compared_in_blocks(monkeypatch):
    """No block above the bound, on either side."""
    monkeypatch.setattr("audit_plugin.statistics.frechet.BLOCK_ROWS", 20)
    rng = np.random.default_rng(8)
    assert kernel_distance(rng.normal(size=(410, 2)), rng.normal(size=(100, 2)), rng).blocks == 21


def test_too_few_images_are_refused_with_the_way_out():
    rows, rng = np.random.default_rng(0).normal(size=(499, 2)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="FID needs 500 images on either side, got 499; use KID"):
        frechet(rows, rows)
    with pytest.raises(ValueError, match="FID needs 500 images"):
        split_frechet(np.tile(rows, (2, 1)), np.tile(rows, (2, 1)), np.arange(998), rng)
    with pytest.raises(ValueError, match="KID needs 50 images on either side, got 49"):
        kernel_distance(rows[:49], rows, rng)
    with pytest.raises(ValueError, match="FID needs 2 images"):
        frechet(rows[:1], rows, minimum=0)


def test_nonsense_is_refused():
    rows, rng = np.random.default_rng(0).normal(size=(60, 2)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="one width"):
        frechet(rows, rows[:, :1], minimum=2)
    with pytest.raises(ValueError, match="finite"):
        frechet(rows, rows * np.nan, minimum=2)
    with pytest.raises(ValueError, match="original, 0 to 59"):
        kernel_distance(rows, rows, rng, originals=np.full(60, 60))
    with pytest.raises(ValueError, match="at least one repeat"):
        split_frechet(rows, rows, np.arange(60), rng, repeats=0, minimum=2)
    with pytest.raises(ValueError, match="two blocks or more"):
        kernel_distance(rows, rows, rng, blocks=31)
    with pytest.raises(ValueError, match="no two different images"):
        kernel_distance(rows, rows, rng, originals=np.zeros(60, int))

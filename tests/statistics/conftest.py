"""Planted audits with known truth: six binary concepts, a linear score, paired noise in the flipped arm."""

from collections.abc import Callable

import numpy as np
import pytest

from audit_plugin.statistics.flip_table import FlipTable

PREVALENCE = np.array([0.45, 0.35, 0.25, 0.15, 0.10, 0.30])
WEIGHTS = np.array([2.0, 1.0, 0.5, 0.0, 1.0, 0.0])

Planter = Callable[[int, np.random.Generator, int], FlipTable]


def two_columns(logit: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-logit))
    return np.stack([1 - p, p], axis=-1)


@pytest.fixture(scope="session")
def planted() -> Planter:
    """(rows, rng, concept) -> the concept's flip table; labels Bernoulli(sigmoid(2.2 w·(c−p))), score w·(c−p) + noise."""

    def plant(n: int, rng: np.random.Generator, concept: int) -> FlipTable:
        c = (rng.random((n, 6)) < PREVALENCE).astype(np.int64)
        clean, noise = (c - PREVALENCE) @ WEIGHTS, rng.normal(0, 0.8, n)
        labels = (rng.random(n) < 1 / (1 + np.exp(-2.2 * clean))).astype(np.int64)
        own = c[:, concept]
        flipped = clean + WEIGHTS[concept] * (1 - 2 * own) + 0.8 * noise + 0.6 * rng.normal(0, 0.8, n)
        base = two_columns(clean + noise)
        flips = np.stack([base, base], axis=1)
        flips[np.arange(n), 1 - own] = two_columns(flipped)
        return FlipTable(baseline=base, flips=flips, values=own, labels=labels)

    return plant


@pytest.fixture(scope="session")
def random_table() -> Callable[..., FlipTable]:
    """Arbitrary scores of n rows, K levels, k classes."""

    def make(n: int, levels: int = 2, classes: int = 2, seed: int = 0) -> FlipTable:
        rng = np.random.default_rng(seed)
        flips = rng.dirichlet(np.ones(classes), size=(n, levels))
        values = rng.integers(0, levels, n)
        labels = rng.integers(0, classes, n)
        values[:levels], labels[:classes] = np.arange(levels), np.arange(classes)
        return FlipTable(baseline=flips[np.arange(n), values], flips=flips, values=values, labels=labels)

    return make

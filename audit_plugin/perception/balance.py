"""Row weights and splits for training detectors on data whose concepts travel together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers: to learn from, to stop and calibrate by, and to judge by."""

    train: Index
    tune: Index
    test: Index


def split(units: Sequence[str], share: float, rng: np.random.Generator) -> Split:
    """``share`` of the units to tune and as many to test; rows of one unit (patient, product) stay together."""
    names, number = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    order = rng.permutation(len(names))
    held = max(1, round(len(names) * share))
    place = np.zeros(len(names), dtype=np.int64)
    place[order[:held]] = 2
    place[order[held : 2 * held]] = 1
    parts = [np.flatnonzero(place[number] == i) for i in range(3)]
    return Split(train=parts[0], tune=parts[1], test=parts[2])


def balanced_weights(values: NDArray[np.int64], concept: int, *, cap: float = 10.0, rounds: int = 20) -> NDArray[np.float64]:
    """Row weights (mean 1) under which the concept's levels are equally common, overall and within each level of the others.

    Raking (iterative proportional fitting).  A detector trained so cannot read its concept from a correlated one where the data
    hold counter-examples.  No row counts more than ``cap`` times its level's typical row (the median).
    """
    own = values[:, concept]
    weight = np.ones(len(values))
    for _ in range(rounds):
        for other in [k for k in range(values.shape[1]) if k != concept]:
            _even_out(weight, own, values[:, other])
        _even_out(weight, own, np.zeros_like(own))
    for level in np.unique(own):
        rows = own == level
        weight[rows] = np.minimum(weight[rows], cap * np.median(weight[rows]))
    _even_out(weight, own, np.zeros_like(own))
    return np.asarray(weight / weight.mean())


def _even_out(weight: NDArray[np.float64], own: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Within each level of ``other``, give the levels of ``own`` that occur there the same mass; in place."""
    for context in np.unique(other):
        inside = other == context
        levels = np.unique(own[inside])
        mass = weight[inside].sum() / len(levels)
        for level in levels:
            rows = inside & (own == level)
            weight[rows] *= mass / weight[rows].sum()

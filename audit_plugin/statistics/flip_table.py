"""Permutation importance from cached scores: every row scored at every level of a concept, all permutations by arithmetic.

After DEPICT (Jabbour et al., ECCV 2024); the all-pairs form is e_switch of Fisher, Rudin and Dominici (2019).  Importance is the
expected drop of a metric when the concept's values are shuffled over rows: positive means that the model relies on the concept.
Functions ending in "s" (``importances``) take a weight matrix ``(B, n)`` and answer for every row of it: the bootstrap's form.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from audit_plugin.statistics.metrics import Metric, check_scores


@dataclass(frozen=True, kw_only=True)
class FlipTable:
    """One concept of one model: scores of every row at every level.

    Leave rows with a missing or rejected picture out.  Raises ValueError when arrays disagree.
    """

    baseline: Float[np.ndarray, "n k"]
    """Scores of the unchanged (generated) picture."""
    flips: Float[np.ndarray, "n K k"]
    """Scores with the concept set to each of its K levels; at the row's own level the baseline's."""
    values: Int[np.ndarray, "n"]
    """The row's own level, 0..K−1."""
    labels: Int[np.ndarray, "n"]
    """Task class, an index into the k score columns."""

    def __post_init__(self) -> None:
        check_scores(self.baseline, self.labels)
        n, k = self.baseline.shape
        if self.flips.ndim != 3 or self.flips.shape[0] != n or self.flips.shape[2] != k or self.flips.shape[1] < 2:
            raise ValueError(f"flips must be ({n}, levels >= 2, {k}), got shape {self.flips.shape}")
        if self.values.shape != (n,) or self.values.min() < 0 or self.values.max() >= self.flips.shape[1]:
            raise ValueError(f"values must be {n} level indices below {self.flips.shape[1]}")
        if not np.isfinite(self.flips).all():
            raise ValueError("flips are not finite; drop the rows whose flips are missing")
        if not np.array_equal(self.flips[np.arange(n), self.values], self.baseline):
            raise ValueError("at a row's own level the flip must be the baseline itself")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def levels(self) -> int:
        """How many levels K the concept has."""
        return int(self.flips.shape[1])

    @property
    def shares(self) -> Float[np.ndarray, "K"]:
        """Share of rows at each level (π)."""
        return np.asarray(np.bincount(self.values, minlength=self.levels) / len(self))

    def rows(self, keep: Bool[np.ndarray, "n"] | Int[np.ndarray, "m"]) -> "FlipTable":
        """The table of a subset of rows, by mask or by index."""
        return FlipTable(baseline=self.baseline[keep], flips=self.flips[keep], values=self.values[keep], labels=self.labels[keep])


def loss_gains(table: FlipTable, metric: Metric) -> Float[np.ndarray, "n K"]:
    """Rise of each row's loss at each level, ℓ(S^{j→v}, y) − ℓ(S, y); exactly 0 at the row's own level."""
    n, levels, k = table.flips.shape
    flat = metric.row_losses(table.flips.reshape(n * levels, k), np.repeat(table.labels, levels))
    return np.asarray(flat.reshape(n, levels) - metric.row_losses(table.baseline, table.labels)[:, None])


def importance(
    table: FlipTable,
    metric: Metric,
    *,
    strata: Int[np.ndarray, "n"] | None = None,
    allowed: Bool[np.ndarray, "n K"] | None = None,
    exclude_self: bool = False,
) -> float:
    """Expected drop of the metric over all permutations of the concept; see :func:`importances`."""
    ones = np.ones((1, len(table)))
    return float(importances(table, metric, ones, strata=strata, allowed=allowed, exclude_self=exclude_self)[0])


def importances(
    table: FlipTable,
    metric: Metric,
    weights: Float[np.ndarray, "B n"],
    *,
    strata: Int[np.ndarray, "n"] | None = None,
    allowed: Bool[np.ndarray, "n K"] | None = None,
    exclude_self: bool = False,
) -> Float[np.ndarray, "B"]:
    """Δ for every row of weights: Σ_i Σ_v π_v [ℓ_iv − ℓ_i] / n, or the metric's drop on records weighted by π.

    With ``strata`` values are exchanged within a stratum only (conditional importance).  A flip that is not ``allowed`` is never
    made: its weight stays with the row's own value.  ``exclude_self`` gives every row another row's value (factor n/(n−1)).
    """
    blocks = np.zeros(len(table), dtype=np.int64) if strata is None else strata
    if metric.kind == "additive":
        gains = loss_gains(table, metric)
        gains = gains if allowed is None else np.where(allowed, gains, 0.0)
        return _additive_drops(gains, table.values, weights, blocks, exclude_self=exclude_self)
    records = _record_weights(table, weights, blocks, allowed, exclude_self=exclude_self)
    n, levels, k = table.flips.shape
    flat = records.reshape(len(weights), n * levels)
    permuted = metric.function(table.flips.reshape(n * levels, k), np.repeat(table.labels, levels), flat)
    return np.asarray(metric.function(table.baseline, table.labels, weights) - permuted)


def _additive_drops(
    gains: Float[np.ndarray, "n K"],
    values: Int[np.ndarray, "n"],
    weights: Float[np.ndarray, "B n"],
    strata: Int[np.ndarray, "n"],
    *,
    exclude_self: bool,
) -> Float[np.ndarray, "B"]:
    own = np.eye(gains.shape[1])[values]
    drop = np.zeros(len(weights))
    for stratum in np.unique(strata):
        rows = strata == stratum
        counts = weights[:, rows] @ own[rows]
        donors = counts.sum(1) - exclude_self
        rises = (weights[:, rows] @ gains[rows] * counts).sum(1)
        drop += np.divide(rises, donors, out=np.zeros(len(weights)), where=donors > 0)
    return np.asarray(drop / weights.sum(1))


def _record_weights(
    table: FlipTable,
    weights: Float[np.ndarray, "B n"],
    strata: Int[np.ndarray, "n"],
    allowed: Bool[np.ndarray, "n K"] | None,
    *,
    exclude_self: bool,
) -> Float[np.ndarray, "B n K"]:
    """Weight of the record (row, level): the row's weight times the share of donors at that level in its stratum."""
    own = np.eye(table.levels)[table.values]
    reach = np.zeros((len(weights), len(table), table.levels))
    for stratum in np.unique(strata):
        rows = strata == stratum
        counts = weights[:, rows] @ own[rows]
        donors = np.maximum(counts.sum(1, keepdims=True) - exclude_self, 1e-300)
        reach[:, rows] = (counts / donors)[:, None, :]
    reach *= (own == 0) if allowed is None else (own == 0) & allowed
    reach += own * (1 - reach.sum(2, keepdims=True))
    return np.asarray(reach * weights[:, :, None])


def balance(values: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B n"]:
    """Weights rescaled so that every level that occurs has the same total; the overall total is kept."""
    own = (values[:, None] == np.unique(values)).astype(np.float64)
    totals = weights @ own
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0) / (totals > 0).sum(1, keepdims=True)
    return np.asarray(weights * (scale @ own.T) * weights.sum(1, keepdims=True))


def prevalence_free(table: FlipTable, metric: Metric) -> float:
    """Δ*: what the importance would be were all levels equally common; (D⁻ + D⁺)/4 for a binary concept and a mean loss."""
    return float(prevalence_frees(table, metric, np.ones((1, len(table))))[0])


def prevalence_frees(table: FlipTable, metric: Metric, weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
    """Δ* for every row of weights."""
    return importances(table, metric, balance(table.values, weights))


def removed(table: FlipTable, metric: Metric, weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
    """D⁻: mean loss rise when a present binary concept is removed (rows at level 1), for every row of weights; nan without such rows."""
    return _directed(table, metric, weights, own=1)


def added(table: FlipTable, metric: Metric, weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
    """D⁺: mean loss rise when an absent binary concept is added (rows at level 0), for every row of weights; nan without such rows."""
    return _directed(table, metric, weights, own=0)


def _directed(table: FlipTable, metric: Metric, weights: Float[np.ndarray, "B n"], *, own: int) -> Float[np.ndarray, "B"]:
    if table.levels != 2:
        raise ValueError(f"removing and adding are defined for binary concepts, this one has {table.levels} levels")
    rows = table.values == own
    rises = weights[:, rows] @ loss_gains(table, metric)[rows, 1 - own]
    total = weights[:, rows].sum(1)
    return np.asarray(np.divide(rises, total, out=np.full(len(weights), np.nan), where=total > 0))


def row_contributions(table: FlipTable, metric: Metric) -> Float[np.ndarray, "n"]:
    """x_i = Σ_v π_v (ℓ_iv − ℓ_i); their mean is Δ.  What sign-flip tests and confidence sequences are run on."""
    return np.asarray(loss_gains(table, metric) @ table.shares)


def contribution_bound(table: FlipTable, metric: Metric) -> float:
    """Largest |x_i| that this concept's prevalence and the loss's range allow (q_max times the range)."""
    return float((1 - table.shares[table.shares > 0].min()) * metric.loss_range)


def influence(table: FlipTable, metric: Metric) -> Float[np.ndarray, "n"]:
    """Influence values ψ_i of Δ, mean 0: the row's own part plus its part in the level shares.

    ψ_i = x_i − Δ + Σ_v (1[c_i = v] − π_v)·mean_i(ℓ_iv − ℓ_i); for a binary concept this is
    (1−2p)(c−p)(D⁻+D⁺) + p(1−p)[(c/p)(d−D⁻) + ((1−c)/(1−p))(d−D⁺)].
    """
    gains = loss_gains(table, metric)
    means = gains.mean(0)
    own_part = gains @ table.shares
    return np.asarray(own_part - own_part.mean() + means[table.values] - table.shares @ means)


def influence_se(table: FlipTable, metric: Metric, units: Int[np.ndarray, "n"] | None = None) -> float:
    """Standard error of Δ from the influence values; rows of one unit (patient, video) count as one observation."""
    return mean_se(influence(table, metric), units)


def mean_se(x: Float[np.ndarray, "n"], units: Int[np.ndarray, "n"] | None = None) -> float:
    """Standard error of a mean whose rows may be clustered in units: sqrt(U/(U−1)·Σ_u (Σ_{i in u} x_i − mean)²)/n."""
    centred = x - x.mean()
    sums = centred if units is None else np.bincount(np.unique(units, return_inverse=True)[1], weights=centred)
    if len(sums) < 2:
        raise ValueError(f"a standard error needs at least two units, got {len(sums)}")
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(x))

"""Correlation Difference (CD), after Jeanneret et al. (DiME, ACCV 2022): do edits co-change attributes as the data do?

An attribute oracle that is independent of the audited model answers 0 or 1 for K attributes of originals and of valid counterfactuals.
δ_a ∈ {-1, 0, 1} is what an edit did to attribute a, r_a the Pearson correlation of δ_a with δ_q of the queried attribute, and ρ_a that of
the attributes themselves in reference data.  CD = Σ_a |r_a - ρ_a|, a sum from 0 to 2K; lower is better.  It judges the explainer and
the classifier together, so for an audit read the signed gaps r_a - ρ_a: a large positive one says that the classifier, or the
editor, ties a to the decision more than the data do.  The module ``correlation_gaps`` says how far chance alone goes.

Ours, against the published script: an attribute that never changes has r_a = 0, as in ACE, and is counted; audits whose edits all
move q one way use the uncentred r° = Σδ_qδ_a / √(Σδ_q²·Σδ_a²); ρ may come from labels or from the oracle itself.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from audit_plugin.statistics.intervals import z_value

RELATIVE_ZERO = 1e-12
"""A variance of attribute changes below this is rounding; the smallest real one is about 1/n."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """How the attributes co-vary with the queried one in reference data."""

    rho: Float[np.ndarray, "K"]
    """ρ_a in [-1, 1]; 1 for the queried attribute, 0 for one that is constant in the reference data."""
    low: Float[np.ndarray, "K"]
    high: Float[np.ndarray, "K"]
    """Confidence limits of ρ_a; equal to it where the reference is taken as known."""
    n: int | None
    """Rows of reference data; None where ρ was given as numbers."""
    source: Literal["labels", "oracle"]
    """Labels mix two error sources with r, which comes from an oracle; the oracle's answers on reference images mix none."""
    undefined: int
    """Attributes that are constant in the reference data."""


@dataclass(frozen=True, kw_only=True)
class CorrelationDifference:
    """CD of one set of valid counterfactuals.  Values at different n, K or attributes cannot be compared."""

    value: float
    r: Float[np.ndarray, "K"]
    """r_a in [-1, 1]; 0 where undefined."""
    gaps: Float[np.ndarray, "K"]
    """g_a = r_a - ρ_a; 0 for the queried attribute."""
    n: int
    undefined: int
    """Attributes that no edit changed (centred: that all edits changed alike), which cost |ρ_a| each."""
    centred: bool
    noise_floor: float
    """What chance adds at this n when side attributes are independent of q, (K-1)·√(2/(πn))."""
    no_side_change: float
    """Σ_{a≠q}|ρ_a|: the value of an edit that changes the queried attribute and nothing else."""


@dataclass(frozen=True, kw_only=True)
class CoChange:
    """What else changed with the queried attribute, by the direction in which it moved."""

    gained: Float[np.ndarray, "K"]
    """Mean δ_a·δ_q over the edits that gave the attribute q, in [-1, 1]; nan when there are none."""
    lost: Float[np.ndarray, "K"]
    """The same over those that took it away."""
    n_gained: int
    n_lost: int
    n_unmoved: int
    """Valid counterfactuals in which the oracle sees no change of q: the oracle's error, or a flip by other means."""


def changes(before: Int[np.ndarray, "n K"], after: Int[np.ndarray, "n K"]) -> Int[np.ndarray, "n K"]:
    """δ = o(x_cf) - o(x) in {-1, 0, 1} from an oracle's answers 0 and 1.

    >>> changes(np.array([[0, 1]]), np.array([[1, 1]])).tolist()
    [[1, 0]]
    """
    if before.shape != after.shape or before.ndim != 2 or not before.size:
        raise ValueError(f"need answers of one shape, images by attributes, got {before.shape} and {after.shape}")
    if not np.isin([before, after], (0, 1)).all():
        raise ValueError("an oracle's answers are 0 or 1; threshold its probabilities at 0.5 first")
    return np.asarray(after.astype(np.int64) - before)


def baseline(
    attributes: Int[np.ndarray, "m K"], query: int, *, source: Literal["labels", "oracle"], level: float = 0.95
) -> Baseline:
    """ρ from reference rows with attributes 0 or 1: ground-truth labels of the training split, or the oracle's own answers.

    Limits are tanh(artanh ρ ± z·se), se from the influence of each row, which assumes no distribution but many rows (hundreds).
    """
    m, attribute_count = attributes.shape
    _check_query(query, attribute_count)
    if m < 4 or not np.isin(attributes, (0, 1)).all():
        raise ValueError(f"reference rows hold attributes 0 or 1 and number four or more, got {m}")
    x = attributes.astype(np.float64)
    rho = weighted_correlations(x, query, np.ones((1, m)))[0]
    if np.isnan(rho[query]):
        raise ValueError("the queried attribute is constant in the reference data; take reference images with and without it")
    unknown = np.isnan(rho)
    rho = np.where(unknown, 0.0, rho)
    z = (x - x.mean(0)) / np.where(unknown, 1.0, x.std(0))
    influence = z * z[:, [query]] - rho / 2 * (z**2 + z[:, [query]] ** 2)
    room = np.maximum(1 - rho**2, RELATIVE_ZERO)
    half = z_value(level) * np.sqrt((influence**2).sum(0)) / m / room
    middle = np.arctanh(np.clip(rho, -1 + RELATIVE_ZERO, 1 - RELATIVE_ZERO))
    certain = np.arange(attribute_count) == query
    low = np.where(unknown, -1.0, np.tanh(middle - half))
    high = np.where(unknown, 1.0, np.tanh(middle + half))
    return Baseline(
        rho=rho,
        low=np.where(certain, rho, low),
        high=np.where(certain, rho, high),
        n=m,
        source=source,
        undefined=int(unknown.sum()),
    )


def known_baseline(rho: Float[np.ndarray, "K"], query: int, *, source: Literal["labels", "oracle"] = "labels") -> Baseline:
    """ρ given as numbers, without sampling error; 1 at the queried attribute."""
    _check_query(query, len(rho))
    if not (np.isfinite(rho).all() and (np.abs(rho) <= 1).all()) or rho[query] != 1:
        raise ValueError(f"correlations lie in [-1, 1] and are 1 at the queried attribute {query}, got {rho.tolist()}")
    return Baseline(rho=rho, low=rho, high=rho, n=None, source=source, undefined=0)


def correlation_difference(
    deltas: Int[np.ndarray, "n K"], reference: Baseline, query: int, *, centred: bool = True
) -> CorrelationDifference:
    """CD over valid counterfactuals, from their :func:`changes`.  ``centred=False`` where all edits move q one way.

    >>> flips = np.array([[1, 1], [1, 0], [-1, -1], [-1, 0]])
    >>> round(correlation_difference(flips, known_baseline(np.array([1.0, 0.5]), 0), 0).value, 4)
    0.2071
    """
    check_deltas(deltas, query, centred=centred)
    n, attribute_count = deltas.shape
    if len(reference.rho) != attribute_count or abs(reference.rho[query] - 1) > 1e-9:
        raise ValueError(f"the reference must hold the same {attribute_count} attributes and query, got {len(reference.rho)}")
    found = weighted_correlations(deltas.astype(np.float64), query, np.ones((1, n)), centred=centred)[0]
    r = np.where(np.isnan(found), 0.0, found)
    gaps = r - reference.rho
    gaps[query] = 0.0
    return CorrelationDifference(
        value=float(np.abs(gaps).sum()),
        r=r,
        gaps=gaps,
        n=n,
        undefined=int(np.isnan(found).sum()),
        centred=centred,
        noise_floor=noise_floor(n, attribute_count),
        no_side_change=no_side_change(reference.rho, query),
    )


def weighted_correlations(
    values: Float[np.ndarray, "n K"], query: int, weights: Float[np.ndarray, "B n"], *, centred: bool = True
) -> Float[np.ndarray, "B K"]:
    """Correlation of every column with the queried one under each row of weights; nan where either side does not vary."""
    share = weights / weights.sum(1, keepdims=True)
    own = values[:, query]
    cross, square = share @ (values * own[:, None]), share @ values**2
    if centred:
        mean = share @ values
        cross, square = cross - mean * mean[:, [query]], square - mean**2
    scale = square * square[:, [query]]
    defined = (square > RELATIVE_ZERO) & (square[:, [query]] > RELATIVE_ZERO)
    r = np.clip(cross / np.sqrt(np.where(defined, scale, 1.0)), -1, 1)
    return np.asarray(np.where(defined, r, np.nan))


def co_change(deltas: Int[np.ndarray, "n K"], query: int) -> CoChange:
    """How often the other attributes moved with q, less how often against it, per direction of q."""
    _check_query(query, deltas.shape[1])
    own = deltas[:, query]
    gained, lost = own == 1, own == -1
    nothing = np.full(deltas.shape[1], np.nan)
    return CoChange(
        gained=deltas[gained].mean(0) if gained.any() else nothing,
        lost=0.0 - deltas[lost].mean(0) if lost.any() else nothing,
        n_gained=int(gained.sum()),
        n_lost=int(lost.sum()),
        n_unmoved=int((own == 0).sum()),
    )


def noise_floor(n: int, attributes: int) -> float:
    """CD that chance alone makes when K-1 side attributes are independent of q and ρ = 0: (K-1)·√(2/(πn)).

    >>> round(noise_floor(50, 40), 1), round(noise_floor(20_000, 40), 2)
    (4.4, 0.22)
    """
    if n < 1 or attributes < 1:
        raise ValueError(f"need at least one counterfactual and one attribute, got {n} and {attributes}")
    return (attributes - 1) * math.sqrt(2 / (math.pi * n))


def no_side_change(rho: Float[np.ndarray, "K"], query: int) -> float:
    """CD of a perfectly surgical edit, Σ_{a≠q}|ρ_a|: not 0, because the data do co-vary."""
    _check_query(query, len(rho))
    return float(np.abs(np.delete(rho, query)).sum())


def check_deltas(deltas: Int[np.ndarray, "n K"], query: int, *, centred: bool) -> None:
    """Raise ValueError unless the changes are -1, 0 or 1 and their correlation with the queried one exists."""
    if deltas.ndim != 2 or len(deltas) < 2 or not np.isin(deltas, (-1, 0, 1)).all():
        raise ValueError(f"need changes -1, 0 or 1 of two or more counterfactuals by attribute, got shape {deltas.shape}")
    _check_query(query, deltas.shape[1])
    own = deltas[:, query]
    if not own.any():
        raise ValueError("no counterfactual changes the queried attribute by the oracle, so there is nothing to correlate with")
    if centred and (own == own[0]).all():
        raise ValueError("every edit moves the queried attribute one way; audit both directions or pass centred=False")


def _check_query(query: int, attributes: int) -> None:
    if not 0 <= query < attributes:
        raise ValueError(f"the queried attribute is one of 0 to {attributes - 1}, got {query}")

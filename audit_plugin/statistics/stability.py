"""Would other images, other seeds or another editor have told the same story?  Effects are (K nodes, n images), nan is missing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.statistics.agreement import top_overlap


@dataclass(frozen=True, kw_only=True)
class SplitHalf:
    """Agreement of the two halves of the images, mean over random splits."""

    tau: float
    """Kendall's τ-b of the mean effects; nan where either half is constant in every split."""
    marked_tau: float
    """The same over pairs of which at least one is marked; nan without marks."""
    jaccard: float
    """|A ∩ B|/|A ∪ B| of the nodes with the largest absolute means."""
    signs: float
    """Share of the largest nodes whose sign is the same in both halves."""
    splits: int


def split_half(
    effects: Float[np.ndarray, "K n"],
    rng: np.random.Generator,
    *,
    marked: Bool[np.ndarray, "K"] | None = None,
    splits: int = 20,
    top: int = 10,
    signed_top: int = 20,
) -> SplitHalf:
    """Split the images in two at random, again and again.  Raises ValueError below two nodes or four images.

    A node without values in a half counts with mean 0 there.  ``marked`` nodes are those whose place matters: among nodes without any effect
    the order is chance, and one clear effect among twenty of them has a τ near 0 however sure it is.
    """
    nodes, n = effects.shape
    if nodes < 2 or n < 4:
        raise ValueError(f"stability needs two nodes and four images, got {nodes} and {n}")
    pairs = np.triu(np.ones((nodes, nodes), dtype=np.bool_), 1)
    of_marked = pairs & (marked[:, None] | marked if marked is not None else False)
    taus, marked_taus, jaccards, signs = [], [], [], []
    largest = np.argsort(-np.abs(_means(effects)), kind="stable")[:signed_top]
    for _ in range(splits):
        order = rng.permutation(n)
        one, other = _means(effects[:, order[: n // 2]]), _means(effects[:, order[n // 2 :]])
        taus.append(_tau(one, other, pairs))
        marked_taus.append(_tau(one, other, of_marked))
        k = min(top, nodes)
        shared = top_overlap(np.abs(one), np.abs(other), k) * k
        jaccards.append(shared / (2 * k - shared))
        signs.append(float((np.sign(one[largest]) == np.sign(other[largest])).mean()))
    return SplitHalf(
        tau=_mean_known(taus),
        marked_tau=_mean_known(marked_taus),
        jaccard=float(np.mean(jaccards)),
        signs=float(np.mean(signs)),
        splits=splits,
    )


def icc(values: Float[np.ndarray, "n S"]) -> float:
    """ICC(1) of seeds within images (Shrout and Fleiss 1979); images with fewer than S values are left out, nan below two.

    >>> icc(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    1.0
    """
    whole = values[np.isfinite(values).all(1)]
    n, s = whole.shape
    if n < 2 or s < 2:
        return float("nan")
    within = float(whole.var(axis=1, ddof=1).mean())
    between = float(s * whole.mean(1).var(ddof=1))
    total = between + (s - 1) * within
    return (between - within) / total if total > 0 else float("nan")


def operator_agreement(one: Float[np.ndarray, "K"], other: Float[np.ndarray, "K"]) -> float:
    """Spearman correlation of the effects of the same nodes by two edit operators; nan where either is constant."""
    if one.shape != other.shape or len(one) < 2:
        raise ValueError(f"need the same two or more nodes on both sides, got {one.shape} and {other.shape}")
    if min(np.ptp(one), np.ptp(other)) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(one, other).statistic)


def _means(effects: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K"]:
    known = np.isfinite(effects)
    return np.asarray(np.where(known, effects, 0.0).sum(1) / np.maximum(known.sum(1), 1))


def _tau(one: Float[np.ndarray, "K"], other: Float[np.ndarray, "K"], pairs: Bool[np.ndarray, "K K"]) -> float:
    """Kendall's τ-b over some of the pairs; nan where all of them are tied in either."""
    first, second = (np.sign(values[:, None] - values)[pairs] for values in (one, other))
    untied = math.sqrt(np.count_nonzero(first) * np.count_nonzero(second))
    return float((first * second).sum()) / untied if untied else math.nan


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan

"""How well estimated importances agree with an oracle's, for benchmarks.  Arrays hold one number per concept, in one order."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from audit_plugin.statistics.metrics import weighted_auroc


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """All agreement figures of one audit; a correlation is nan when either side is constant."""

    pearson: float
    spearman: float
    kendall: float
    """Kendall's τ-b."""
    first_right: bool
    """Whether the estimated first concept is (one of) the oracle's first."""
    overlap_3: float
    overlap_5: float
    used_auroc: float
    """AUROC of "the oracle's importance exceeds the margin" by estimate; nan when all or none do."""
    rmse: float


def agreement(estimate: Float[np.ndarray, "J"], oracle: Float[np.ndarray, "J"], *, margin: float = 0.02) -> Agreement:
    """Compare estimated with true importances."""
    if estimate.shape != oracle.shape or estimate.ndim != 1 or len(estimate) < 2:
        raise ValueError(f"need two equally long lists of at least two, got shapes {estimate.shape} and {oracle.shape}")
    from scipy.stats import kendalltau, pearsonr, spearmanr

    varies = min(np.ptp(estimate), np.ptp(oracle)) > 0
    return Agreement(
        pearson=float(pearsonr(estimate, oracle).statistic) if varies else float("nan"),
        spearman=float(spearmanr(estimate, oracle).statistic) if varies else float("nan"),
        kendall=float(kendalltau(estimate, oracle).statistic) if varies else float("nan"),
        first_right=bool(oracle[int(estimate.argmax())] == oracle.max()),
        overlap_3=top_overlap(estimate, oracle, 3),
        overlap_5=top_overlap(estimate, oracle, 5),
        used_auroc=weighted_auroc(estimate, oracle > margin, np.ones(len(oracle))),
        rmse=root_mean_square(estimate, oracle),
    )


def top_overlap(estimate: Float[np.ndarray, "J"], oracle: Float[np.ndarray, "J"], k: int) -> float:
    """|A ∩ B|/k of the k largest on each side (k at most J); equal values by order of appearance."""
    k = min(k, len(oracle))
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    best = [set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (estimate, oracle)]
    return len(best[0] & best[1]) / k


def root_mean_square(estimate: Float[np.ndarray, "J"], oracle: Float[np.ndarray, "J"]) -> float:
    """Root-mean-square error."""
    return float(np.sqrt(((estimate - oracle) ** 2).mean()))


def coverage(low: Float[np.ndarray, "A"], high: Float[np.ndarray, "A"], truth: Float[np.ndarray, "A"]) -> float:
    """Share of intervals that contain the truth."""
    return float(((low <= truth) & (truth <= high)).mean())


def ranks(values: Float[np.ndarray, "J"]) -> Float[np.ndarray, "J"]:
    """Rank 1 for the largest; ties share their mean rank."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-values))

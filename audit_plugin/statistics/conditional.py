"""Strata within which a concept may be permuted, and whether a flip asks for a combination that occurs at all.

Permuting within strata of the other concepts avoids impossible combinations (Strobl et al. 2008; "conditional subgroups" of Molnar
et al. 2023).  It uses the same cached flips: pass ``strata`` and ``allowed`` to :func:`flip_table.importances`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import softmax

from audit_plugin.statistics.groups import cells_of

MIN_ROWS = 30
"""Fewest rows of a stratum."""
MAX_LEAVES = 8
SUPPORT_LIMIT = 0.01
"""A flip whose estimated probability given the other concepts is below this is off support."""


@dataclass(frozen=True, kw_only=True)
class OffSupport:
    """Flips that ask for a combination which hardly occurs."""

    share: float
    """Share of flips (row, other level) off support, in [0, 1]."""
    excluded: int
    """How many flips that is."""
    allowed: Bool[np.ndarray, "n K"]
    """True where the flip is supported; always True at the row's own level."""


def conditional_strata(
    others: Int[np.ndarray, "n m"], values: Int[np.ndarray, "n"], *, min_rows: int = MIN_ROWS, max_leaves: int = MAX_LEAVES
) -> Int[np.ndarray, "n"]:
    """Cells of the other concepts where each has ``min_rows`` rows, else the leaves of a shallow tree for the concept."""
    cells = cells_of(others)
    if np.bincount(cells).min() >= min_rows:
        return cells
    return tree_strata(others, values, min_rows=min_rows, max_leaves=max_leaves)


def merged_cells(others: Int[np.ndarray, "n m"], *, min_rows: int = MIN_ROWS) -> Int[np.ndarray, "n"]:
    """Cells of the other concepts, the smallest merged into its nearest until each has ``min_rows`` rows (or one is left).

    Nearness is the L1 distance of the cells' mean one-hot values, i.e. how many concepts differ.
    """
    strata = cells_of(others)
    onehot = np.concatenate([column[:, None] == np.unique(column) for column in others.T], axis=1).astype(np.float64)
    while (sizes := np.bincount(strata)).min() < min_rows and len(sizes) > 1:
        sums = np.zeros((len(sizes), onehot.shape[1]))
        np.add.at(sums, strata, onehot)
        small = int(sizes.argmin())
        distance = np.abs(sums / sizes[:, None] - sums[small] / sizes[small]).sum(1)
        distance[small] = np.inf
        strata = np.where(strata == small, int(distance.argmin()), strata)
        strata = np.unique(strata, return_inverse=True)[1]
    return strata


def tree_strata(
    others: Int[np.ndarray, "n m"], values: Int[np.ndarray, "n"], *, min_rows: int = MIN_ROWS, max_leaves: int = MAX_LEAVES
) -> Int[np.ndarray, "n"]:
    """Leaves of a greedy tree that predicts the concept from the others; a split is "concept m has level v" or not.

    Each step takes the split that lowers Gini impurity most, until ``max_leaves`` leaves or no split gains.
    """
    leaves = np.zeros(len(values), dtype=np.int64)
    tests = [column == level for column in others.T for level in np.unique(column)]
    target = np.eye(int(values.max()) + 1)[values]
    for new in range(1, max_leaves):
        options = [(leaf, test) for leaf in range(new) for test in tests]
        gains = [_gini_gain(target[leaves == leaf], test[leaves == leaf], min_rows) for leaf, test in options]
        if not gains or max(gains) <= 1e-9:
            break
        leaf, test = options[int(np.argmax(gains))]
        leaves[(leaves == leaf) & test] = new
    return leaves


def _gini_gain(target: Float[np.ndarray, "r K"], test: Bool[np.ndarray, "r"], min_rows: int) -> float:
    """Fall of rows × Gini impurity when the leaf is split; 0 when a side is too small."""
    if min(int(test.sum()), int((~test).sum())) < min_rows:
        return 0.0
    return _purity(target[test]) + _purity(target[~test]) - _purity(target)


def _purity(target: Float[np.ndarray, "r K"]) -> float:
    """Rows × Σ_v share_v²."""
    return float((target.sum(0) ** 2).sum() / len(target))


def support(
    others: Int[np.ndarray, "n m"],
    values: Int[np.ndarray, "n"],
    levels: int,
    rng: np.random.Generator,
    *,
    folds: int = 5,
    penalty: float = 1.0,
) -> Float[np.ndarray, "n K"]:
    """Estimated P(concept = v | other concepts) per row, from a multinomial logistic regression fitted on the other folds."""
    if not 2 <= folds <= len(values):
        raise ValueError(f"need 2 <= folds <= rows, got folds={folds}, rows={len(values)}")
    columns = [column[:, None] == np.unique(column)[1:] for column in others.T]
    design = np.concatenate([np.ones((len(values), 1)), *columns], axis=1).astype(np.float64)
    fold = rng.permutation(len(values)) % folds
    out = np.empty((len(values), levels))
    for part in range(folds):
        train, test = fold != part, fold == part
        out[test] = softmax(design[test] @ fit_softmax(design[train], values[train], levels, penalty=penalty), axis=1)
    return out


def fit_softmax(
    design: Float[np.ndarray, "n m"], values: Int[np.ndarray, "n"], levels: int, *, penalty: float = 1.0
) -> Float[np.ndarray, "m K"]:
    """Coefficients of a multinomial logistic regression; L2 penalty/2·‖β‖² on all but the first row (intercept: a 100th)."""
    from scipy.optimize import minimize

    target = np.eye(levels)[values]
    ridge = np.full((design.shape[1], 1), penalty)
    ridge[0] = penalty / 100
    start = np.zeros(design.shape[1] * levels)
    found = minimize(_objective(design, target, ridge), start, jac=True, method="L-BFGS-B")
    return np.asarray(found.x.reshape(design.shape[1], levels))


def _objective(
    design: Float[np.ndarray, "n m"], target: Float[np.ndarray, "n K"], ridge: Float[np.ndarray, "m 1"]
) -> Callable[[Float[np.ndarray, "mK"]], tuple[float, Float[np.ndarray, "mK"]]]:
    """Penalised negative log-likelihood and its gradient, of the flattened coefficients."""

    def value_and_gradient(flat: Float[np.ndarray, "mK"]) -> tuple[float, Float[np.ndarray, "mK"]]:
        beta = flat.reshape(design.shape[1], target.shape[1])
        logits = design @ beta
        logits -= logits.max(1, keepdims=True)
        powers = np.exp(logits)
        total = powers.sum(1, keepdims=True)
        value = np.log(total).sum() - (logits * target).sum() + (ridge * beta**2).sum() / 2
        gradient = design.T @ (powers / total - target) + ridge * beta
        return float(value), np.asarray(gradient.ravel())

    return value_and_gradient


def off_support(
    probabilities: Float[np.ndarray, "n K"], values: Int[np.ndarray, "n"], *, limit: float = SUPPORT_LIMIT
) -> OffSupport:
    """Which flips have an estimated probability below ``limit``, from :func:`support`."""
    own = np.eye(probabilities.shape[1], dtype=np.bool_)[values]
    allowed = own | (probabilities >= limit)
    return OffSupport(share=float((~allowed).sum() / (~own).sum()), excluded=int((~allowed).sum()), allowed=allowed)

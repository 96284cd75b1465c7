"""How good counterfactuals are, after Jeanneret et al. (DiME 2022, ACE 2023) and Augustin et al. (DVCE 2022).

Every published metric of the family is taken over another set of images.  CC and IC are originals that the audited model classifies
correctly and incorrectly, CCF and ICF counterfactuals that reach their target and that do not; :data:`SUBSETS` says who uses which.
Images are uint8, as stored and as sent to the server; distances are on the scale on which white is 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from audit_plugin.statistics.intervals import Interval, wilson

CHANGED_BY = 0.05
"""A pixel counts as changed when one of its channels moved by more than this, of 1."""


@dataclass(frozen=True, kw_only=True)
class Subset:
    """The pairs of original and counterfactual that enter a metric."""

    incorrect_too: bool
    """Whether originals that the model gets wrong (IC) enter beside those it gets right (CC)."""
    invalid_too: bool
    """Whether counterfactuals that miss their target (ICF) enter beside the valid ones (CCF)."""

    def rows(self, correct: Bool[np.ndarray, "n"], valid: Bool[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which pairs enter.  FID and its kin take :meth:`originals` for the real side.

        >>> SUBSETS["COUT"].rows(np.array([True, False]), np.array([False, True])).tolist()
        [True, False]
        """
        if correct.shape != valid.shape:
            raise ValueError(f"need one flag of each kind per pair, got {correct.shape} and {valid.shape}")
        return self.originals(correct) & (valid | self.invalid_too)

    def originals(self, correct: Bool[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Which originals enter where the two sides are compared as sets, valid counterfactual or not."""
        return np.asarray(correct | self.incorrect_too)

    def __str__(self) -> str:
        return f"{'CC+IC' if self.incorrect_too else 'CC'}, {'CCF+ICF' if self.invalid_too else 'CCF'}"


EVERY = Subset(incorrect_too=True, invalid_too=True)
VALID = Subset(incorrect_too=True, invalid_too=False)
CORRECT = Subset(incorrect_too=False, invalid_too=True)

SUBSETS: Mapping[str, Subset] = MappingProxyType(
    {
        "FR": EVERY,
        "BKL": EVERY,
        "L1": EVERY,
        "diversity": EVERY,
        "FID": VALID,
        "sFID": VALID,
        "KID": VALID,
        "FVA": VALID,
        "FS": VALID,
        "MNAC": VALID,
        "CD": VALID,
        "S3": CORRECT,
        "COUT": CORRECT,
    }
)
"""Which pairs each metric is taken over, as the authors' code does; KID, which they do not report, as FID."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of images and its Wilson interval."""

    rate: Interval
    n: int


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """Distances of n counterfactuals from their originals; one number per pair."""

    l1: Float[np.ndarray, "n"]
    """Mean absolute change over pixels and channels, in [0, 1]."""
    l2: Float[np.ndarray, "n"]
    """Euclidean norm over pixels and channels, in [0, √(c·h·w)]."""
    linf: Float[np.ndarray, "n"]
    """Largest absolute change, in [0, 1]."""
    changed: Float[np.ndarray, "n"]
    """Share of pixels of which a channel moved by more than :data:`CHANGED_BY`."""


@dataclass(frozen=True, kw_only=True)
class AttributeChanges:
    """Mean number of attributes changed (MNAC)."""

    value: float
    """As published: the queried attribute counts, so 1 is ideal; 0 to ``attributes``."""
    side: float
    """The same without the queried attribute; 0 is ideal."""
    n: int
    attributes: int


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """How far the counterfactuals of one image lie apart over repeated runs (σ_L)."""

    value: float
    """Mean over images of the mean distance of two runs, in the distance's unit; nan when no image qualifies."""
    images: int
    """Images that fell into one and the same cell (CC or IC, CCF or ICF) in every run; only these enter."""
    left_out: int
    runs: int


def valid(probabilities: Float[np.ndarray, "n k"], targets: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whether each counterfactual's first class is its target; equal scores decide for the first class."""
    _check_classes(probabilities, targets)
    return np.asarray(probabilities.argmax(1) == targets)


def departed(before: Float[np.ndarray, "n k"], after: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, "n"]:
    """Whether each counterfactual's first class is another than its original's, the target or not."""
    if before.shape != after.shape:
        raise ValueError(f"need the scores of as many originals as counterfactuals, got {before.shape} and {after.shape}")
    return np.asarray(before.argmax(1) != after.argmax(1))


def share(flags: Bool[np.ndarray, "n"], *, level: float = 0.95) -> Share:
    """The share of true flags with its Wilson interval; the flip rate (FR) of :func:`valid`.

    >>> share(np.array([True, True, False, True])).rate.value
    0.75
    """
    return Share(rate=wilson(int(flags.sum()), len(flags), level=level), n=len(flags))


def bounded_kl(probabilities: Float[np.ndarray, "n k"], targets: Int[np.ndarray, "n"]) -> float:
    """BKL, the "bounded remapped KL": mean of 1 − p_y(x_cf), in [0, 1]; lower is better.

    >>> bounded_kl(np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([1, 0]))
    0.375
    """
    _check_classes(probabilities, targets)
    return float((1 - probabilities[np.arange(len(targets)), targets]).mean())


def closeness(before: UInt8[np.ndarray, "n c h w"], after: UInt8[np.ndarray, "n c h w"]) -> Closeness:
    """How far each counterfactual lies from its original."""
    if before.shape != after.shape or not before.size or before.dtype != np.uint8 or after.dtype != np.uint8:
        raise ValueError(f"need uint8 images of one shape, got {before.dtype} {before.shape} and {after.dtype} {after.shape}")
    moved = np.abs(before.astype(np.int16) - after).astype(np.float64) / 255
    return Closeness(
        l1=moved.mean((1, 2, 3)),
        l2=np.sqrt((moved**2).sum((1, 2, 3))),
        linf=moved.max((1, 2, 3)),
        changed=(moved.max(1) > CHANGED_BY).mean((1, 2)),
    )


def attribute_changes(before: Int[np.ndarray, "n K"], after: Int[np.ndarray, "n K"], query: int) -> AttributeChanges:
    """MNAC from the answers, 0 or 1, of an attribute oracle that is independent of the audited model.

    >>> attribute_changes(np.array([[0, 0, 1]]), np.array([[1, 1, 1]]), 0).value
    2.0
    """
    if (
        before.shape != after.shape
        or not before.size
        or not np.isin([before.min(), before.max(), after.min(), after.max()], (0, 1)).all()
    ):
        raise ValueError(f"need answers 0 or 1, images by attributes, got shapes {before.shape} and {after.shape}")
    n, attributes = before.shape
    if not 0 <= query < attributes:
        raise ValueError(f"the queried attribute is one of 0 to {attributes - 1}, got {query}")
    differs = before != after
    value = float(differs.sum(1).mean())
    return AttributeChanges(value=value, side=value - float(differs[:, query].mean()), n=n, attributes=attributes)


def diversity(distances: Float[np.ndarray, "n R R"], correct: Bool[np.ndarray, "n"], reached: Bool[np.ndarray, "R n"]) -> Diversity:
    """σ_L from the distances between the runs' counterfactuals of each image (LPIPS in the papers).

    ``correct`` says which originals are classified correctly, in every run alike; ``reached`` which run reached the target for which image.

    >>> two_runs = np.array([[[0.0, 0.3], [0.3, 0.0]], [[0.0, 0.9], [0.9, 0.0]]])
    >>> diversity(two_runs, np.array([True, True]), np.array([[True, True], [True, False]])).value
    0.3
    """
    n, runs, others = distances.shape
    if runs != others or runs < 2 or reached.shape != (runs, n) or correct.shape != (n,):
        raise ValueError(
            f"need (n, R, R) distances, n and (R, n) flags, R > 1; got {distances.shape}, {correct.shape}, {reached.shape}"
        )
    if not (np.isfinite(distances).all() and (distances >= 0).all() and np.allclose(distances, distances.transpose(0, 2, 1))):
        raise ValueError("distances between runs are finite, symmetric and not negative")
    one_cell = (reached == reached[0]).all(0)  # an original's own half of the cell is the same in every run
    first, second = np.triu_indices(runs, 1)
    apart = distances[one_cell][:, first, second]
    value = float(apart.mean()) if one_cell.any() else float("nan")
    return Diversity(value=value, images=int(one_cell.sum()), left_out=int((~one_cell).sum()), runs=runs)


def run_distances(
    runs: Float[np.ndarray, "R n c h w"],
    distance: Callable[[Float[np.ndarray, "n c h w"], Float[np.ndarray, "n c h w"]], Float[np.ndarray, "n"]],
) -> Float[np.ndarray, "n R R"]:
    """Distances of every two runs, image by image; the argument of :func:`diversity`.  ``distance`` is taken to be symmetric."""
    count, n = runs.shape[:2]
    found = np.zeros((n, count, count))
    for a, b in combinations(range(count), 2):
        found[:, a, b] = found[:, b, a] = distance(runs[a], runs[b])
    return found


def _check_classes(probabilities: Float[np.ndarray, "n k"], targets: Int[np.ndarray, "n"]) -> None:
    if probabilities.ndim != 2 or len(probabilities) != len(targets) or not len(targets):
        raise ValueError(f"need one target per row of scores, got {probabilities.shape} and {targets.shape}")
    if not (np.isfinite(probabilities).all() and targets.min() >= 0 and targets.max() < probabilities.shape[1]):
        raise ValueError(f"scores must be finite and targets lie in 0 to {probabilities.shape[1] - 1}")

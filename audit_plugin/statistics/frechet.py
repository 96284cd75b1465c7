"""Do counterfactuals look like real images?  Fréchet distance (FID), its split form (sFID) and kernel distance (KID) of feature rows.

The features are the caller's (Inception pool features in the papers); rows are images.  A counterfactual shares most of its pixels with
the original it came from, which flatters FID between the two sets: sFID (Jeanneret et al., ACE, 2023) compares the real images of one half
with the counterfactuals of the other.  FID is biased upwards on few images and refused below :data:`MINIMUM`; KID (Bińkowski et al.
2018) is unbiased at any number.  The numbers of images travel with every result: FID and sFID at different ones cannot be compared.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from audit_plugin.statistics.intervals import Interval

MINIMUM = 500
"""Fewest images on either side of an FID."""
KID_MINIMUM = 50
"""Fewest images on either side of a KID."""
BLOCK_ROWS = 1_000
"""KID compares at most about this many images at a time; bounds its memory."""


@dataclass(frozen=True, kw_only=True)
class Frechet:
    """A Fréchet distance of two sets of features."""

    value: float
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2·√(Σ₁Σ₂)), at least 0; lower is better."""
    n_real: int
    n_counterfactual: int


@dataclass(frozen=True, kw_only=True)
class SplitFrechet:
    """sFID: mean over repeats of the two crossed Fréchet distances."""

    value: float
    spread: float
    """Standard deviation over the repeats: what the choice of halves does, not the sampling error of the images."""
    repeats: int
    n_real: int
    """Real images in a half; the smallest of all halves, as below."""
    n_counterfactual: int


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """KID: squared maximum mean discrepancy; unbiased, so it may be negative.  Often quoted times 1,000; here it is not."""

    value: Interval
    """Mean over disjoint blocks of images with its t-interval."""
    se: float
    blocks: int
    n_real: int
    n_counterfactual: int


def frechet(real: Float[np.ndarray, "n d"], counterfactual: Float[np.ndarray, "m d"], *, minimum: int = MINIMUM) -> Frechet:
    """FID of all originals against the valid counterfactuals.  Raises ValueError with fewer than ``minimum`` rows on either side.

    >>> rows = np.array([[0.0], [2.0], [4.0]])
    >>> round(frechet(rows, rows + 3, minimum=3).value, 6)
    9.0
    """
    _check(real, counterfactual, minimum, "FID")
    return Frechet(value=_distance(real, counterfactual), n_real=len(real), n_counterfactual=len(counterfactual))


def split_frechet(
    real: Float[np.ndarray, "n d"],
    counterfactual: Float[np.ndarray, "m d"],
    originals: Int[np.ndarray, "m"],
    rng: np.random.Generator,
    *,
    repeats: int = 10,
    minimum: int = MINIMUM,
) -> SplitFrechet:
    """The crossed distance sFID; ``originals`` names the row of ``real`` from which each counterfactual was made.

    The originals are halved at random and their counterfactuals follow them; FID(real₁, cf₂) and FID(real₂, cf₁) are averaged, and that
    over ``repeats``.  Raises ValueError when a half has fewer than ``minimum`` rows.
    """
    _check_originals(originals, len(counterfactual), len(real))
    if repeats < 1:
        raise ValueError(f"need at least one repeat, got {repeats}")
    found, sizes = [], []
    for _ in range(repeats):
        first = np.isin(np.arange(len(real)), rng.permutation(len(real))[: len(real) // 2])
        crossed = [frechet(real[half], counterfactual[~half[originals]], minimum=minimum) for half in (first, ~first)]
        found.append((crossed[0].value + crossed[1].value) / 2)
        sizes += [(one.n_real, one.n_counterfactual) for one in crossed]
    return SplitFrechet(
        value=float(np.mean(found)),
        spread=float(np.std(found, ddof=1)) if repeats > 1 else float("nan"),
        repeats=repeats,
        n_real=min(n for n, _ in sizes),
        n_counterfactual=min(m for _, m in sizes),
    )


def kernel_distance(
    real: Float[np.ndarray, "n d"],
    counterfactual: Float[np.ndarray, "m d"],
    rng: np.random.Generator,
    *,
    originals: Int[np.ndarray, "m"] | None = None,
    blocks: int = 10,
    minimum: int = KID_MINIMUM,
    level: float = 0.95,
) -> KernelDistance:
    """KID with kernel (x·y/d + 1)³, over disjoint random blocks of images, so that their scatter gives an honest standard error.

    Give ``originals``, the row of ``real`` behind each counterfactual, when there is one: such a pair then stays in one block and is left
    out of the cross term, which removes the pairing bias that FID has.  Real rows without a counterfactual enter on their side.
    More than ``blocks`` are made where they would exceed :data:`BLOCK_ROWS` rows.  Raises ValueError below ``minimum`` rows.
    """
    _check(real, counterfactual, minimum, "KID")
    if originals is not None:
        _check_originals(originals, len(counterfactual), len(real))
    blocks = max(blocks, -(-max(len(real), len(counterfactual)) // BLOCK_ROWS))
    if not 2 <= blocks <= min(len(real), len(counterfactual)) // 2 or not 0 < level < 1:
        raise ValueError(f"need two blocks or more of two rows or more, and 0 < level < 1; got {blocks} blocks, level {level}")
    real_block, block = _blocks(len(real), len(counterfactual), originals, blocks, rng)
    names = np.arange(len(counterfactual)) + len(real) if originals is None else originals
    found = []
    for b in range(blocks):
        x, y = real_block == b, block == b
        same = np.flatnonzero(x)[:, None] == names[y]
        found.append(_discrepancy(real[x], counterfactual[y], same))
    value, se = float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(blocks))
    half = float(stdtrit(blocks - 1, (1 + level) / 2)) * se
    return KernelDistance(
        value=Interval(value, value - half, value + half),
        se=se,
        blocks=blocks,
        n_real=len(real),
        n_counterfactual=len(counterfactual),
    )


def _distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Fréchet distance: tr √(Σ₁Σ₂) is the sum of the singular values of √Σ₁·√Σ₂, that is of X₁ᵀX₂ between centred data."""
    mean_a, mean_b = a.mean(0, dtype=np.float64), b.mean(0, dtype=np.float64)
    root_a, root_b = _thin((a - mean_a) / np.sqrt(len(a) - 1)), _thin((b - mean_b) / np.sqrt(len(b) - 1))
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return max(0.0, float(((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap))


def _thin(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "r d"]:
    """A matrix with the same xᵀx and at most d rows."""
    return np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x


def _discrepancy(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], same: Bool[np.ndarray, "n m"]) -> float:
    """Unbiased squared MMD; no image with itself, no image with its own counterfactual, nor two counterfactuals of one image."""
    siblings = same.T.astype(np.float64) @ same > 0
    np.fill_diagonal(siblings, val=True)
    return _mean(x, x, ~np.eye(len(x), dtype=bool)) + _mean(y, y, ~siblings) - 2 * _mean(x, y, ~same)


def _mean(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], kept: Bool[np.ndarray, "n m"]) -> float:
    if not kept.any():
        raise ValueError("a block holds no two different images; take fewer blocks or more images")
    kernel = (x.astype(np.float64) @ y.T.astype(np.float64) / x.shape[1] + 1) ** 3
    return float(kernel[kept].mean())


def _blocks(
    n: int, m: int, originals: Int[np.ndarray, "m"] | None, blocks: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]]:
    """The block of every real row and of every counterfactual; equally large, with pairs kept together."""
    if originals is None:
        return rng.permutation(n) % blocks, rng.permutation(m) % blocks
    used = np.isin(np.arange(n), originals)
    real_block = np.empty(n, dtype=np.int64)
    for group in (used, ~used):  # apart, so that every block gets its part of the counterfactuals
        real_block[group] = rng.permutation(int(group.sum())) % blocks
    return real_block, real_block[originals]


def _check(real: Float[np.ndarray, "n d"], counterfactual: Float[np.ndarray, "m d"], minimum: int, name: str) -> None:
    if real.ndim != 2 or counterfactual.ndim != 2 or real.shape[1] != counterfactual.shape[1] or not real.shape[1]:
        raise ValueError(f"need feature rows of one width, got {real.shape} and {counterfactual.shape}")
    fewest = min(len(real), len(counterfactual))
    if fewest < max(2, minimum):
        cure = "use KID" if name == "FID" else "take more images"
        raise ValueError(f"{name} needs {max(2, minimum)} images on either side, got {fewest}; {cure}")
    if not (np.isfinite(real).all() and np.isfinite(counterfactual).all()):
        raise ValueError("features must be finite")


def _check_originals(originals: Int[np.ndarray, "m"], m: int, n: int) -> None:
    if originals.shape != (m,) or not m or originals.min() < 0 or originals.max() >= n:
        raise ValueError(f"need the original, 0 to {n - 1}, of each of {m} counterfactuals, got shape {originals.shape}")

"""COUT, the counterfactual transition score (Khorram and Fuxin 2022): do few, well-placed pixels carry the flip?

The pixels that the counterfactual changed most are moved into the original first, and the audited model is asked after every move.
COUT is the area under the target's probability minus the area under the original class's, in [-1, 1]; high is good.
Two halves, so that whoever owns the queries sits between them: :func:`composites` makes the images, :func:`cout` reads the answers.
Ours: areas are divided by the span that the moves really cover, which is 1.018 rather than 1 at 128 by 128 pixels, because the last
move is smaller than the others; :attr:`Cout.published` is the undivided form.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

PARTS = 50
"""Moves wanted; ``max(1, ⌊hw/50⌋)`` pixels move at a time, which makes about 50 moves, or hw on a smaller image."""


@dataclass(frozen=True, kw_only=True)
class Cout:
    """COUT of one pair."""

    value: float
    """Area(p_y) - area(p_c) over a span of 1, in [-1, 1]."""
    span: float
    """Moves times pixels per move, as a share of all pixels; at least 1."""
    target_area: float
    """Area under p_y, in [0, 1]."""
    original_area: float
    """Area under p_c, in [0, 1]."""
    queries: int

    @property
    def published(self) -> float:
        """The value with areas that are not divided by the span."""
        return self.value * self.span


def pixels_per_move(pixels: int) -> int:
    """How many of an image's pixels move at a time.

    >>> pixels_per_move(128 * 128), pixels_per_move(16)
    (327, 1)
    """
    if pixels < 1:
        raise ValueError(f"an image has at least one pixel, got {pixels}")
    return max(1, pixels // PARTS)


def moves(pixels: int) -> int:
    """How many moves turn the whole original into the counterfactual.

    >>> moves(128 * 128)
    51
    """
    return -(-pixels // pixels_per_move(pixels))


def composites(before: Shaped[np.ndarray, "c h w"], after: Shaped[np.ndarray, "c h w"]) -> Shaped[np.ndarray, "m c h w"]:
    """The original, then the image after every move, the last of which is the counterfactual; dtype as given.

    Pixels go by the sum of their channels' absolute changes, largest first, equal ones in reading order, all channels at once.
    A pair without any change needs no moves: its one image is the original.
    """
    if before.shape != after.shape or before.ndim != 3 or not before.size or before.dtype != after.dtype:
        raise ValueError(f"need a pair of one shape and type, got {before.dtype} {before.shape} and {after.dtype} {after.shape}")
    changes = np.abs(after.astype(np.float64) - before).sum(0).ravel()
    if not np.isfinite(changes).all():
        raise ValueError("images must be finite")
    if not changes.any():
        return before[None].copy()
    order = np.argsort(-changes, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    moved = (np.arange(moves(len(order)) + 1) * pixels_per_move(len(order)))[:, None] > place
    return np.asarray(np.where(moved.reshape(-1, 1, *before.shape[1:]), after, before))


def cout(original: Float[np.ndarray, "m"], target: Float[np.ndarray, "m"], *, pixels: int) -> Cout:
    """COUT from p_c (``original``) and p_y (``target``) of a pair's :func:`composites`, in their order.

    Two classes: p_y = 1 - p_c.  One answer each, from a pair without any change, gives p_y - p_c.

    >>> cout(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0]), pixels=2).value
    0.5
    """
    wanted = moves(pixels) + 1
    if original.shape != target.shape or original.shape not in {(1,), (wanted,)}:
        raise ValueError(
            f"a pair of {pixels} pixels has {wanted} answers per class, or 1 if equal; got {original.shape}, {target.shape}"
        )
    if not all(np.isfinite(curve).all() and curve.min() >= 0 and curve.max() <= 1 for curve in (original, target)):
        raise ValueError("probabilities lie in [0, 1]")
    target_area, original_area = _area(target), _area(original)
    return Cout(
        value=target_area - original_area,
        span=1.0 if len(target) == 1 else moves(pixels) * pixels_per_move(pixels) / pixels,
        target_area=target_area,
        original_area=original_area,
        queries=len(target),
    )


def _area(curve: Float[np.ndarray, "m"]) -> float:
    """Trapezoidal area over a span of 1: (½·first + interior + ½·last) / moves."""
    if len(curve) == 1:
        return float(curve[0])
    return float((curve.sum() - (curve[0] + curve[-1]) / 2) / (len(curve) - 1))

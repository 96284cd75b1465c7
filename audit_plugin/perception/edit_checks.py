"""Did an edit do what it was asked for, and nothing else?  Checks V1 to V6, on the null edit and the edit; the audited model has no say.

The distance of V2 is a network's where one is configured (:mod:`audit_plugin.perception.lpips`), else structural dissimilarity,
(1 - SSIM) / 2 (Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004), on luminance, with a
Gaussian window of 1.5 pixels: in [0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images
from audit_plugin.core.tree import Node, NodeKind

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_WINDOW_PX = 1.5
_STABLE = (0.01**2, 0.03**2)
DILATION_PX = 8
"""Of the mask, at 512 pixels; smaller images dilate by less, at least one pixel."""


@dataclass(frozen=True, kw_only=True)
class Validity:
    """What an edit must do to count; starting values, to be confirmed by a person on a sample."""

    gain: float = 0.25
    """V1: by how much the attribute's probability must change."""
    reached: float = 0.6
    """V1: where it must end; for a removal, at most 1 minus this."""
    outside_psnr: float = 28.0
    """V2: decibel outside the mask."""
    distance_local: float = 0.25
    """V2: most structural dissimilarity of a node that concerns a part of the image."""
    distance_global: float = 0.48
    """V2: of a node that concerns all of it."""
    perceptual_local: float = 0.35
    """V2: most perceptual distance of a local node, in place of `distance_local`, where `diffex.perceptual` is given."""
    perceptual_global: float = 0.6
    """V2: of a node that concerns all of the image."""
    other: float = 0.2
    """V4: most change of a protected attribute that was not edited."""
    realism: float = 0.15
    """V5: by how much the probability of a good photo may fall; asked of an image-text judge alone."""
    unsafe: float = 0.5
    """V6: probability from which a picture is unsafe; asked of a safety filter alone."""


PRESENT, ABSENT = 0.6, 0.4
"""Probabilities from which an attribute is taken to be there, or not; in between an image is ambiguous and not edited."""


def dissimilarity(first: Images, second: Images) -> NDArray[np.float64]:
    """``(n,)`` structural dissimilarity of images ``(n, 3, h, w)`` in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    a, b = (np.tensordot(_LUMA, images, axes=(0, 1)).astype(np.float64) for images in (first, second))
    window = (0, _WINDOW_PX, _WINDOW_PX)
    mean_a, mean_b = gaussian_filter(a, window), gaussian_filter(b, window)
    var_a, var_b = gaussian_filter(a * a, window) - mean_a**2, gaussian_filter(b * b, window) - mean_b**2
    both = gaussian_filter(a * b, window) - mean_a * mean_b
    c1, c2 = _STABLE
    similarity = ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return np.asarray((1 - similarity.mean((1, 2))) / 2)


def outside_psnr(first: Images, second: Images, masks: NDArray[np.float32]) -> list[float | None]:
    """Per image the decibel between both outside the dilated mask ``(n, h, w)``; None where nothing is outside."""
    from scipy.ndimage import maximum_filter

    size = max(1, round(DILATION_PX * masks.shape[-1] / 512))
    grown = maximum_filter(masks, size=(1, 2 * size + 1, 2 * size + 1)) > 0
    found: list[float | None] = []
    for a, b, inside in zip(first, second, grown, strict=True):
        outside = ~inside
        if not outside.any():
            found.append(None)
            continue
        error = float(((a - b)[:, outside] ** 2).mean())
        found.append(round(min(-10 * np.log10(error), 100.0), 2) if error > 0 else 100.0)
    return found


def is_global(node: Node) -> bool:
    """Whether an edit of the node may change the whole image: it then leaves less than half of the positions alone."""
    return node.threshold <= 0.5


def attribute_failed(before: float | None, after: float | None, sign: int, limits: Validity) -> bool:
    """V1, of one node; what no judge can see does not count as done."""
    if before is None or after is None:
        return True
    change, end = sign * (after - before), after if sign > 0 else 1 - after
    return change < limits.gain or end < limits.reached


def changed_too_much(
    nodes: Sequence[Node], distance: float | None, outside: float | None, limits: Validity, *, perceptual: bool = False
) -> bool:
    """V2; ``perceptual``: the distance is a network's, not structural dissimilarity.  What is not a number shows nothing, and fails."""
    large, small = (
        (limits.perceptual_global, limits.perceptual_local) if perceptual else (limits.distance_global, limits.distance_local)
    )
    most = large if any(map(is_global, nodes)) else small
    near = distance is None or distance <= most
    return not (near and (outside is None or outside >= limits.outside_psnr))


def class_kept(kinds: Mapping[str, NodeKind], before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> bool:
    """V3: every core concept is read as it was."""
    core = [name for name, kind in kinds.items() if kind is NodeKind.CORE and name in before and name in after]
    return all(int(np.argmax(before[name])) == int(np.argmax(after[name])) for name in core)


def protected_changed(
    kinds: Mapping[str, NodeKind],
    edited: Sequence[str],
    before: Mapping[str, Sequence[float]],
    after: Mapping[str, Sequence[float]],
    limits: Validity,
) -> bool:
    """V4: a protected concept that was not edited is read otherwise than before."""
    others = [name for name, kind in kinds.items() if kind is NodeKind.PROTECTED and name not in edited and name in before]
    return any(moved(name, before, after) >= limits.other for name in others if name in after)


def moved(name: str, before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> float:
    """Largest change of a reading's probabilities."""
    return float(np.abs(np.subtract(after[name], before[name])).max())


def same_first(names: Sequence[str], before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> bool:
    """V3 by an image-text judge: in all of these readings the likeliest class is the same."""
    return all(int(np.argmax(before[name])) == int(np.argmax(after[name])) for name in names if name in after)

"""Whether a response comes from the object or from what lies around it (specification 6.8).

``rho``: the share that comes from the object.  Of a heat map its sum inside the mask over its whole sum; without maps, of what the score
loses when the object is covered and when all else is, the object's share.  Covering much loses much, so chance, the object's share of the
area, is taken off: 0 is what any place would give, 1 is all of it.  Our reconstruction: the published methods leave the rule open.
"""

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.discovery_results import WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Images
from audit_plugin.statistics.bootstrap import unit_weights

SPURIOUS, CORE = 0.25, 0.5
"""An upper limit below the first, a lower limit above the second."""
LEAST_AREA = 0.005
"""Of the image; a smaller object counts as none."""
DIFFERENCE = 0.12
"""Of a pixel's strongest channel, blurred, between two pictures of one seed: where it is larger, the word that differs was drawn."""
RESAMPLES = 2000


def part_of(inside: Estimate) -> WordPart:
    """The rule.

    >>> part_of(Estimate(value=0.1, low=-0.1, high=0.2))
    <WordPart.SPURIOUS: 'spurious'>
    """
    if inside.high < SPURIOUS:
        return WordPart.SPURIOUS
    return WordPart.CORE if inside.low > CORE else WordPart.MIXED


def heat_share(heat: Float[np.ndarray, "n h w"], masks: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n"]:
    """Share of each map inside its mask, chance taken off; nan where the map is empty or the mask covers everything."""
    area, total = masks.mean((1, 2)), heat.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = (heat * masks).sum((1, 2)) / total
        return np.asarray(np.where((total > 0) & (area < 1), (rho - area) / (1 - area), np.nan))


def occlusion_share(
    lost_object: Float[np.ndarray, "n"], lost_rest: Float[np.ndarray, "n"], area: Float[np.ndarray, "n"], *, seed: int
) -> Estimate | None:
    """The object's share of what covering loses, chance taken off, with a 95 % interval over pictures; None where nothing is lost at all.

    Sums over pictures, not shares picture by picture: where a picture loses next to nothing, its share is noise.
    """
    held = np.isfinite(lost_object) & np.isfinite(lost_rest)
    inside, outside, area = np.maximum(lost_object[held], 0), np.maximum(lost_rest[held], 0), area[held]
    if len(inside) < 2 or inside.sum() + outside.sum() <= 0:
        return None
    weights = unit_weights(np.arange(len(inside)), RESAMPLES, np.random.default_rng(seed))
    weights = np.concatenate([np.ones((1, len(inside))), weights])
    lost_in, lost_all, chance = weights @ inside, weights @ (inside + outside), weights @ area / len(inside)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(lost_all > 0, (lost_in / lost_all - chance) / (1 - chance), np.nan)
    low, high = np.nanpercentile(rho[1:], [2.5, 97.5])
    return Estimate(value=float(rho[0]), low=float(min(low, rho[0])), high=float(max(high, rho[0])))


def drawn_masks(pictures: Images, without: Images) -> Bool[np.ndarray, "n h w"]:
    """Where two pictures of one seed differ because one prompt has a word more."""
    difference = np.abs(pictures - without).max(1)
    padded = np.pad(difference, ((0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = difference.shape[1:]
    blurred = sum(padded[:, dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)) / 9
    return np.asarray(blurred > DIFFERENCE)


def covered(pictures: Images, masks: Bool[np.ndarray, "n h w"]) -> Images:
    """The pictures with what the masks hold in the mean colour of all that they do not hold."""
    filled = pictures.copy()
    for row, mask in enumerate(masks):
        rest = ~mask
        colour = pictures[row][:, rest].mean(1) if rest.any() else pictures[row].mean((1, 2))
        filled[row][:, mask] = colour[:, None]
    return filled

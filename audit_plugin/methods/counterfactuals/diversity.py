"""How different the answers are when searches are repeated with other noise (σ_L of Jeanneret et al., DiME 2022, where the distance is LPIPS)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import CounterfactualStudio, Made
from audit_plugin.core.counterfactual_results import DiversityFigure
from audit_plugin.core.protocols import Images
from audit_plugin.sources.images import to_float
from audit_plugin.statistics.counterfactuals import diversity, run_distances

_IMAGES = 16
"""Images that are held in memory at once, in all their runs."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """What two pictures are compared by."""

    name: str
    between: Callable[[Images, Images], NDArray[np.float64]]
    """(n 3 h w) twice, in [0, 1] -> (n)."""


def mean_difference(first: Images, second: Images) -> NDArray[np.float64]:
    """Mean absolute difference over pixels and channels, in [0, 1]; where no network says how different pictures look."""
    return np.asarray(np.abs(first - second).mean((1, 2, 3)), np.float64)


PLAIN = Distance(name="l1", between=mean_difference)


def perceptual_distances(studio: CounterfactualStudio, flips: Sequence[Made], distance: Distance) -> dict[str, float]:
    """sha256 of flips -> how far each looks from its image; none by the plain distance, which is no network's."""
    found: dict[str, float] = {}
    for at in range(0, 0 if distance is PLAIN else len(flips), _IMAGES):
        some = flips[at : at + _IMAGES]
        before, after = (
            to_float([studio.pixels(sha) for sha in shas]) for shas in ([one.before for one in some], [one.after for one in some])
        )
        found |= zip((one.after for one in some), distance.between(before, after).tolist(), strict=True)
    return found


def diversity_of(
    studio: CounterfactualStudio,
    runs: Sequence[Sequence[Made]],
    scores: Mapping[str, NDArray[np.float64]],
    correct: Mapping[str, bool],
    distance: Distance,
) -> DiversityFigure:
    """Over two runs or more of the same wishes, in the same order; ``scores``: sha256 -> what the server says of the stored bytes.

    ``correct``: image -> whether the server gives it the class of the table.
    """
    reached = np.array([[int(scores[one.after].argmax()) == one.wish.target for one in run] for run in runs])
    apart = [
        run_distances(
            np.stack([to_float([studio.pixels(one.after) for one in run[at : at + _IMAGES]]) for run in runs]), distance.between
        )
        for at in range(0, len(runs[0]), _IMAGES)
    ]
    right = np.array([correct[one.image] for one in runs[0]])
    found = diversity(np.concatenate(apart), right, reached)
    return DiversityFigure(
        value=None if not found.images else found.value,
        distance=distance.name,
        runs=found.runs,
        images=found.images,
        left_out=found.left_out,
        network_rows=sum(one.network_rows for run in runs[1:] for one in run),
    )

"""An independent model that flips are shown to: a change that flips one model alone, and nobody else sees, is adversarial."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import Made

LEAST_RISE = float(np.log(2))
"""Of the target's log-odds; less is no move."""
_SMALLEST = 1e-6


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Another model, and what it says of stored pictures."""

    name: str
    labels: Sequence[str]
    """Its classes; those of the audited model are found by name."""
    answers: Callable[[Collection[str]], Mapping[str, NDArray[np.float64]]]
    """sha256 of stored pictures -> probabilities."""

    def sees(self, flips: Sequence[Made], labels: Sequence[str]) -> dict[str, bool]:
        """sha256 of the picture -> whether the odds of its target at least double; without those whose target it does not know.

        ``labels``: the audited model's.
        """
        known = [one for one in flips if labels[one.wish.target] in self.labels]
        told = self.answers({sha for one in known for sha in (one.before, one.after)})
        at = [list(self.labels).index(labels[one.wish.target]) for one in known]
        before, after = (
            np.array([told[sha][column] for sha, column in zip(shas, at, strict=True)])
            for shas in ([one.before for one in known], [one.after for one in known])
        )
        return {one.after: bool(seen) for one, seen in zip(known, moved(before, after), strict=True)}


def moved(before: Float[np.ndarray, "n"], after: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whether each probability rises so that its odds at least double.

    >>> moved(np.array([0.1, 0.1, 0.0]), np.array([0.12, 0.2, 1.0])).tolist()
    [False, True, True]
    """
    rises = _odds(after) - _odds(before)
    return np.asarray(rises >= LEAST_RISE)


def _odds(p: Float[np.ndarray, "n"]) -> NDArray[np.float64]:
    clear = np.clip(np.asarray(p, np.float64), _SMALLEST, 1 - _SMALLEST)
    odds: NDArray[np.float64] = np.log(clear) - np.log1p(-clear)
    return odds

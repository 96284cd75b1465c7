"""Do two ways of drawing the same pictures look alike to a classifier?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEAST_AGREEMENT = 0.99
MOST_CHANGE = 0.01


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Scores of pictures and of their twins, compared."""

    pictures: int
    same: float
    """Share of pictures whose first class is their twin's, in [0, 1]."""
    change: float
    """Mean absolute difference of a class score."""

    @property
    def passed(self) -> bool:
        """Whether one may stand for the other without a word."""
        return self.same >= LEAST_AGREEMENT and self.change <= MOST_CHANGE


def agreement(drawn: Float[np.ndarray, "n k"], twin: Float[np.ndarray, "n k"]) -> Agreement:
    """Compare class scores row by row; equal scores decide for the first class.

    >>> found = agreement(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    >>> found.same, round(found.change, 3), found.passed
    (0.5, 0.1, False)
    """
    if drawn.shape != twin.shape or drawn.ndim != 2 or not drawn.size:
        raise ValueError(f"need the scores of as many pictures as twins, got {drawn.shape} and {twin.shape}")
    same = float((drawn.argmax(1) == twin.argmax(1)).mean())
    return Agreement(pictures=len(drawn), same=same, change=float(np.abs(drawn - twin).mean()))

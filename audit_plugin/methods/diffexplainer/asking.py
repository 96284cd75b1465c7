"""What a discovery asks of the world: pictures of prompts, and what the model says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """Of n pictures, for S subjects (classes or hidden units)."""

    shas: tuple[str, ...]
    """sha256 of each picture."""
    score: Float[np.ndarray, "n S"]
    """Log-odds of a class, standard deviations of a unit; where the server gives labels alone 1 for the class and 0 for others."""
    shown: Float[np.ndarray, "n S"]
    """The same as people read it: the class's probability, the unit's standard deviations."""
    taken: Bool[np.ndarray, "n S"]
    """Whether the model takes the picture for the class (a unit: activates above its usual 95th percentile)."""

    def __len__(self) -> int:
        return len(self.shas)

    def rows(self, at: Sequence[int] | slice) -> "Answers":
        """Some of the pictures."""
        shas = self.shas[at] if isinstance(at, slice) else tuple(self.shas[one] for one in at)
        return Answers(shas=shas, score=self.score[at], shown=self.shown[at], taken=self.taken[at])


class Ask(Protocol):
    """Draws a picture per (prompt, seed), unless it is there, and asks the model about it, unless it was asked."""

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> Answers:
        """``what`` names the pictures in progress.  Raises LimitReachedError when a budget is spent; what was made stays."""
        ...


class LimitReachedError(Exception):
    """A budget is spent; the name of the limit is its only argument."""

"""The live model's answers with a known effect put in, client-side: the log-odds of one class, shifted by what a picture shows.

    l_c(x)  <-  l_c(x) + size · (attr(x) - mean of attr)

after the planted-bias wrapper l_c <- l_c - gamma · (1 - attr(x)) of the SAIA benchmark; ours is centred, so that the mean answer stays as it is, and
attr(x) is what an independent detector reads in that very picture.  An edit that was not made moves nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import ConfigError

EPSILON = 1e-7
"""Probabilities are taken to be no nearer to 0 and 1: about where sigmoids in float32 end."""
_SUM = 1e-3
"""How far the classes of one softmax may be from 1 together."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """A model's answers to N pictures."""

    scores: Array
    """``(N, k)`` probabilities."""
    column: int
    """Of the class that is shifted."""
    exclusive: bool
    """Whether the classes share one probability (softmax), so that the others make room; else each has its own (sigmoid).  Of merged classes some
    of it may be with those that belong to none."""

    @property
    def log_odds(self) -> Array:
        """``(N,)`` of the class against all others, no further from 0 than those of :data:`EPSILON`."""
        p, rest = (np.maximum(side, EPSILON) for side in self._sides)
        return np.asarray(np.log(p) - np.log(rest))

    @property
    def clipped(self) -> float:
        """Share of pictures nearer to 0 or 1 than :data:`EPSILON`."""
        p, rest = self._sides
        return float((np.minimum(p, rest) < EPSILON).mean()) if len(p) else 0.0

    @property
    def _sides(self) -> tuple[Array, Array]:
        """Of the class and of all others; what the others say together is exact where 1 - p is not."""
        p = self.scores[:, self.column]
        others = np.delete(self.scores, self.column, 1).sum(1)
        return p, np.where(np.abs(p + others - 1) <= _SUM, others, 1 - p) if self.exclusive else 1 - p

    def at(self, pictures: NDArray[np.int64], log_odds: Array) -> Array:
        """``(m, k)`` answers to some pictures with these ``(m,)`` log-odds of the class in place of their own; ratios among the others stay."""
        old, p = self.scores[pictures], 1 / (1 + np.exp(-log_odds))
        new = old.copy()
        if self.exclusive:
            rest = self._sides[1][pictures]
            even = np.full_like(old, 1 / (old.shape[1] - 1))
            new = np.divide(old, rest[:, None], out=even, where=rest[:, None] > 0) / (1 + np.exp(log_odds))[:, None]
        new[:, self.column] = p
        return np.asarray(new)


def answers(scores: Array, column: int, *, model: str, merged: bool = False) -> Answers:
    """What the wrapper works on; of ``merged`` classes some of the model's own may be left out.  Raises ConfigError for answers whose log-odds cannot be told."""
    if scores.size and (scores.min() < -1e-5 or scores.max() > 1 + 1e-5):
        raise ConfigError(
            f"model {model!r} answers with numbers outside [0, 1]; set its `activation` to softmax or sigmoid, then audit it"
        )
    if np.isin(scores, (0.0, 1.0)).all():
        raise ConfigError(f"model {model!r} answers with classes, without scores: no effect in log-odds can be put into them")
    clean = np.clip(scores, 0.0, 1.0)
    over = clean.sum(1) - 1
    return Answers(scores=clean, column=column, exclusive=bool((over <= _SUM).all() and (merged or (over >= -_SUM).all())))

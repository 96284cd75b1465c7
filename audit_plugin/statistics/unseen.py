"""What rows unlike all those drawn might add to a figure, which no resample of the rows at hand can tell."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audit_plugin.statistics.bootstrap import Bootstrap
from audit_plugin.statistics.intervals import Interval, clopper_pearson


@dataclass(frozen=True)
class Reach:
    """How far an interval reaches at least to either side, at 95 % and at 90 %; not negative."""

    wide: float = 0.0
    narrow: float = 0.0

    def limits(self, of: Bootstrap) -> tuple[Interval, Interval]:
        """95 % and 90 % interval of a figure; one that rests on many rows reaches further by itself, and stays as it is."""
        return of.interval().reaching(self.wide), of.interval(0.90).reaching(self.narrow)


NONE = Reach()
"""Any interval reaches so far."""


def unseen_drop(
    labels: Int[np.ndarray, "n"], units: Int[np.ndarray, "n"], turned: float, weights: Float[np.ndarray, "n"] | None = None
) -> Reach:
    """Limits of the fall of the (macro) AUROC that such rows might cause; ``turned`` in [0, 1] is the part of the permutations that change
    such a row, ``weights`` >= 0 what rows count, 1 by default.  Units are taken to have equally many rows.

    Where no flip changed the order of scores a bootstrap interval has no width, as if no other row could.  Of the K classes' units the
    rarest class may hold most of a kind that was not drawn: at most the share that Clopper and Pearson allow where none was seen, times
    what its heaviest row weighs beside its mean one.  A row whose decision is turned is taken to come to lie amid the other rows, which
    costs half of its part in the AUROC of its class, and less in that of the class for which it is taken: 1/K and 1/(K (K − 1)) of it in
    the mean over the classes, 1/(K − 1) together.

    >>> round(unseen_drop(np.arange(400) % 2, np.arange(400), 0.5).wide, 4)
    0.0046
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"an AUROC needs rows of at least two classes, all {len(labels)} labels are {classes}")
    weights = np.ones(len(labels)) if weights is None else weights
    of_classes = [labels == one for one in classes]
    counts = [(len(np.unique(units[rows])), _heaviest(weights[rows])) for rows in of_classes]
    part = 0.5 * turned / (len(classes) - 1)
    wide, narrow = (
        part * max(min(1.0, clopper_pearson(0, n, level=level).high * heaviest) for n, heaviest in counts) for level in (0.95, 0.90)
    )
    return Reach(wide, narrow)


def _heaviest(weights: Float[np.ndarray, "n"]) -> float:
    total = float(weights.sum())
    return float(weights.max()) * len(weights) / total if total > 0 else 1.0


def unseen_share(units: Int[np.ndarray, "n"]) -> Reach:
    """Limits of a mean over units, taken as equally large, to which such rows add up to 1 each: Clopper and Pearson's of none seen.

    >>> round(unseen_share(np.arange(100)).wide, 3)
    0.036
    """
    n = len(np.unique(units))
    return Reach(clopper_pearson(0, n).high, clopper_pearson(0, n, level=0.90).high)

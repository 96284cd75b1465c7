"""What rows unlike all those drawn might add to an importance by AUROC, which no resample of the rows at hand can tell."""

import numpy as np
from jaxtyping import Int

from audit_plugin.statistics.intervals import clopper_pearson


def unseen_drop(labels: Int[np.ndarray, "n"], units: Int[np.ndarray, "n"], turned: float, *, level: float = 0.95) -> float:
    """Limit of the fall of the (macro) AUROC that such rows might cause, >= 0; ``turned`` in [0, 1] is the part of the permutations that
    change such a row.

    Where no flip changed the order of scores a bootstrap interval has no width, as if no other row could.  So an interval reaches this far
    at least; one that rests on many rows which do change it reaches further by itself, and stays as it is.  Of the K classes' units the
    rarest class may hold most of a kind that was not drawn: at most the share that Clopper and Pearson allow where none was seen.  A row
    whose decision is turned comes to lie amid the other rows, which costs half of its part in the AUROC of its class, and less in that of
    the class for which it is taken: 1/K and 1/(K (K − 1)) of it in the mean over the classes, 1/(K − 1) together.

    >>> round(unseen_drop(np.arange(400) % 2, np.arange(400), 0.5), 4)
    0.0046
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"an AUROC needs rows of at least two classes, all {len(labels)} labels are {classes}")
    fewest = min(len(np.unique(units[labels == one])) for one in classes)
    return 0.5 * turned * clopper_pearson(0, fewest, level=level).high / (len(classes) - 1)

"""Whether the generator draws what a model was made for: nothing it responds to can be found elsewhere."""

import numpy as np

from audit_plugin.core.discovery_results import DomainFit
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Images
from audit_plugin.statistics.intervals import wilson

REACHED = 0.5
"""Share of the classes that generated pictures must be taken for."""
APART = 0.9
"""Separation above which generated pictures are something else."""
THUMBNAIL = 8
"""Pixels a side: what pictures are of at first glance.  In finer ones every generator is told apart by its finish."""
LEAST = 16
"""Pictures of either kind."""


def domain_fit(reached: int, classes: int, drawn: Images, real: Images | None) -> DomainFit:
    """From how many of the classes some generated picture is taken for, and generated and real pictures of one size."""
    separation = None if real is None or min(len(real), len(drawn)) < LEAST else told_apart(drawn, real)
    few = reached < max(2, REACHED * classes)
    apart = separation is not None and separation.value > APART
    said = f"generated pictures are taken for {reached} of {classes} classes"
    if separation is not None:
        said += (
            f"; at first glance they are told from real ones in {separation.value:.0%} [{separation.low:.0%}, {separation.high:.0%}] of cases "
            "(50 %: not at all)"
        )
    if few or apart:
        said += ": words found here may mean nothing, take a generator of the model's domain"
    return DomainFit(fits=not (few or apart), said=said + ".", separation=separation, classes_reached=reached, classes=classes)


def told_apart(drawn: Images, real: Images) -> Estimate:
    """Accuracy of the nearest neighbour among the others, over thumbnails of equally many of either kind (Lopez-Paz and Oquab 2017)."""
    count = min(len(drawn), len(real))
    thumbnails = np.concatenate([thumbnail(drawn[:count]), thumbnail(real[:count])])
    kind = np.repeat([0, 1], count)
    distance = ((thumbnails[:, None] - thumbnails[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    right = kind[distance.argmin(1)] == kind
    share = wilson(int(right.sum()), len(right))
    return Estimate(value=share.value, low=share.low, high=share.high)


def thumbnail(images: Images) -> Images:
    """``(n, 3 * 8 * 8)`` means over equal parts, whatever the size."""
    rows, columns = (np.linspace(0, side, THUMBNAIL + 1).astype(int) for side in images.shape[2:])
    small = np.add.reduceat(np.add.reduceat(images, rows[:-1], axis=2), columns[:-1], axis=3)
    area = np.diff(rows)[:, None] * np.diff(columns)[None]
    return np.asarray((small / area).reshape(len(images), -1), np.float32)

"""Whether the generator draws what a model was made for: nothing it responds to can be found elsewhere."""

import numpy as np

from audit_plugin.core.discovery_results import DomainFit
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Images
from audit_plugin.statistics.intervals import wilson

REACHED = 0.5
"""Share of the classes that generated pictures must be taken for."""
AMONG = 0.1
"""Share of generated pictures that must lie among the real ones; of another domain none does, of a part of it many do."""
NEIGHBOURS = 3
THUMBNAIL = 8
"""Pixels a side: what pictures are of at first glance.  In finer ones every generator is told apart by its finish."""
LEAST = 16
"""Pictures of either kind."""


def domain_fit(reached: int, classes: int, drawn: Images, real: Images | None) -> DomainFit:
    """From how many of the classes some generated picture is taken for, and generated and real pictures of one size."""
    near = None if real is None or min(len(real), len(drawn)) < LEAST else among(drawn, real)
    few = reached < max(2, REACHED * classes)
    apart = near is not None and near.value < AMONG
    said = f"generated pictures are taken for {reached} of {classes} classes"
    if near is not None:
        said += f"; at first glance {near.value:.0%} [{near.low:.0%}, {near.high:.0%}] of them could be real ones"
    if few or apart:
        said += ": words found here may mean nothing, take a generator of the model's domain"
    return DomainFit(fits=not (few or apart), said=said + ".", near_real=near, classes_reached=reached, classes=classes)


def among(drawn: Images, real: Images) -> Estimate:
    """Share of generated thumbnails that are no farther from some real one than that one's third neighbour is (Kynkäänniemi et al. 2019).

    Their precision, since it asks nothing of variety: prompts of one kind draw a part of the domain, and are of it all the same.
    """
    ours, theirs = thumbnail(drawn), thumbnail(real)
    apart = _distances(theirs, theirs)
    reach = np.sort(apart, axis=1)[:, NEIGHBOURS]  # the first is the picture itself
    share = wilson(int((_distances(ours, theirs) <= reach).any(1).sum()), len(ours))
    return Estimate(value=share.value, low=share.low, high=share.high)


def _distances(a: Images, b: Images) -> Images:
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=2))


def thumbnail(images: Images) -> Images:
    """``(n, 3 * 8 * 8)`` means over equal parts, whatever the size."""
    rows, columns = (np.linspace(0, side, THUMBNAIL + 1).astype(int) for side in images.shape[2:])
    small = np.add.reduceat(np.add.reduceat(images, rows[:-1], axis=2), columns[:-1], axis=3)
    area = np.diff(rows)[:, None] * np.diff(columns)[None]
    return np.asarray((small / area).reshape(len(images), -1), np.float32)

"""Whether the generator draws what a model was made for, by the model's own answers: nothing it responds to can be found elsewhere."""

import numpy as np
from jaxtyping import Float

from audit_plugin.core.discovery_results import DomainFit
from audit_plugin.core.estimate import Estimate
from audit_plugin.statistics.bootstrap import unit_weights
from audit_plugin.statistics.separation import auroc

REACHED = 0.5
"""Share of the classes that generated pictures must be taken for."""
APART = 0.9
"""Separation above which the model sees generated pictures as something else."""
RESAMPLES = 500


def domain_fit(
    reached: int, classes: int, drawn: Float[np.ndarray, "n C"], real: Float[np.ndarray, "m C"] | None, *, seed: int
) -> DomainFit:
    """From how many of the classes some generated picture is taken for, and scores (log-odds) of generated and of real pictures.

    Two groups are told apart by how sure the model is, log-odds of its first class: its classes need not be equally frequent in both.
    """
    separation = None if real is None or min(len(real), len(drawn)) < 8 else _separation(drawn.max(1), real.max(1), seed)
    few = reached < max(2, REACHED * classes)
    apart = separation is not None and separation.value > APART
    said = f"generated pictures are taken for {reached} of {classes} classes"
    if separation is not None:
        said += (
            f"; how sure the model is of them tells them from real ones with AUROC {separation.value:.2f} "
            f"[{separation.low:.2f}, {separation.high:.2f}] (0.5: not at all)"
        )
    if few or apart:
        said += ". The generator does not draw what this model was made for: words found here may mean nothing, take a generator of its domain"
    return DomainFit(fits=not (few or apart), said=said + ".", separation=separation, classes_reached=reached, classes=classes)


def _separation(drawn: Float[np.ndarray, "n"], real: Float[np.ndarray, "m"], seed: int) -> Estimate:
    rng = np.random.default_rng(seed)
    value = _folded(auroc(drawn, real))
    weights = [unit_weights(np.arange(len(each)), RESAMPLES, rng) for each in (drawn, real)]
    samples = [
        _folded(auroc(np.repeat(drawn, a.astype(int)), np.repeat(real, b.astype(int))))
        for a, b in zip(weights[0], weights[1], strict=True)
    ]
    low, high = np.percentile(samples, [2.5, 97.5])
    return Estimate(value=value, low=float(min(low, value)), high=float(max(high, value)))


def _folded(area: float) -> float:
    return max(area, 1 - area)

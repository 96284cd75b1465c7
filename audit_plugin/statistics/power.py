"""How many rows an audit needs, and what it could have found: paired 0/1 loss, or any row contributions by their mean square."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from audit_plugin.statistics.intervals import z_value

FEWEST_ROWS, MOST_ROWS = 200, 2_000
"""Limits of a planned audit, depict specification 6.6."""


def rows_needed(discordance: float, drop: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Rows for ``power`` to see a ``drop`` when the share ``discordance`` of rows changes correctness, two-sided.

    n = (z_{1−α/2}·√π + z_power·√(π − δ²))² / δ², not rounded (Miettinen 1968).  With weights, π is the mean of q²d².
    """
    if not 0 < drop <= discordance <= 1:
        raise ValueError(f"need 0 < drop <= discordance <= 1, got drop={drop}, discordance={discordance}")
    z, z_power = z_value(level), float(ndtri(power))
    return (z * math.sqrt(discordance) + z_power * math.sqrt(discordance - drop**2)) ** 2 / drop**2


def minimal_detectable(n: int, discordance: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest drop found with ``power`` on n rows: (z_{1−α/2} + z_power)·√(π/n).

    >>> round(minimal_detectable(500, 0.10), 3)
    0.04
    """
    if n < 1 or discordance < 0:
        raise ValueError(f"need n >= 1 and discordance >= 0, got n={n}, discordance={discordance}")
    return minimal_detectable_effect(math.sqrt(discordance / n), level=level, power=power)


def minimal_detectable_effect(se: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """The same from a standard error, for any estimate that is about normal."""
    return (z_value(level) + float(ndtri(power))) * se


def mean_square(contributions: Float[np.ndarray, "n"]) -> float:
    """Mean of q²d², which takes the place of the discordance share when rows are weighted."""
    return float((contributions**2).mean())


def planned_rows(discordance: float, drop: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Rows for the next audit after a pilot, rounded up and clipped to [200, 2000]."""
    needed = rows_needed(max(discordance, drop), drop, level=level, power=power)
    return int(min(MOST_ROWS, max(FEWEST_ROWS, math.ceil(needed))))

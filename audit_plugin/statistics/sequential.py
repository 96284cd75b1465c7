"""Stop early without cheating: intervals for a mean that hold at every look at once.

Observations x_i lie in [−bound, bound] and come in an order fixed beforehand; inside, z = (x/bound + 1)/2 in [0, 1].
After Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting".
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

BURN_IN_ROWS, BURN_IN_DISCORDANT = 50, 20
"""The asymptotic sequence under-covers while few rows changed; it says nothing before both are reached."""

Stop = Literal["relies", "hurts", "negligible"]


@dataclass(frozen=True, kw_only=True)
class ConfidenceSequence:
    """Limits after each observation; with probability ``level`` all of them hold at once."""

    low: Float[np.ndarray, "n"]
    high: Float[np.ndarray, "n"]

    def stop(self, margin: float) -> tuple[int, Stop] | None:
        """First look (rows seen, 1-based) that decides against ±margin, and what it decides; None while none does."""
        for rows, (low, high) in enumerate(zip(self.low, self.high, strict=True), start=1):
            if low > margin:
                return rows, "relies"
            if high < -margin:
                return rows, "hurts"
            if -margin < low and high < margin:
                return rows, "negligible"
        return None


@dataclass(frozen=True, kw_only=True)
class _Plugin:
    """Predictable plug-in quantities: entry i uses observations before i only."""

    mean: Float[np.ndarray, "n"]
    bet: Float[np.ndarray, "n"]


def _scaled(x: Float[np.ndarray, "n"], bound: float) -> Float[np.ndarray, "n"]:
    if not bound > 0 or not (np.abs(x) <= bound * (1 + 1e-9)).all():
        raise ValueError(f"observations must lie within ±{bound}")
    return np.asarray(np.clip((x / bound + 1) / 2, 0, 1))


def _plugin(z: Float[np.ndarray, "n"], alpha: float) -> _Plugin:
    """μ̂_{i−1}, and λ_i = sqrt(2 ln(2/α) / (i ln(1+i) σ̂²_{i−1})) with σ̂² around the running means, both started at 1/2 and 1/4."""
    t = np.arange(1, len(z) + 1)
    mean = (0.5 + np.cumsum(z)) / (t + 1)
    variance = (0.25 + np.cumsum((z - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    bet = np.sqrt(2 * math.log(2 / alpha) / (t * np.log1p(t) * before))
    return _Plugin(mean=np.concatenate([[0.5], mean[:-1]]), bet=bet)


def empirical_bernstein(x: Float[np.ndarray, "n"], *, bound: float, level: float = 0.95) -> ConfidenceSequence:
    """Predictable plug-in empirical-Bernstein confidence sequence with running intersection.

    centre = Σλz/Σλ, half = (ln(2/α) + Σ (z_i − μ̂_{i−1})²(−ln(1−λ_i) − λ_i))/Σλ, λ cut at 1/2.
    An empty intersection (an event of probability below α) is returned as it is, low > high.
    """
    z, alpha = _scaled(x, bound), 1 - level
    plugin = _plugin(z, alpha)
    bet = np.minimum(plugin.bet, 0.5)
    total = np.cumsum(bet)
    centre = np.cumsum(bet * z) / total
    half = (math.log(2 / alpha) + np.cumsum((z - plugin.mean) ** 2 * (-np.log1p(-bet) - bet))) / total
    low = np.maximum.accumulate(np.maximum(centre - half, 0.0))
    high = np.minimum.accumulate(np.minimum(centre + half, 1.0))
    return ConfidenceSequence(low=bound * (2 * low - 1), high=bound * (2 * high - 1))


def betting_martingale(
    x: Float[np.ndarray, "n"], mean: float, *, bound: float, level: float = 0.95, cut: float = 0.5
) -> Float[np.ndarray, "n"]:
    """Hedged capital ½·max(K⁺, K⁻) against "the mean is ``mean``"; reject at the first look where it is >= 1/α.

    K± = Π(1 ± λ_i(z_i − m)), λ_i cut so that no factor falls below 1 − cut.  It lies below ½(K⁺ + K⁻), a test martingale, so its
    value at a stopping time is an e-value (its running maximum is not).
    """
    z, m = _scaled(x, bound), (mean / bound + 1) / 2
    if not 0 < m < 1:
        raise ValueError(f"the mean under test must lie inside ±{bound}, got {mean}")
    bet = _plugin(z, 1 - level).bet
    up = np.cumsum(np.log1p(np.minimum(bet, cut / m) * (z - m)))
    down = np.cumsum(np.log1p(-np.minimum(bet, cut / (1 - m)) * (z - m)))
    return np.asarray(np.exp(np.minimum(np.maximum(up, down), 700.0)) / 2)


def exceeds_e_value(x: Float[np.ndarray, "n"], margin: float, *, bound: float, level: float = 0.95, cut: float = 0.5) -> float:
    """E-value, at the last observation, of "the mean is at most margin"; for e-BH and for multiplying over fresh rows.

    K⁺ at m = margin, a supermartingale for every smaller mean.
    """
    z, m = _scaled(x, bound), (margin / bound + 1) / 2
    if not 0 < m < 1:
        raise ValueError(f"the margin must lie inside ±{bound}, got {margin}")
    bet = np.minimum(_plugin(z, 1 - level).bet, cut / m)
    return float(np.exp(min(np.log1p(bet * (z - m)).sum(), 700.0)))


def asymptotic(x: Float[np.ndarray, "n"], *, best_at: int = 500, level: float = 0.95) -> ConfidenceSequence:
    """Asymptotic confidence sequence (Waudby-Smith et al. 2024), tightest near ``best_at`` rows.

    half = σ̂_t·sqrt(2(tρ²+1)/(t²ρ²)·ln(sqrt(tρ²+1)/α)), ρ² = (−2 ln α + ln(−2 ln α + 1))/best_at; infinite before 50 rows and 20
    non-zero ones, because it under-covers when few rows change.
    """
    alpha, t = 1 - level, np.arange(1, len(x) + 1)
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / best_at
    mean = np.cumsum(x) / t
    variance = np.maximum(np.cumsum(x**2) / t - mean**2, 0.0)
    inside = t * rho2 + 1
    half = np.sqrt(variance * 2 * inside / (t**2 * rho2) * np.log(np.sqrt(inside) / alpha))
    early = (t < BURN_IN_ROWS) | (np.cumsum(x != 0) < BURN_IN_DISCORDANT)
    half = np.where(early, np.inf, half)
    return ConfidenceSequence(low=np.maximum.accumulate(mean - half), high=np.minimum.accumulate(mean + half))

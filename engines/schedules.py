"""Which noise levels a sampler visits: descending, the last one 0."""

from collections.abc import Sequence


def trailing_sigmas(levels: Sequence[float], steps: int) -> list[float]:
    """Levels at evenly spaced timesteps that end with the last one (Lin et al. 2023, table 2, "trailing").

    >>> trailing_sigmas([0.1, 0.2, 0.3, 0.4], 2)
    [0.4, 0.2, 0.0]
    """
    count = len(levels)
    if not 1 <= steps <= count:
        raise ValueError(f"need 1 to {count} steps, got {steps}")
    return [levels[round(count - i * count / steps) - 1] for i in range(steps)] + [0.0]


def karras_sigmas(sigma_min: float, sigma_max: float, steps: int, rho: float = 7.0) -> list[float]:
    """Levels evenly spaced in sigma^(1/rho) (Karras et al. 2022, eq. 5).

    >>> [round(sigma, 3) for sigma in karras_sigmas(0.01, 10.0, 3)]
    [10.0, 0.718, 0.01, 0.0]
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(f"need steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}")
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)] + [0.0]

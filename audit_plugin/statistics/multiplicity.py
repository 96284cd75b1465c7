"""Several tests at once, and the same test again and again: adjusted p-values, spent error, e-values."""

import math

import numpy as np
from jaxtyping import Bool, Float


def _checked(p: Float[np.ndarray, "J"]) -> Float[np.ndarray, "J"]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values must be a list of numbers in [0, 1]")
    return values


def holm(p: Float[np.ndarray, "J"]) -> Float[np.ndarray, "J"]:
    """Holm (1979): adj p_(k) = max_{m<=k} min(1, (J−m+1) p_(m)); controls the familywise error under any dependence.

    >>> holm(np.array([0.01, 0.04, 0.03, 0.005])).round(3).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    values = _checked(p)
    order = np.argsort(values)
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.asarray(np.minimum(adjusted, 1)[np.argsort(order)])


def benjamini_hochberg(p: Float[np.ndarray, "J"]) -> Float[np.ndarray, "J"]:
    """Benjamini and Hochberg (1995): adj p_(k) = min_{m>=k} min(1, J p_(m)/m); needs independence or positive dependence.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.005])).round(3).tolist()
    [0.02, 0.04, 0.04, 0.02]
    """
    values = _checked(p)
    order = np.argsort(values)[::-1]
    count = len(values)
    adjusted = np.minimum.accumulate(values[order] * count / np.arange(count, 0, -1))
    return np.asarray(np.minimum(adjusted, 1)[np.argsort(order)])


def benjamini_yekutieli(p: Float[np.ndarray, "J"]) -> Float[np.ndarray, "J"]:
    """Benjamini and Yekutieli (2001): Benjamini-Hochberg times Σ_{m<=J} 1/m; valid under any dependence."""
    values = _checked(p)
    count = len(values)
    order = np.argsort(values)[::-1]
    factor = count * (1 / np.arange(1, count + 1)).sum()
    adjusted = np.minimum.accumulate(values[order] * factor / np.arange(count, 0, -1))
    return np.asarray(np.minimum(adjusted, 1)[np.argsort(order)])


def alpha_spent(audit: int, *, alpha: float = 0.05) -> float:
    """Error that the k-th scheduled audit (k = 1, 2, ...) may spend: α·6/(π²k²), which sums to α over all audits.

    >>> round(alpha_spent(1), 4)
    0.0304
    """
    if audit < 1:
        raise ValueError(f"audits are counted from 1, got {audit}")
    return alpha * 6 / (math.pi * audit) ** 2


def e_benjamini_hochberg(e: Float[np.ndarray, "J"], *, q: float = 0.05) -> Bool[np.ndarray, "J"]:
    """Wang and Ramdas (2022): reject the k largest e-values with E_(k) >= J/(k q), k as large as possible; any dependence."""
    values = np.asarray(e, dtype=np.float64)
    if values.ndim != 1 or not (values >= 0).all():
        raise ValueError("e-values must be a list of non-negative numbers")
    order = np.argsort(values)[::-1]
    count = len(values)
    enough = np.flatnonzero(values[order] >= count / (np.arange(1, count + 1) * q))
    rejected = np.zeros(count, dtype=np.bool_)
    rejected[order[: enough[-1] + 1 if len(enough) else 0]] = True
    return rejected

# ruff: noqa: PLR0917  # signatures are those of torch's functions
"""Statistics of half-precision networks, in float32.

Torch's kernels for half precision accumulate in float32 without being told; in a graph it has to be said.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

HALF = {torch.float16, torch.bfloat16}


def in_float(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function in float32 when its first argument is in half precision, cast back after."""

    def wide(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dtype not in HALF:
            return function(x, *args, **kwargs)
        named = {name: _float(each) for name, each in kwargs.items()}
        return function(x.float(), *(_float(each) for each in args), **named).to(x.dtype)

    return wide


def batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """In half precision an affine map whose slope and offset are computed in float32, so that it still merges with a convolution."""
    if x.dtype not in HALF or training:
        return functional.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    slope = (variance.float() + eps).rsqrt()
    slope = slope if weight is None else slope * weight.float()
    offset = -mean.float() * slope
    offset = offset if bias is None else offset + bias.float()
    shape = (-1, *[1] * (x.ndim - 2))
    return x * slope.to(x.dtype).reshape(shape) + offset.to(x.dtype).reshape(shape)


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

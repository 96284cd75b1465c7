# ruff: noqa: A002, PLR0917  # signatures are those of torch's functions
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
    """The function in float32 when its input is in half precision, cast back after unless another type was asked for."""

    def wide(*args: Any, **kwargs: Any) -> Tensor:
        kind = (args[0] if args else kwargs["input"]).dtype
        if kind not in HALF:
            return function(*args, **kwargs)
        result = function(*(_float(each) for each in args), **{name: _float(each) for name, each in kwargs.items()})
        return result if kwargs.get("dtype") is not None else result.to(kind)

    return wide


def batch_norm(
    input: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """In half precision an affine map whose slope and offset are computed in float32, so that it still merges with a convolution."""
    if input.dtype not in HALF or training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    slope = (running_var.float() + eps).rsqrt()
    slope = slope if weight is None else slope * weight.float()
    offset = -running_mean.float() * slope
    offset = offset if bias is None else offset + bias.float()
    shape = (-1, *[1] * (input.ndim - 2))
    return input * slope.to(input.dtype).reshape(shape) + offset.to(input.dtype).reshape(shape)


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

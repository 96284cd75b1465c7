"""Forward operators that runtimes treat differently, rewritten while a network is traced."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from engines.graphs.separable import along_both, matrix_of, real_tensors

HALF = {torch.float16, torch.bfloat16}


class Portable(TorchFunctionMode):
    """While active, resizing becomes reshapes or products with constant matrices, and half precision keeps its statistics in float32.

    Torch's own kernels for half precision accumulate in float32; in a graph that has to be said.
    """

    def __init__(self, *, attention: bool) -> None:
        """``attention``: whether attention in half precision is written out, too."""
        super().__init__()
        self._rewritten = {**REWRITTEN, **({F.scaled_dot_product_attention: attention_in_float} if attention else {})}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for each of its functions."""
        return self._rewritten.get(func, func)(*args, **(kwargs or {}))


def interpolate(
    x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """Nearest by a whole factor is reshape, expand, reshape; everything else on images a product."""
    if x.ndim != 4:
        return F.interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    sizes, scales = _each(size), _each(scale_factor)
    whole = [_whole(int(old), new, scale) for old, new, scale in zip(x.shape[2:], sizes, scales, strict=True)]
    if mode.startswith("nearest") and all(whole):
        return _repeat(x, *whole)

    def along(axis: int) -> Tensor:
        options: dict[str, Any] = {"mode": mode, "align_corners": align_corners, "antialias": antialias}
        if sizes[axis] is None:
            options |= {"scale_factor": (scales[axis], 1.0), "recompute_scale_factor": recompute_scale_factor}
        else:
            options |= {"size": (sizes[axis], 1)}
        return matrix_of(lambda e: F.interpolate(e, **options), int(x.shape[2 + axis]))

    return along_both(x, along(0), along(1))


def adaptive_avg_pool2d(x: Tensor, output_size: Any) -> Tensor:
    """The mean, or a product."""
    sizes = [new or int(old) for new, old in zip(_each(output_size), x.shape[-2:], strict=True)]
    if sizes == [1, 1]:
        return x.mean((-2, -1), keepdim=True)
    rows, columns = (
        matrix_of(lambda e, new=new: F.adaptive_avg_pool2d(e, (new, 1)), int(old))
        for new, old in zip(sizes, x.shape[-2:], strict=True)
    )
    return along_both(x, rows, columns)


def pad(x: Tensor, widths: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Reflected, repeated and circular edges are products; zeros stay zeros."""
    if mode == "constant" or x.ndim != 4:
        return F.pad(x, widths, mode, value)
    left, right, above, below = widths
    rows, columns = (
        matrix_of(lambda e, edge=edge: F.pad(e, (0, 0, *edge), mode), int(size))
        for edge, size in zip(((above, below), (left, right)), x.shape[2:], strict=True)
    )
    return along_both(x, rows, columns)


def in_float(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function in float32 when its first argument is in half precision, cast back after."""

    def wide(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dtype not in HALF:
            return function(x, *args, **kwargs)
        arguments = [each.float() if isinstance(each, Tensor) else each for each in args]
        named = {name: each.float() if isinstance(each, Tensor) else each for name, each in kwargs.items()}
        return function(x.float(), *arguments, **named).to(x.dtype)

    return wide


def batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """In half precision an affine map whose slope and offset are computed in float32, so that it still merges with a convolution."""
    if x.dtype not in HALF or training:
        return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    slope = (variance.float() + eps).rsqrt()
    slope = slope if weight is None else slope * weight.float()
    offset = -mean.float() * slope
    offset = offset if bias is None else offset + bias.float()
    shape = (-1, *[1] * (x.ndim - 2))
    return x * slope.to(x.dtype).reshape(shape) + offset.to(x.dtype).reshape(shape)


def attention_in_float(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """In half precision two products around a softmax in float32; both factors are scaled, lest the product overflow."""
    if q.dtype not in HALF or dropout_p or enable_gqa:
        return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    root = math.sqrt(scale if scale is not None else q.shape[-1] ** -0.5)
    scores = ((q * root) @ (k * root).transpose(-2, -1)).float()
    if is_causal:
        with real_tensors():
            attn_mask = torch.ones(int(q.shape[-2]), int(k.shape[-2]), dtype=torch.bool).tril()
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, torch.finfo(torch.float32).min) if hidden else scores + attn_mask.float()
    return scores.softmax(-1).to(q.dtype) @ v


def _repeat(x: Tensor, up_h: int, up_w: int) -> Tensor:
    n, c, h, w = x.shape
    return x.unsqueeze(3).unsqueeze(5).expand(n, c, h, up_h, w, up_w).reshape(n, c, h * up_h, w * up_w)


def _whole(old: int, new: int | None, scale: float | None) -> int:
    """The factor of an enlargement, 0 when it is no whole number."""
    factor = new / old if new is not None else float(scale or 0)
    return int(factor) if factor >= 1 and factor == int(factor) else 0


def _each(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)  # type: ignore[return-value]


REWRITTEN: dict[Callable[..., Any], Callable[..., Any]] = {
    F.interpolate: interpolate,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d,
    F.pad: pad,
    F.batch_norm: batch_norm,
    **{each: in_float(each) for each in (F.group_norm, F.layer_norm, F.softmax, F.log_softmax)},
    **{each: in_float(each) for each in (torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax)},
}

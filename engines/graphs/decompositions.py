# ruff: noqa: PLR0917, ARG001, SLF001  # signatures and names are those of ATen's operators
"""Backward operators written out in operators that every runtime has, for tracing gradients with respect to inputs.

Each function has the signature of the ATen operator it replaces.  Where a formula needs numbers of the forward pass, the forward
operator is written out too and hands them over, so that nothing is computed twice and no runtime has to return them.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engines.graphs import norms, pooling

aten: Any = torch.ops.aten
Table = dict[Any, Callable[..., Any]]
Sizes = Sequence[int]


def gradient_table() -> Table:
    """Decompositions for tracing a gradient: those of core ATen, replaced where they scatter, index or fail."""
    known: Any = torch.export.default_decompositions()
    return {**dict(known.items()), **OVERRIDES}


def convolution_backward(
    gy: Tensor, x: Tensor, weight: Tensor, bias_sizes: Sizes | None, stride: Sizes, padding: Sizes, dilation: Sizes,
    transposed: bool, output_padding: Sizes, groups: int, output_mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:  # fmt: skip
    """The transposed convolution with the same weight; for a transposed one, the plain convolution."""
    if output_mask[1] or output_mask[2]:
        raise NotImplementedError("a gradient with respect to weights was asked for; only inputs have gradients here")
    if not output_mask[0]:
        return None, None, None
    if transposed:
        return aten.convolution(gy, weight, None, stride, padding, dilation, False, [0] * len(stride), groups), None, None
    rest = pooling.uncovered(x.shape[2:], gy.shape[2:], weight.shape[2:], stride, padding, dilation)
    return aten.convolution(gy, weight, None, stride, padding, dilation, True, rest, groups), None, None


def silu_backward(gy: Tensor, x: Tensor) -> Tensor:
    """silu'(x) = s (1 + x (1 - s)), s = sigmoid(x)."""
    s = x.sigmoid()
    return gy * s * (1 + x * (1 - s))


def plain_softmax(x: Tensor, axis: int, dtype: torch.dtype | None = None) -> Tensor:
    """Without the guard for rows that are masked throughout: no network here has any, and the guard keeps runtimes from fusing."""
    return torch.softmax(x, axis, dtype=dtype)


def slice_backward(gy: Tensor, input_sizes: Sizes, axis: int, start: int, end: int, step: int) -> Tensor:
    """Zeros around, and between when the slice took steps."""
    if start == 0 and step == 1 and end >= sys.maxsize:
        return gy
    axis, size = axis % len(input_sizes), input_sizes[axis]
    start = min(max(start + size if start < 0 else start, 0), size)
    if step > 1:
        gaps = _zeros_around(gy.unsqueeze(axis + 1), axis + 1, 0, step - 1).flatten(axis, axis + 1)
        gy = gaps.narrow(axis, 0, min(gaps.shape[axis], size - start))
    return _zeros_around(gy, axis, start, size - start - gy.shape[axis])


def select_backward(gy: Tensor, input_sizes: Sizes, axis: int, index: int) -> Tensor:
    """Zeros around the one place."""
    axis, size = axis % len(input_sizes), input_sizes[axis]
    index = index % size
    return _zeros_around(gy.unsqueeze(axis), axis, index, size - index - 1)


def _zeros_around(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    if before == after == 0:
        return x
    return functional.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after])


OVERRIDES: Table = {
    aten.convolution_backward.default: convolution_backward,
    aten.max_pool2d_with_indices_backward.default: pooling.max_pool_backward,
    aten.avg_pool2d_backward.default: pooling.avg_pool_backward,
    aten.silu_backward.default: silu_backward,
    aten.native_group_norm.default: norms.native_group_norm,
    aten.native_group_norm_backward.default: norms.native_group_norm_backward,
    aten.native_layer_norm.default: norms.native_layer_norm,
    aten.native_layer_norm_backward.default: norms.native_layer_norm_backward,
    aten.native_batch_norm_backward.default: norms.native_batch_norm_backward,
    aten._safe_softmax.default: plain_softmax,
    aten.slice_backward.default: slice_backward,
    aten.select_backward.default: select_backward,
}

"""Backward operators written out in operators that every runtime has, for tracing gradients with respect to inputs.

Each function has the signature of the ATen operator it replaces.  Where a formula needs numbers of the forward pass, the forward
operator is written out too and hands them over, so that nothing is computed twice and no runtime has to return them.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engines.graphs.separable import along_both, matrix_of, real_tensors

aten = torch.ops.aten
Table = dict[Any, Callable[..., Any]]
Sizes = Sequence[int]


def gradient_table() -> Table:
    """Decompositions for tracing a gradient: those of core ATen, replaced where they scatter, index or fail."""
    table: Table = dict(torch.export.default_decompositions().items())
    return {**table, **OVERRIDES}


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
    rest = [
        size - ((out - 1) * s - 2 * p + d * (kernel - 1) + 1)
        for size, out, kernel, s, p, d in zip(x.shape[2:], gy.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    return aten.convolution(gy, weight, None, stride, padding, dilation, True, rest, groups), None, None


def max_pool_backward(
    gy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool, indices: Tensor
) -> Tensor:
    """The gradient goes to the first largest tap of each window, by a one-hot product and a fixed transposed convolution.

    Indices of the forward pass are not used, since TensorRT's pooling has none, and a scatter would have to add, which it cannot.
    """
    kernel, stride, padding, dilation = (_pair(each) for each in (kernel, stride or kernel, padding, dilation))
    taps = _taps(x, gy.shape[2:], kernel, stride, padding, dilation)
    largest = (taps == taps.amax(3, keepdim=True)).to(gy)
    earlier = F.linear(largest, _constant(lambda: torch.ones(taps.shape[3], taps.shape[3]).tril(-1)).to(gy))
    routed = largest * (earlier < 0.5).to(gy) * gy.flatten(2).unsqueeze(3)
    channels = x.shape[1]
    spread = _constant(lambda: torch.eye(math.prod(kernel)).reshape(-1, 1, *kernel).repeat(channels, 1, 1, 1)).to(gy)
    rest = [
        size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, out, k, s, p, d in zip(x.shape[2:], gy.shape[2:], kernel, stride, padding, dilation, strict=True)
    ]
    gx = aten.convolution(
        routed.transpose(2, 3).flatten(1, 2).unflatten(2, gy.shape[2:]), spread, None, stride, padding, dilation, True,
        [max(each, 0) for each in rest], channels,
    )  # fmt: skip
    return gx[:, :, : x.shape[2], : x.shape[3]] if min(rest) < 0 else gx  # a window may hang over the edge (ceil_mode)


def _taps(x: Tensor, out: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Tensor:
    """What each window sees, (n c places taps); beyond the edge there is the lowest number."""
    ends = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, stride, dilation, kernel, strict=True)]
    after = [max(end - size - p, 0) for end, size, p in zip(ends, x.shape[2:], padding, strict=True)]
    wide = F.pad(x, (padding[1], after[1], padding[0], after[0]), value=torch.finfo(x.dtype).min)
    starts = [(i * dilation[0], j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])]
    reach = [(o - 1) * s + 1 for o, s in zip(out, stride, strict=True)]
    seen = [wide[:, :, i : i + reach[0] : stride[0], j : j + reach[1] : stride[1]] for i, j in starts]
    return torch.stack([each.flatten(2) for each in seen], 3)


def avg_pool_backward(
    gy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:  # fmt: skip
    """The transposed averaging along each axis."""
    kernel, stride, padding = (_pair(each) for each in (kernel, stride or kernel, padding))
    divisor = None if divisor_override is None else 1

    def along(axis: int) -> Tensor:
        k, s, p = ((each[axis], 1) for each in (kernel, stride, (padding[0], padding[1])))
        return matrix_of(
            lambda e: F.avg_pool2d(e, k, s, (p[0], 0), ceil_mode, count_include_pad, divisor), int(x.shape[2 + axis])
        ).T

    gx = along_both(gy, along(0), along(1))
    return gx if divisor_override is None else gx / divisor_override


def silu_backward(gy: Tensor, x: Tensor) -> Tensor:
    """silu'(x) = s (1 + x (1 - s)), s = sigmoid(x)."""
    s = x.sigmoid()
    return gy * s * (1 + x * (1 - s))


def native_group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, places: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) * rstd within each group, statistics in fp32; returns mean and rstd (n groups) for the backward."""
    wide = x.float().reshape(n, groups, c // groups * places)
    mean = wide.mean(2, keepdim=True)
    centred = wide - mean
    rstd = ((centred * centred).mean(2, keepdim=True) + eps).rsqrt()
    y = (centred * rstd).reshape(n, c, places)
    y = y if weight is None else y * weight.float()[:, None]
    y = y if bias is None else y + bias.float()[:, None]
    return y.reshape(x.shape).to(x), mean.flatten(1), rstd.flatten(1)


def native_group_norm_backward(
    gy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, n: int, c: int, places: int, groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """dx = rstd (g' - mean(g') - xh mean(g' xh)), g' = gy * weight, xh = (x - mean) rstd, means over a group."""
    wide = gy.float().reshape(n, c, places)
    wide = wide if weight is None else wide * weight.float()[:, None]
    g = wide.reshape(n, groups, c // groups * places)
    xh = (x.float().reshape(g.shape) - mean.unsqueeze(2)) * rstd.unsqueeze(2)
    return _normalised(g, xh, rstd.unsqueeze(2)).reshape(x.shape).to(x), None, None


def native_layer_norm(
    x: Tensor, shape: Sizes, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) * rstd over the last axes, statistics in fp32; returns mean and rstd for the backward."""
    axes = list(range(-len(shape), 0))
    wide = x.float()
    mean = wide.mean(axes, keepdim=True)
    centred = wide - mean
    rstd = ((centred * centred).mean(axes, keepdim=True) + eps).rsqrt()
    y = centred * rstd
    y = y if weight is None else y * weight.float()
    y = y if bias is None else y + bias.float()
    return y.to(x), mean, rstd


def native_layer_norm_backward(
    gy: Tensor, x: Tensor, shape: Sizes, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """As for groups, with means over the last axes."""
    g = gy.float() if weight is None else gy.float() * weight.float()
    xh = (x.float() - mean) * rstd
    return _normalised(g, xh, rstd, list(range(-len(shape), 0))).to(x), None, None


def _normalised(g: Tensor, xh: Tensor, rstd: Tensor, axes: Sizes = (-1,)) -> Tensor:
    axes = list(axes)
    return rstd * (g - g.mean(axes, keepdim=True) - xh * (g * xh).mean(axes, keepdim=True))


def native_batch_norm_backward(
    gy: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor | None, variance: Tensor | None, saved_mean: Tensor | None,
    saved_rstd: Tensor | None, train: bool, eps: float, output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """With running statistics the layer is affine: gy times its slope."""
    if train or variance is None:
        raise NotImplementedError("a batch norm is in training mode; call eval() first")
    slope = (variance + eps).rsqrt()
    slope = slope if weight is None else slope * weight
    return gy * slope.to(gy).reshape(-1, *[1] * (x.ndim - 2)), None, None


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
    return F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after])


def _pair(value: Sizes) -> tuple[int, int]:
    sizes = [int(each) for each in value]
    return (sizes[0], sizes[-1])


def _constant(make: Callable[[], Tensor]) -> Tensor:
    with real_tensors():
        return make()


OVERRIDES: Table = {
    aten.convolution_backward.default: convolution_backward,
    aten.max_pool2d_with_indices_backward.default: max_pool_backward,
    aten.avg_pool2d_backward.default: avg_pool_backward,
    aten.silu_backward.default: silu_backward,
    aten.native_group_norm.default: native_group_norm,
    aten.native_group_norm_backward.default: native_group_norm_backward,
    aten.native_layer_norm.default: native_layer_norm,
    aten.native_layer_norm_backward.default: native_layer_norm_backward,
    aten.native_batch_norm_backward.default: native_batch_norm_backward,
    aten._safe_softmax.default: plain_softmax,
    aten.slice_backward.default: slice_backward,
    aten.select_backward.default: select_backward,
}

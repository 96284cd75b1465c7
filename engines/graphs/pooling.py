# ruff: noqa: PLR0917, ARG001  # signatures are those of ATen's operators
"""Backward of pooling without scatter: TensorRT's has no reduction, and some versions leave it out silently."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engines.graphs.separable import along_both, matrix_of, real_tensors

Sizes = Sequence[int]


def max_pool_backward(
    gy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool, indices: Tensor
) -> Tensor:
    """The gradient goes to the first largest tap of each window: a one-hot product, then a fixed one-hot transposed convolution.

    The forward pass's indices are not used, since TensorRT's pooling does not return them.
    """
    kernel, stride, padding, dilation = (_pair(each) for each in (kernel, stride or kernel, padding, dilation))
    taps, channels = _taps(x, gy.shape[2:], kernel, stride, padding, dilation), int(x.shape[1])
    largest = (taps == taps.amax(3, keepdim=True)).to(gy)
    earlier = functional.linear(largest, constant(lambda: torch.ones([math.prod(kernel)] * 2).tril(-1)).to(gy))
    routed = largest * (earlier < 0.5).to(gy) * gy.flatten(2).unsqueeze(3)
    columns = routed.transpose(2, 3).reshape(-1, channels * math.prod(kernel), *gy.shape[2:])
    spread = constant(lambda: torch.eye(math.prod(kernel)).reshape(-1, 1, *kernel).repeat(channels, 1, 1, 1)).to(gy)
    rest = uncovered(x.shape[2:], gy.shape[2:], kernel, stride, padding, dilation)
    edge = [max(each, 0) for each in rest]
    gx = functional.conv_transpose2d(columns, spread, None, stride, padding, edge, channels, dilation)
    return gx[:, :, : x.shape[2], : x.shape[3]] if min(rest) < 0 else gx  # a window may hang over the edge (ceil_mode)


def _taps(x: Tensor, out: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Tensor:
    """What each window sees, (n c places taps); beyond the edge there is the lowest number."""
    ends = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, stride, dilation, kernel, strict=True)]
    after = [max(end - size - p, 0) for end, size, p in zip(ends, x.shape[2:], padding, strict=True)]
    wide = functional.pad(x, (padding[1], after[1], padding[0], after[0]), value=torch.finfo(x.dtype).min)
    starts = [(i * dilation[0], j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])]
    reach = [(o - 1) * s + 1 for o, s in zip(out, stride, strict=True)]
    seen = [wide[:, :, i : i + reach[0] : stride[0], j : j + reach[1] : stride[1]] for i, j in starts]
    return torch.stack([each.flatten(2) for each in seen], 3)


def avg_pool_backward(
    gy: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:  # fmt: skip
    """Averaging along each axis, transposed."""
    options: dict[str, Any] = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    options["divisor_override"] = None if divisor_override is None else 1
    axes = zip(x.shape[2:], _pair(kernel), _pair(stride or kernel), _pair(padding), strict=True)
    rows, columns = (
        matrix_of(partial(functional.avg_pool2d, kernel_size=(k, 1), stride=(s, 1), padding=(p, 0), **options), int(size)).T
        for size, k, s, p in axes
    )
    gx = along_both(gy, rows, columns)
    return gx if divisor_override is None else gx / divisor_override


def uncovered(size: Sizes, out: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> list[int]:
    """How much of each axis windows leave out at the far end; negative where they hang over it."""
    axes = zip(size, out, kernel, stride, padding, dilation, strict=True)
    return [int(n - ((o - 1) * s - 2 * p + d * (k - 1) + 1)) for n, o, k, s, p, d in axes]


def constant(make: Callable[[], Tensor]) -> Tensor:
    """A tensor that enters a trace as a constant."""
    with real_tensors():
        return make()


def _pair(value: Sizes) -> tuple[int, int]:
    return int(value[0]), int(value[-1])

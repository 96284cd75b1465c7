# ruff: noqa: A002, PLR0917  # signatures are those of torch's functions
"""Resizing, adaptive pooling and padding by content, written as reshapes and products: runtimes differ in all of them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional

from engines.graphs.separable import along_both, matrix_of


def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """Nearest by a whole factor is reshape, expand, reshape; everything else on images a product."""
    if input.ndim != 4:
        return functional.interpolate(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    sizes, scales = _each(size), _each(scale_factor)
    whole = [_whole(int(old), new, scale) for old, new, scale in zip(input.shape[2:], sizes, scales, strict=True)]
    if mode.startswith("nearest") and all(whole):
        return _repeat(input, *whole)

    def along(axis: int) -> Tensor:
        options: dict[str, Any] = {"mode": mode, "align_corners": align_corners, "antialias": antialias}
        old = int(input.shape[2 + axis])
        if sizes[axis] is None:
            options |= {"scale_factor": (scales[axis], 1.0), "recompute_scale_factor": recompute_scale_factor}
        else:
            options |= {"size": (sizes[axis], old)}
        return matrix_of(partial(functional.interpolate, **options), old)

    return along_both(input, along(0), along(1))


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean, or a product."""
    sizes = [new or int(old) for new, old in zip(_each(output_size), input.shape[-2:], strict=True)]
    if sizes == [1, 1]:
        return input.mean((-2, -1), keepdim=True)
    rows, columns = (
        matrix_of(partial(functional.adaptive_avg_pool2d, output_size=(new, None)), int(old))
        for new, old in zip(sizes, input.shape[-2:], strict=True)
    )
    return along_both(input, rows, columns)


def padded(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Reflected, repeated and circular edges are products; zeros stay zeros."""
    if mode == "constant" or input.ndim != 4:
        return functional.pad(input, pad, mode, value)
    left, right, above, below = pad
    rows, columns = (
        matrix_of(partial(functional.pad, pad=(0, 0, *edge), mode=mode), int(size))
        for edge, size in zip(((above, below), (left, right)), input.shape[2:], strict=True)
    )
    return along_both(input, rows, columns)


def _repeat(x: Tensor, up_h: int, up_w: int) -> Tensor:
    n, c, h, w = x.shape
    return x.unsqueeze(3).unsqueeze(5).expand(n, c, h, up_h, w, up_w).reshape(n, c, h * up_h, w * up_w)


def _whole(old: int, new: int | None, scale: float | None) -> int:
    """The factor of an enlargement, 0 when it is no whole number."""
    factor = new / old if new is not None else float(scale or 0)
    return int(factor) if factor >= 1 and factor == int(factor) else 0


def _each(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)

# ruff: noqa: PLR0917, ARG001  # signatures are those of ATen's operators
"""Normalisation and its backward, written out; statistics in float32, handed from the one to the other."""

from collections.abc import Sequence

from torch import Tensor

Sizes = Sequence[int]


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
    """Dx = rstd (g' - mean(g') - xh mean(g' xh)), g' = gy * weight, xh = (x - mean) rstd, means over a group."""
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

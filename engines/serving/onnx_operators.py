"""What the operators of classifiers in ONNX files compute, in torch.  Formulas are those of the ONNX operator specification."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody writes it

from engines.errors import ExportError

Attributes = Mapping[str, Any]
Sizes = Sequence[int]
Operator = Callable[..., Any]
"""(attributes, inputs…) -> output; absent optional inputs are None, constant sizes, axes and scalars are plain numbers."""

TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}
"""ONNX element types that appear in Cast.  Whole numbers from 8 bits on are images' pixels, kept as they come."""

ROWS = "rows"
"""Attribute of our own, of nodes in graphs whose batch is fixed at 1: a leading 1 among their sizes stands for the batch."""


def _unread(what: str) -> ExportError:
    return ExportError(f"the classifier's ONNX graph has a {what}, which is not read here; give its torch module from Python")


def convolution(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Conv in one to three dimensions, any padding."""
    axes = weight.ndim - 2
    kernel, strides, dilations = list(weight.shape[2:]), a.get("strides", [1] * axes), a.get("dilations", [1] * axes)
    x, padding = _even(x, _pads(a, x, kernel, strides, dilations), 0.0)
    run = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    return run(x, weight, bias, strides, padding, dilations, a.get("group", 1))


def transposed_convolution(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """ConvTranspose with the same padding on both sides."""
    axes = weight.ndim - 2
    pads = a.get("pads", [0] * 2 * axes)
    if a.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in a or pads[:axes] != pads[axes:]:
        raise _unread("ConvTranspose with uneven or automatic padding")
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    strides, dilations, more = (
        a.get(name, [value] * axes) for name, value in (("strides", 1), ("dilations", 1), ("output_padding", 0))
    )
    return run(x, weight, bias, strides, pads[:axes], more, a.get("group", 1), dilations)


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    """MaxPool; what lies outside never wins."""
    kernel = a["kernel_shape"]
    strides, dilations = a.get("strides", [1] * len(kernel)), a.get("dilations", [1] * len(kernel))
    x, padding = _even(x, _pads(a, x, kernel, strides, dilations), torch.finfo(x.dtype).min)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        x, padding = F.pad(x, _torch_pads(padding + padding), value=torch.finfo(x.dtype).min), [0] * len(kernel)
    return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1](
        x, kernel, strides, padding, dilations, bool(a.get("ceil_mode"))
    )


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    """AveragePool; without count_include_pad the divisor is the number of real values, also where padding is uneven."""
    kernel = a["kernel_shape"]
    strides = a.get("strides", [1] * len(kernel))
    pads, options = _pads(a, x, kernel, strides, [1] * len(kernel)), (kernel, strides, 0, bool(a.get("ceil_mode")))
    run: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    padded = run(F.pad(x, _torch_pads(pads)), *options)
    if a.get("count_include_pad") or not any(pads):
        return padded
    return padded / run(F.pad(torch.ones_like(x), _torch_pads(pads)), *options)


def gemm(a: Attributes, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    """Alpha X Y + beta bias, each matrix transposed where asked."""
    product = (x.T if a.get("transA") else x) @ (y.T if a.get("transB") else y)
    product = product if a.get("alpha", 1.0) == 1.0 else a["alpha"] * product
    return product if bias is None else product + a.get("beta", 1.0) * bias


def batch_norm(a: Attributes, x: Tensor, *parameters: Tensor) -> Tensor:
    """BatchNormalization with its stored statistics; parameters are scale, bias, mean, variance."""
    scale, bias, mean, variance = parameters
    return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=a.get("epsilon", 1e-5))


def layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """LayerNormalization over the axes from ``axis`` on."""
    return F.layer_norm(x, x.shape[a.get("axis", -1) :], scale, bias, a.get("epsilon", 1e-5))


def group_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """GroupNormalization of opset 21, one scale per channel."""
    return F.group_norm(x, a["num_groups"], scale, bias, a.get("epsilon", 1e-5))


def cast(a: Attributes, x: Tensor) -> Tensor:
    """Cast; a floating point tensor keeps the precision that the module computes in, and pixels stay as they come."""
    kind = TYPES.get(a["to"])
    return x if kind is None or (x.is_floating_point() and kind.is_floating_point) else x.to(kind)


def clip(a: Attributes, x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Clip by attributes (to opset 10) or inputs."""
    return x.clamp(a.get("min") if low is None else float(low), a.get("max") if high is None else float(high))


def reshape(a: Attributes, x: Tensor, shape: Sizes) -> Tensor:
    """Reshape to constants; 0 keeps a size."""
    sizes = [int(size) for size in shape]
    if a.get(ROWS) and sizes[0] == 1:
        sizes[0] = x.shape[0]
    return x.reshape([x.shape[place] if size == 0 and not a.get("allowzero") else size for place, size in enumerate(sizes)])


def pad(a: Attributes, x: Tensor, pads: Sizes | None = None, value: float | None = None, axes: Sizes | None = None) -> Tensor:
    """Pad by attributes or inputs."""
    amounts = [int(each) for each in (pads if pads is not None else a["pads"])]
    if axes is not None:
        raise _unread("Pad with axes")
    fill = float(value) if value is not None else float(a.get("value", 0.0))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[a.get("mode", "constant")]
    if mode == "constant":
        return F.pad(x, _torch_pads(amounts), value=fill)
    if any(amounts[:2]) or any(amounts[x.ndim : x.ndim + 2]):
        raise _unread("Pad of batch or channels by their content")
    return F.pad(x, _torch_pads(amounts[2 : x.ndim] + amounts[x.ndim + 2 :]), mode)


def reduce_mean(a: Attributes, x: Tensor, axes: Sizes | None = None) -> Tensor:
    """ReduceMean by attribute (to opset 17) or input."""
    places = [int(each) for each in axes] if axes is not None else a.get("axes", list(range(x.ndim)))
    return x.mean(places, keepdim=bool(a.get("keepdims", 1)))


def squeeze(a: Attributes, x: Tensor, axes: Sizes | None = None) -> Tensor:
    """Squeeze of named axes."""
    return x.squeeze(_axes(a, axes))


def unsqueeze(a: Attributes, x: Tensor, axes: Sizes | None = None) -> Tensor:
    """Unsqueeze, one axis after the other."""
    for axis in sorted(_axes(a, axes)):
        x = x.unsqueeze(axis)
    return x


def flatten(a: Attributes, x: Tensor) -> Tensor:
    """Flatten to a matrix, rows being the batch."""
    if a.get("axis", 1) != 1:
        raise _unread("Flatten at another axis than 1")
    return x.flatten(1)


def gelu(a: Attributes, x: Tensor) -> Tensor:
    """Gelu, exact or by tanh."""
    return F.gelu(x, approximate=a.get("approximate", "none"))


def _axes(a: Attributes, axes: Sizes | None) -> tuple[int, ...]:
    return tuple(int(each) for each in (axes if axes is not None else a["axes"]))


def _pads(a: Attributes, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding before each axis, then after each."""
    how = a.get("auto_pad", "NOTSET")
    if how in {"NOTSET", "VALID"}:
        return list(a.get("pads", [0] * 2 * len(kernel))) if how == "NOTSET" else [0] * 2 * len(kernel)
    needed = [
        max((math.ceil(int(size) / s) - 1) * s + d * (k - 1) + 1 - int(size), 0)
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    less, more = [each // 2 for each in needed], [each - each // 2 for each in needed]
    return less + more if how == "SAME_UPPER" else more + less


def _even(x: Tensor, pads: list[int], fill: float) -> tuple[Tensor, list[int]]:
    """Padding that torch's layers take, the same on both sides, or an input that has been padded."""
    half = len(pads) // 2
    if pads[:half] == pads[half:]:
        return x, pads[:half]
    return F.pad(x, _torch_pads(pads), value=fill), [0] * half


def _torch_pads(pads: Sequence[int]) -> list[int]:
    """ONNX: all beginnings, all ends.  Torch: beginning and end of the last axis, then of the one before."""
    half = len(pads) // 2
    return [each for place in reversed(range(half)) for each in (pads[place], pads[half + place])]


def _plain(function: Callable[..., Any]) -> Operator:
    return lambda _, *inputs: function(*inputs)


OPERATORS: Mapping[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Clip": clip,
    "Concat": lambda a, *parts: torch.cat(parts, a["axis"]),
    "Constant": lambda a: a["value"],
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Cos": _plain(torch.cos),
    "Div": _plain(torch.div),
    "Dropout": lambda _, x, *__: x,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Flatten": flatten,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": lambda _, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda _, x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "GroupNormalization": group_norm,
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": _plain(F.hardswish),
    "Identity": lambda _, x: x,
    "InstanceNormalization": lambda a, x, scale, bias: F.instance_norm(x, weight=scale, bias=bias, eps=a.get("epsilon", 1e-5)),
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": _plain(torch.log),
    "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "MatMul": _plain(torch.matmul),
    "MaxPool": max_pool,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Pad": pad,
    "Pow": _plain(torch.pow),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMean": reduce_mean,
    "Relu": _plain(torch.relu),
    "Reshape": reshape,
    "Sigmoid": _plain(torch.sigmoid),
    "Sin": _plain(torch.sin),
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(range(x.ndim))[::-1])),
    "Unsqueeze": unsqueeze,
}

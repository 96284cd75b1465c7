"""Hidden features of a classifier: which tensors of its ONNX graph have one number per image and unit, or can be reduced to it.

Whether a tensor has one row per image, and how wide it is, is measured by running the graph on noise: shape inference gives up at the
first Reshape.  Which axis counts the channels is followed from operator to operator.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.errors import ExportError
from engines.serving.hidden_reading import answers, image_input, noise, read_graph, serialised

Kind = Literal["activation", "vector", "other"]
ACTIVATIONS = frozenset(
    {
        "Celu",
        "Clip",
        "Elu",
        "Gelu",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Softplus",
        "Swish",
        "ThresholdedRelu",
    }
)
GATES = frozenset({"HardSigmoid", "Sigmoid"})
"""``x * gate(x)`` is an activation too (SiLU, hard swish), as is GELU by its ``Erf``."""
CHANNELS_FIRST = frozenset(
    {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization",
     "InstanceNormalization", "LRN", "MaxPool"}
)  # fmt: skip
"""Operators that ONNX defines on (n c ...) alone."""
RESHAPING = frozenset({"Einsum", "Expand", "Gather", "Reshape", "Squeeze", "Tile", "Unsqueeze"})
FLOATS = frozenset({"float16", "float32", "float64"})
NEAREST = 3
"""Names that an error proposes."""


@dataclass(frozen=True, kw_only=True)
class HiddenTensor:
    """A tensor that can be a feature: one row per image, one unit per channel."""

    name: str
    operator: str
    kind: Kind
    dtype: str
    shape: tuple[int, ...]
    """Without the batch axis, for images of the size that was asked about."""
    channel_axis: int
    """Counted with the batch axis, so from 1 on."""
    with_map: bool = False
    """Whether a tensor over two axes of space is shown as it is, too: (n c h w)."""

    @property
    def rank(self) -> int:
        """Axes, the batch among them."""
        return len(self.shape) + 1

    @property
    def channels(self) -> int:
        """Units."""
        return self.shape[self.channel_axis - 1]

    @property
    def space(self) -> tuple[int, ...]:
        """Axes over which a unit is reduced to one number, counted with the batch axis."""
        return tuple(axis for axis in range(1, self.rank) if axis != self.channel_axis)

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of the outputs that it becomes, and by which operator; "" for a vector, which stays what it is."""
        if not self.space:
            return {self.name: ""}
        if all(self.shape[axis - 1] == 1 for axis in self.space):
            return {f"{self.name}_mean": "ReduceMean"}
        shown = {f"{self.name}_map": "Transpose"} if self.with_map and len(self.space) == 2 else {}
        return {f"{self.name}_mean": "ReduceMean", f"{self.name}_max": "ReduceMax", **shown}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a graph has between its input and its outputs."""

    tensors: tuple[HiddenTensor, ...]
    """Activations and vectors first, each part in the order of the graph."""
    refused: Mapping[str, str]
    """Why the others are no features, by name."""

    def chosen(self, names: Sequence[str], path: Path) -> tuple[HiddenTensor, ...]:
        """The named ones.  Raises ExportError for a name that is unknown, no feature, or given twice."""
        if not names or len(set(names)) < len(names):
            raise ExportError(f"name one or more tensors of {path}, each once; got {', '.join(names) or 'none'}")
        known = {each.name: each for each in self.tensors}
        for name in names:
            if name in self.refused:
                raise ExportError(f"{name!r} of {path} cannot be a feature: {self.refused[name]}; choose another one")
            if name not in known:
                near = difflib.get_close_matches(name, known, n=NEAREST, cutoff=0.0)
                hint = f"nearest are {', '.join(map(repr, near))}" if near else "it has none that could be a feature"
                raise ExportError(f"{path} has no intermediate tensor {name!r}; {hint}")
        return tuple(known[name] for name in names)


@dataclass(frozen=True)
class _Form:
    """What a tensor was in one run."""

    shape: tuple[int, ...]
    dtype: str


def survey(path: Path, size: tuple[int, int] | None = None) -> Survey:
    """The intermediate tensors of a classifier; ``size`` is height and width where the graph leaves them free.

    Raises ExportError for a file that is no classifier of images, or that ONNX Runtime does not run.
    """
    model = read_graph(path)
    images = noise(model.graph, path, size)
    inside = _inside(model.graph, path)
    told, fewer = (_forms(model, list(inside), some, path) for some in (images, images[: max(1, len(images) - 1)]))
    axes = _channel_axes(model.graph, image_input(model.graph, path).name, images, told)
    gated = _gated(model.graph, {image_input(model.graph, path).name, *inside})
    tensors, refused = [], {}
    for name, operator in inside.items():
        why = _refusal(told[name], fewer[name], len(images), axes.get(name))
        if why is not None:
            refused[name] = why
            continue
        form, axis = told[name], axes[name]
        shape = form.shape[1:]
        active = operator in ACTIVATIONS or name in gated
        wide = shape[axis - 1] == np.prod(shape)
        kind: Kind = "activation" if active else "vector" if wide else "other"
        tensors.append(HiddenTensor(name=name, operator=operator, kind=kind, dtype=form.dtype, shape=shape, channel_axis=axis))
    return Survey(tensors=tuple(sorted(tensors, key=lambda each: each.kind == "other")), refused=refused)


def _inside(graph: Any, path: Path) -> dict[str, str]:
    """Tensors that depend on the images and are no outputs yet, and the operators that make them."""
    reached = {image_input(graph, path).name}
    shown = {each.name for each in graph.output}
    inside = {}
    for node in graph.node:
        if reached & set(node.input):
            made = [name for name in node.output if name]
            reached.update(made)
            inside.update({name: node.op_type for name in made if name not in shown})
    return inside


def _forms(model: Any, names: list[str], images: NDArray[np.generic], path: Path) -> dict[str, _Form]:
    """What every named tensor is for these images; ONNX Runtime finds the types itself."""
    import onnx

    if not names:
        return {}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    typed = {each.name: each for each in model.graph.value_info}
    shown.graph.output.extend(typed.get(name, onnx.ValueInfoProto(name=name)) for name in names)
    found = answers(serialised(shown, path), images, path, names)
    return {name: _Form(getattr(value, "shape", ()), str(getattr(value, "dtype", "no tensor"))) for name, value in found.items()}


def _refusal(form: _Form, fewer: _Form, images: int, axis: int | None) -> str | None:
    """Why a tensor is no feature; None for one that is."""
    if form.dtype not in FLOATS:
        return f"it holds {form.dtype}, not floats"
    if len(form.shape) != len(fewer.shape):
        return f"its rank is not fixed: {len(form.shape)} axes, then {len(fewer.shape)}"
    if len(form.shape) < 2 or form.shape[0] != images or fewer.shape != (max(1, images - 1), *form.shape[1:]):
        return f"it has the shape {form.shape} for {images} images, not one row per image"
    if axis is None:
        return f"which of its axes {form.shape} counts channels cannot be told"
    return None


def _channel_axes(graph: Any, source: str, images: NDArray[np.generic], forms: Mapping[str, _Form]) -> dict[str, int]:
    """Axis of the channels by tensor, as far as the operators tell."""
    known = {source: 1 if images.shape[1] in {1, 3} else 3}
    shapes = {source: images.shape} | {name: form.shape for name, form in forms.items()}
    reshaped: dict[tuple[int, ...], int] = {}
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] in known:
            reshaped[shapes[node.input[0]]] = known[node.input[0]]
        for name in node.output:
            if name in shapes and (axis := _axis(node, shapes[name], shapes, known, reshaped)) is not None:
                known[name] = axis
    return known


def _axis(
    node: Any,
    shape: tuple[int, ...],
    shapes: Mapping[str, tuple[int, ...]],
    known: Mapping[str, int],
    reshaped: Mapping[tuple[int, ...], int],
) -> int | None:
    """Of one result, from those of its inputs; ``reshaped`` are shapes that an earlier Reshape has left, to which a later one may return."""
    if len(shape) == 2 or node.op_type in CHANNELS_FIRST:
        return 1
    if node.op_type == "LayerNormalization" or (node.op_type == "MatMul" and node.input[1] not in shapes):
        return len(shape) - 1
    told = [name for name in node.input if name in known]
    if node.op_type == "Transpose" and told:
        turned = list(next((each.ints for each in node.attribute if each.name == "perm"), range(len(shape))[::-1]))
        return turned.index(known[told[0]]) or None
    if node.op_type == "Reshape":
        merged = _merged(shapes[told[0]], known[told[0]], shape) if told else None
        return merged or reshaped.get(shape)
    alike = [name for name in told if len(shapes[name]) == len(shape)]
    return None if node.op_type in RESHAPING or node.op_type == "MatMul" or not alike else known[alike[0]]


def _merged(before: tuple[int, ...], axis: int, shape: tuple[int, ...]) -> int | None:
    """Axis of the channels of a map whose pixels became one axis; None for any other Reshape."""
    if len(shape) != 3:
        return None
    first, last = axis == 1 and before[:2] == shape[:2], axis == len(before) - 1 and before[-1] == shape[-1]
    return 1 if first else 2 if last else None


def _gated(graph: Any, moving: Collection[str]) -> set[str]:
    """Products of a tensor with its own gate: x sigmoid(x), and x (1 + erf(x / sqrt 2)) / 2 wherever the half stands.

    ``moving`` are the tensors that depend on the images.
    """
    gates = {node.output[0]: node.input[0] for node in graph.node if node.op_type in GATES}
    soft: set[str] = set()
    found: set[str] = set()
    for node in graph.node:
        inputs, scaled = set(node.input), any(name not in moving for name in node.input)
        own = any(gates.get(a) == b for a, b in permutations(node.input, 2))
        if node.op_type == "Erf" or (node.op_type in {"Add", "Mul"} and scaled and inputs & soft):
            soft.add(node.output[0])
        elif node.op_type == "Mul" and (own or inputs & soft or (scaled and inputs & found)):
            found.add(node.output[0])
    return found

"""An ONNX file as a torch module, so that gradients can be taken; float32, operators of ``onnx_operators`` only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.errors import ExportError
from engines.serving.onnx_operators import OPERATORS, ROWS, Attributes


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; None for a free size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class _Node:
    operator: str
    attributes: Attributes
    inputs: tuple[str, ...]
    output: str


class OnnxModule(nn.Module):
    """A graph's inputs to one of its outputs.  Constants are folded when the graph is read, weights are buffers.

    A graph whose batch is fixed at 1 takes any batch here, row by row the same; one that does not allow for that is refused.
    """

    def __init__(self, path: Path, output: str | None = None, *, inputs: int = 1) -> None:
        """Of a classifier unless ``inputs`` says otherwise.  Raises ExportError."""
        super().__init__()
        model = _load(path)
        constants = {each.name: _tensor(each) for each in model.graph.initializer}
        self.sources = tuple(_port(each) for each in model.graph.input if each.name not in constants)
        if len(self.sources) != inputs:
            wanted = "a classifier takes one batch of images" if inputs == 1 else f"needed are {inputs}"
            raise ExportError(f"{path} has {len(self.sources)} inputs; {wanted}")
        self.source, self.outputs = self.sources[0], tuple(_port(each) for each in model.graph.output)
        self.output = output or self.outputs[0].name
        nodes = _needed([_node(each) for each in model.graph.node], self.output)
        if unknown := sorted({node.operator for node in nodes} - set(OPERATORS)):
            raise ExportError(
                f"{path} holds {', '.join(unknown)}, which cannot be read as torch operators here; give the classifier's torch module "
                "from Python, or export it with other operators"
            )
        self.nodes = self._folded(nodes, constants)
        if self.source.shape[:1] == (1,):
            self.nodes = tuple(replace(node, attributes={**node.attributes, ROWS: True}) for node in self.nodes)
            self._check_rows(path)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs as the graph takes them -> the chosen output."""
        values: dict[str, Any] = {"": None, **self.plain}
        values |= {port.name: value for port, value in zip(self.sources, inputs, strict=True)}
        values |= {name: getattr(self, f"w{i}") for i, name in enumerate(self.weights)}
        for node in self.nodes:
            values[node.output] = OPERATORS[node.operator](node.attributes, *(values[name] for name in node.inputs))
        result: Tensor = values[self.output]
        return result

    def _check_rows(self, path: Path) -> None:
        """Raise ExportError where rows of a batch are not what they are alone."""
        shapes = [[size or 1 for size in port.shape[1:]] for port in self.sources]
        rows = [torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
        with torch.no_grad():
            try:
                same = torch.allclose(
                    self(*rows), torch.cat([self(*(each[i : i + 1] for each in rows)) for i in range(3)]), rtol=1e-4, atol=1e-4
                )
            except (RuntimeError, IndexError):
                same = False
        if not same:
            raise ExportError(f"{path} takes one image at a time, and not several as it stands; export it with a free batch")

    def _folded(self, nodes: Sequence[_Node], constants: dict[str, Tensor]) -> tuple[_Node, ...]:
        """Nodes that depend on the images; what depends on constants alone is computed now."""
        left: list[_Node] = []
        for node in nodes:
            if all(name in constants or not name for name in node.inputs):
                found = [constants.get(name) for name in node.inputs]
                constants[node.output] = OPERATORS[node.operator](node.attributes, *found)
            else:
                left.append(node)
        used = {name: value for name, value in constants.items() if any(name in node.inputs for node in left)}
        self.plain = {name: _plain(value) for name, value in used.items() if _is_plain(value)}
        self.weights = tuple(name for name in used if name not in self.plain)
        for i, name in enumerate(self.weights):
            self.register_buffer(f"w{i}", used[name].float())
        return tuple(left)


def _is_plain(value: Tensor) -> bool:
    """Sizes, axes, bounds: numbers that a tracer must see as such, and not as contents of a tensor."""
    return value.ndim == 0 or (value.ndim == 1 and not value.is_floating_point())


def _plain(value: Tensor) -> Any:
    return value.item() if value.ndim == 0 else tuple(value.tolist())


def _load(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:  # onnx's and protobuf's errors share no base class
        raise ExportError(f"{path} cannot be read as an ONNX graph: {error}") from error


def _needed(nodes: Sequence[_Node], output: str) -> list[_Node]:
    """Nodes that the output depends on, in order."""
    wanted, needed = {output}, []
    for node in reversed(nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            needed.append(node)
    return needed[::-1]


def _node(node: Any) -> _Node:
    from onnx import helper

    attributes = {each.name: _attribute(helper.get_attribute_value(each)) for each in node.attribute}
    operator = node.op_type if not node.domain else f"{node.domain}.{node.op_type}"
    return _Node(operator, attributes, tuple(node.input), node.output[0])


def _attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return _tensor(value) if hasattr(value, "raw_data") else value


def _tensor(value: Any) -> Tensor:
    from onnx import numpy_helper

    return torch.from_numpy(np.array(numpy_helper.to_array(value)))


def _port(value: Any) -> Port:
    from onnx import TensorProto

    sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)
    return Port(value.name, TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(), sizes)

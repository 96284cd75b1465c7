"""The weights of the graph that a plan was compiled from, by name."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class GraphWeights:
    """Weights of an ONNX file, read one at a time: initialisers, and constants by the name of their node or its output."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, name: str) -> Tensor:
        """As a tensor.  Raises KeyError, OSError."""
        import onnx

        value = onnx.numpy_helper.to_array(self._tensors[name], base_dir=str(self._path.parent))
        if value.dtype.name == "bfloat16":  # numpy has none of its own
            return torch.from_numpy(value.view("int16").copy()).view(torch.bfloat16)
        return torch.from_numpy(value.copy())

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        import onnx

        graph = onnx.load(str(self._path), load_external_data=False).graph
        constants = [
            (node, each.t) for node in graph.node if node.op_type == "Constant" for each in node.attribute if each.name == "value"
        ]
        named = {name: tensor for node, tensor in constants for name in (node.name, node.output[0])}
        return named | {each.name: each for each in graph.initializer}

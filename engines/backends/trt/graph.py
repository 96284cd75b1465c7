"""The graph that a plan was compiled from: which weights it has, by name, and which parameters they are."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class GraphWeights:
    """Initialisers of an ONNX file, read one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, name: str) -> Tensor:
        """As a tensor.  Raises KeyError, OSError."""
        import onnx

        value = onnx.numpy_helper.to_array(self._initialisers[name], base_dir=str(self._path.parent))
        if value.dtype.name == "bfloat16":  # numpy has none of its own
            return torch.from_numpy(value.view("int16").copy()).view(torch.bfloat16)
        return torch.from_numpy(value.copy())

    @cached_property
    def _initialisers(self) -> dict[str, Any]:
        import onnx

        graph = onnx.load(str(self._path), load_external_data=False).graph
        return {each.name: each for each in graph.initializer}


class WeightMap:
    """``weights.json``: initialiser -> [parameter, transform], as written at export."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters by name to initialisers by name.  Raises KeyError for a parameter that no initialiser holds."""
        known = {parameter for parameter, _ in self._entries.values()}
        for name in weights:
            if name not in known:
                raise KeyError(name)
        return {
            initialiser: _TRANSFORMS[transform](weights[parameter])
            for initialiser, (parameter, transform) in self._entries.items()
            if parameter in weights
        }

    @cached_property
    def _entries(self) -> dict[str, tuple[str, str]]:
        return {name: tuple(entry) for name, entry in json.loads(self._path.read_text(encoding="utf-8")).items()}


_TRANSFORMS = {"same": lambda value: value, "transpose": lambda value: value.T}

"""Which initialiser of a graph is which parameter of its module, so that weights can be replaced and never guessed.

``weights.json`` has one entry for each initialiser: ``[parameter, layout]``, where the layout is "identity", "transpose", or steps like
"permute 2 0 1" and "reshape 8 1 1" in order, joined by "; ".  An entry ``null`` is an initialiser that is no parameter in any layout
that is known: such a graph cannot be refitted.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.errors import NotRefittableError
from engines.graphs.simplify import Layout, Step

WEIGHTS = "weights.json"
GRAPH = "model.onnx"


@dataclass(frozen=True)
class WeightMap:
    """Initialiser -> (parameter, steps), or None where it is no parameter."""

    entries: Mapping[str, Layout | None]

    @property
    def obstacle(self) -> str | None:
        """Why weights cannot be replaced, or None."""
        strange = sorted(name for name, entry in self.entries.items() if entry is None)
        return f"{', '.join(strange[:3])}: no parameter in any known layout" if strange else None

    @property
    def known(self) -> Mapping[str, Layout]:
        """The initialisers that are parameters."""
        return {name: entry for name, entry in self.entries.items() if entry is not None}

    @property
    def parameters(self) -> frozenset[str]:
        """Names that the graph has weights of."""
        return frozenset(parameter for parameter, _ in self.known.values())

    def arrays(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The initialisers that hold the given parameters, in the types of ``state``; parameters that are left out stay as they are.

        Raises KeyError for a parameter that no initialiser holds, ValueError when the graph cannot be refitted.
        """
        if self.obstacle is not None:
            raise ValueError(self.obstacle)
        unknown = sorted(set(state) - self.parameters)
        if unknown:
            raise KeyError(unknown[0])
        return {name: laid_out(state[parameter], steps) for name, (parameter, steps) in self.known.items() if parameter in state}

    def write(self, path: Path) -> None:
        """As JSON."""
        table = {name: None if entry is None else [entry[0], _text(entry[1])] for name, entry in sorted(self.entries.items())}
        lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_weight_map(path: Path) -> WeightMap:
    """As written.  Raises OSError, ValueError."""
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not all(
        entry is None or (isinstance(entry, list) and list(map(type, entry)) == [str, str]) for entry in table.values()
    ):
        raise ValueError(f"{path} is no map of weights")
    return WeightMap({name: None if entry is None else (entry[0], _steps(entry[1])) for name, entry in table.items()})


def weight_map(model: Any, layouts: Mapping[str, Layout], state: Mapping[str, Tensor]) -> WeightMap:
    """The map of an ``onnx_ir.Model``; an entry stands only if the initialiser has the parameter's content, bit for bit."""
    entries: dict[str, Layout | None] = {}
    for name, value in model.graph.initializers.items():
        layout = layouts.get(name)
        entries[name] = layout if layout is not None and _same(value.const_value, laid_out(state[layout[0]], layout[1])) else None
    return WeightMap(entries)


def laid_out(value: Tensor, steps: tuple[Step, ...]) -> Tensor:
    """A parameter as an initialiser holds it, contiguous."""
    for step, sizes in steps:
        value = value.permute(sizes) if step == "permute" else value.reshape(sizes)
    return value.contiguous()


def refit(folder: Path, state: Mapping[str, Tensor], target: Path) -> None:
    """Write the graph of an export folder to another folder with some parameters replaced, and its map beside it.

    Raises NotRefittableError when the graph has no weights of a parameter, or cannot be refitted at all.
    """
    import onnx_ir as ir

    model, names = ir.load(folder / GRAPH), read_weight_map(folder / WEIGHTS)
    try:
        arrays = names.arrays(state)
    except KeyError as error:
        raise NotRefittableError(str(folder), f"the graph has no weights of {error.args[0]!r}") from error
    except ValueError as error:
        raise NotRefittableError(str(folder), str(error)) from error
    for name, value in arrays.items():
        _replace(model.graph.initializers[name], value)
    target.mkdir(parents=True, exist_ok=True)
    save(model, target / GRAPH)
    names.write(target / WEIGHTS)


ELSEWHERE = "weights"
"""Where an outline says that its weights lie: in no file, but in the module that it is filled from."""


def outline(folder: Path, target: Path) -> None:
    """Write the graph of an export folder without the weights that are parameters, and its map beside it; :func:`fill` undoes it."""
    import onnx_ir as ir

    model, names = ir.load(folder / GRAPH), read_weight_map(folder / WEIGHTS)
    for name, value in model.graph.initializers.items():
        kept: Any = value.const_value
        if names.entries.get(name) is not None:
            value.const_value = ir.ExternalTensor(ELSEWHERE, 0, kept.nbytes, kept.dtype, shape=kept.shape, name=name)
        elif isinstance(kept, ir.ExternalTensor):  # a constant of a large graph, whose file does not come along
            value.const_value = ir.Tensor(kept.numpy().copy(), name=name)
    target.mkdir(parents=True, exist_ok=True)
    ir.save(model, target / GRAPH)
    names.write(target / WEIGHTS)


def fill(folder: Path, state: Mapping[str, Tensor], target: Path) -> None:
    """Write the graph of an outline with the weights of a module, cast as it was exported, as an export folder.

    Raises NotRefittableError when graph, map and state do not belong together; OSError, ValueError when the map cannot be read.
    """
    import onnx_ir as ir

    names, model = read_weight_map(folder / WEIGHTS), ir.load(folder / GRAPH)
    initialisers = model.graph.initializers
    for name, (parameter, steps) in names.known.items():
        if name not in initialisers or parameter not in state:
            raise NotRefittableError(str(folder), f"{name!r} of the graph and {parameter!r} of the network are not both there")
        _replace(initialisers[name], laid_out(state[parameter], steps))
    empty = sorted(name for name, value in initialisers.items() if isinstance(value.const_value, ir.ExternalTensor))
    if empty:
        raise NotRefittableError(str(folder), f"nothing says what fills {empty[0]!r}")
    save(model, target / GRAPH)
    names.write(target / WEIGHTS)


ONE_FILE_BYTES = 1_500_000_000
"""Weights beyond this lie beside the graph: a protobuf ends at 2 GB."""


def save(model: Any, path: Path) -> None:
    """Write an ``onnx_ir.Model``; large ones with their weights in ``<name>.data``."""
    import onnx_ir as ir

    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    ir.save(model, path, external_data=f"{path.name}.data" if weights > ONE_FILE_BYTES else None)


def _replace(initialiser: Any, value: Tensor) -> None:
    import onnx_ir as ir
    from onnx_ir import tensor_adapters

    old = initialiser.const_value
    if tuple(old.shape) != tuple(value.shape):
        raise NotRefittableError(initialiser.name, f"its shape is {tuple(old.shape)}, given were weights of {tuple(value.shape)}")
    kind = tensor_adapters.to_torch_dtype(ir.DataType(old.dtype))
    initialiser.const_value = tensor_adapters.TorchTensor(value.detach().to("cpu", kind), name=initialiser.name)


def _same(stored: Any, value: Tensor) -> bool:
    """Bit for bit, type and shape included."""
    ours = value.detach().cpu().contiguous()
    return tuple(stored.shape) == tuple(ours.shape) and stored.tobytes() == bytes(ours.view(torch.uint8).numpy().data)


def _text(steps: tuple[Step, ...]) -> str:
    if steps == (("permute", (1, 0)),):
        return "transpose"
    return "; ".join(" ".join([step, *map(str, sizes)]) for step, sizes in steps) or "identity"


def _steps(text: str) -> tuple[Step, ...]:
    """Raises ValueError for a step that there is none of."""
    if text == "transpose":
        return (("permute", (1, 0)),)
    return () if text == "identity" else tuple(_read_steps(text))


def _read_steps(text: str) -> Iterator[Step]:
    for part in text.split("; "):
        step, *sizes = part.split(" ")
        if step not in {"permute", "reshape"}:
            raise ValueError(f"{step!r} is no step of a layout; permute and reshape are")
        yield step, tuple(map(int, sizes))

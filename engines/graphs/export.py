"""A module as an export folder: ``model.onnx``, ``weights.json``, and ``model.onnx.data`` when it is large."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from engines.errors import ExportError, first_line
from engines.graphs.check import check_batches, check_graph, check_operators, examples
from engines.graphs.emit import emit, is_dynamic
from engines.graphs.gradients import Guided, Vjp
from engines.graphs.precision import HALVES, at_precision, parameter_names
from engines.graphs.simplify import Layout, finish, free_batch, simplify
from engines.graphs.trace import depends_on_batch, name_weights, trace
from engines.graphs.weights import GRAPH, WEIGHTS, WeightMap, save, weight_map
from engines.spec import TORCH_TYPES, EngineSpec, Kind

EXAMPLE_ROWS = 23
"""A batch that hardly any size of a network is a multiple of, so that what depends on it can be told from what does not."""

OPSETS_THAT_WORK = range(18, 26)
ATTENTION_OPSET = 23
"""From here on the standard has attention as one operator."""


def export(module: nn.Module, spec: EngineSpec, folder: Path) -> None:
    """Write the graph of a module and its weight map into a folder.

    ``module`` takes the spec's inputs in order; for the kinds vjp and guided it is a Vjp or a Guided.  The graph computes in the spec's
    precision, takes and gives what the spec says, and any batch of the profile.  Raises ExportError.
    """
    module = _exportable(module, spec)
    try:
        model, weights = _model(module, spec)
        folder.mkdir(parents=True, exist_ok=True)
        save(model, folder / GRAPH)
    except ExportError:
        raise
    except Exception as error:  # the exporter raises whatever its passes do, on many lines
        raise ExportError(f"network {spec.name!r} cannot be exported to ONNX: {_reason(error)}; use backend torch") from error
    weights.write(folder / WEIGHTS)
    check_graph(folder / GRAPH, spec)
    if spec.precision not in HALVES:
        check_batches(folder / GRAPH, module, spec)


def export_onnx(module: nn.Module, spec: EngineSpec, path: Path) -> None:
    """As :func:`export`, into the folder of ``path``, whose name must be ``model.onnx``."""
    if path.name != GRAPH:
        raise ValueError(f"graphs are named {GRAPH}, got {path.name}")
    export(module, spec, path.parent)


def _model(module: nn.Module, spec: EngineSpec) -> tuple[Any, WeightMap]:
    rows = spec.profile.max_b if spec.profile.static else EXAMPLE_ROWS
    inputs, cast = examples(spec, rows), at_precision(module, spec.precision)
    gradients = spec.kind != "forward"
    traced = trace(
        _Typed(cast, spec),
        inputs,
        [is_dynamic(each, spec) for each in spec.inputs],
        gradients=gradients,
        native_attention=not gradients and spec.opset >= ATTENTION_OPSET,
    )
    check_operators([("", str(node.target)) for node in traced.graph.nodes if node.op == "call_function"], spec)
    names = parameter_names(module, cast)
    name_weights(traced, names)
    model, layouts = _emitted(traced, inputs, spec, list(names.values()), rows)
    finish(model, spec)
    state: dict[str, Tensor] = dict(zip(module.state_dict(), cast.state_dict().values(), strict=True))
    return model, weight_map(model, layouts, state)


def _emitted(
    traced: GraphModule, inputs: Sequence[Tensor], spec: EngineSpec, names: Sequence[str], rows: int
) -> tuple[Any, dict[str, Layout]]:
    """A traced graph in which no size is computed from the batch is exported at one batch, in a third of the time, and freed of it."""
    symbolic = not spec.profile.static and depends_on_batch(traced)
    model = emit(traced, inputs, spec, symbolic=symbolic)
    layouts = simplify(model, names)
    if spec.profile.static or symbolic or free_batch(model, rows):
        return model, layouts
    model = emit(traced, inputs, spec, symbolic=True)
    return model, simplify(model, names)


class _Typed(nn.Module):
    """Outputs in the types that the spec gives them, as a tuple."""

    def __init__(self, module: nn.Module, spec: EngineSpec) -> None:
        super().__init__()
        self.module, self.spec = module, spec

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.module(*inputs)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(value.to(TORCH_TYPES[each.dtype]) for each, value in zip(self.spec.outputs, values, strict=True))


def _reason(error: BaseException) -> str:
    """The first line of what the exporter's own errors were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


MODULES: dict[Kind, type[nn.Module]] = {"vjp": Vjp, "guided": Guided}


def _exportable(module: nn.Module, spec: EngineSpec) -> nn.Module:
    """The module, on the CPU.  Raises ExportError when it is none of the spec's kind, or not in evaluation mode."""
    kind = next((kind for kind, wanted in MODULES.items() if isinstance(module, wanted)), "forward")
    if kind != spec.kind:
        raise ExportError(
            f"network {spec.name!r} is a {type(module).__name__}, of which no graph of kind {spec.kind!r} is made; "
            "give a Vjp for vjp, a Guided for guided, any other module for forward; loops are not exported"
        )
    if spec.opset not in OPSETS_THAT_WORK:
        raise ExportError(
            f"opset {spec.opset} is not offered for {spec.name!r}; use {OPSETS_THAT_WORK[0]} to {OPSETS_THAT_WORK[-1]}"
        )
    if any(part.training for part in module.modules() if isinstance(part, (_BatchNorm, _DropoutNd))):
        raise ExportError(f"network {spec.name!r} is in training mode; call eval() first")
    elsewhere = any(each.device.type != "cpu" for each in module.state_dict().values())
    return copy.deepcopy(module).cpu() if elsewhere else module

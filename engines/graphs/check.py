"""Is an ONNX file what a spec says?  Asked of the file alone, whoever wrote it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.errors import ExportError
from engines.spec import BATCH, TORCH_TYPES, EngineSpec, TensorSpec

FORBIDDEN = ("backward", "scatter", "indexput", "index_put", "nonzero", "resize", "loop", "scan", "sequence", "castlike")
"""Parts of operator names.  Nearest upsampling is written as reshape-expand-reshape, so a Resize means something else got in."""

OPERATORS_OF_CONTROL = ("If",)
"""Branches: what runs then depends on data, which static engines cannot."""


def check_graph(path: Path, spec: EngineSpec) -> None:
    """Raise ExportError unless the file's operators, opset, inputs, outputs and batch are what runtimes take and the spec says."""
    model = _read(path)
    check_operators([(node.domain, node.op_type) for node in model.graph.node], spec)
    if model.functions or any(_outside(attribute) for node in model.graph.node for attribute in node.attribute):
        raise ExportError(f"the graph of {spec.name!r} refers to functions or files beside its weights; export it again")
    differences = [
        *_opset(model, spec),
        *_tensors("inputs", spec.inputs, model.graph.input, spec),
        *_tensors("outputs", spec.outputs, model.graph.output, spec),
    ]
    if differences:
        raise ExportError(f"the graph of {spec.name!r} is not what its spec says: {'; '.join(differences)}; export it again")


def _outside(attribute: Any) -> bool:
    """Whether a constant's numbers lie in another file."""
    return any(tensor.data_location == 1 for tensor in (attribute.t, *attribute.tensors))


def check_operators(operators: Sequence[tuple[str, str]], spec: EngineSpec) -> None:
    """Raise ExportError for operators, given as (domain, name), that are not standard or that runtimes do not treat alike."""
    strange = sorted({name for domain, name in operators if domain not in {"", "ai.onnx"} or forbidden(name)})
    if strange:
        raise ExportError(
            f"the graph of {spec.name!r} holds {', '.join(strange)}, which runtimes do not treat alike; use backend torch"
        )


def forbidden(operator: str) -> bool:
    """Whether an operator, of ONNX or of ATen, must not be in a graph."""
    name = operator.lower()
    return operator in OPERATORS_OF_CONTROL or any(bad in name for bad in FORBIDDEN)


def _read(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's own, which share no base class
        raise ExportError(f"{path} cannot be read as ONNX: {error}; export it again") from error


def _opset(model: Any, spec: EngineSpec) -> list[str]:
    found = {each.domain: each.version for each in model.opset_import}.get("")
    return [] if found == spec.opset else [f"its opset is {found} where {spec.opset} was asked for"]


def _tensors(kind: str, specs: Sequence[TensorSpec], values: Sequence[Any], spec: EngineSpec) -> list[str]:
    wanted, found = [each.name for each in specs], [each.name for each in values]
    if wanted != found:
        return [f"its {kind} are {found} where {wanted} was asked for"]
    pairs = [(each, _wanted(each, spec), _found(value)) for each, value in zip(specs, values, strict=True)]
    return [f"{each.name} is {theirs} where {ours} was asked for" for each, ours, theirs in pairs if ours != theirs]


def _wanted(tensor: TensorSpec, spec: EngineSpec) -> tuple[str, list[int | str]]:
    sizes = [spec.profile.max_b if size == BATCH and spec.profile.static else size for size in tensor.shape]
    return tensor.dtype, sizes


def _found(value: Any) -> tuple[str, list[int | str]]:
    kind = value.type.tensor_type
    return ONNX_TYPES.get(kind.elem_type, str(kind.elem_type)), [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


ONNX_TYPES: Mapping[int, str] = {1: "float32", 7: "int64", 9: "bool", 10: "float16", 16: "bfloat16"}
"""Numbers of ``onnx.TensorProto.DataType``, without importing it."""


def check_batches(path: Path, module: nn.Module, spec: EngineSpec, sizes: Sequence[int] = (1, 3, 5)) -> None:
    """Raise ExportError unless a float32 graph computes what the module does at several batches, one row among them.

    Exporters take the batch for a constant silently.  This is no certificate: inputs are arbitrary, and the bound is wide.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for rows in [size for size in sizes if spec.profile.min_b <= size <= spec.profile.max_b] or [spec.profile.min_b]:
        inputs = examples(spec, rows)
        with torch.no_grad():
            right = module(*inputs)
        try:
            found = session.run(None, {each.name: value.numpy() for each, value in zip(spec.inputs, inputs, strict=True)})
        except Exception as error:  # the runtime's exceptions share no base class
            raise ExportError(f"the graph of {spec.name!r} cannot run {rows} rows: {error}; use backend torch") from error
        for each, ours, theirs in zip(spec.outputs, found, right if isinstance(right, tuple) else (right,), strict=True):
            if not _close(torch.from_numpy(ours), theirs, WIDER if each.name in spec.gradients else WIDE):
                raise ExportError(
                    f"the graph of {spec.name!r} computes another {each.name!r} than its module for {rows} rows; use backend torch"
                )


def examples(spec: EngineSpec, rows: int) -> tuple[Tensor, ...]:
    """Inputs of a spec's types and shapes: numbers between 0.1 and 0.9, ones, True."""
    chance = torch.Generator().manual_seed(rows)
    return tuple(_example(each, rows, chance) for each in spec.inputs)


def _example(tensor: TensorSpec, rows: int, chance: torch.Generator) -> Tensor:
    shape = [rows if size == BATCH else int(size) for size in tensor.shape]
    kind = TORCH_TYPES[tensor.dtype]
    return (0.1 + 0.8 * torch.rand(shape, generator=chance)).to(kind) if kind.is_floating_point else torch.ones(shape, dtype=kind)


def _close(ours: Tensor, theirs: Tensor, bound: float) -> bool:
    if ours.shape != theirs.shape:
        return False
    scale = theirs.double().abs().max() if theirs.numel() else 0.0
    return bool((ours.double() - theirs.double()).abs().max() <= bound * scale + 1e-30)


WIDE = 1e-3
"""Of the largest number of an output: rounding stays far below, a wrong batch far above."""
WIDER = 0.3
"""The same for gradients, which jump where a ReLU or a maximum of a deep network is undecided: there two runtimes, and two runs of torch in
float32 and float64, differ by some percent."""

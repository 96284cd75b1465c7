"""Networks as ONNX graphs: per-item timesteps, dynamic batch, no operator that some runtime treats differently."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.errors import ExportError
from engines.spec import EngineSpec

FORBIDDEN = ("backward", "scatter", "indexput", "nonzero", "resize", "loop", "scan")
"""Parts of operator names.  Nearest upsampling is written as reshape-expand-reshape, so a Resize means something else got in."""

EXAMPLE_ROWS = 3
"""Neither 1, which exporters take for a constant, nor a size that a network also has elsewhere by chance."""

ONE_FILE_BYTES = 1_500_000_000
"""Weights beyond this lie beside the graph: a protobuf ends at 2 GB."""


def export_onnx(module: nn.Module, spec: EngineSpec, path: Path) -> None:
    """Write the module's forward as ``path``; refuse what could not be trusted to run alike everywhere."""
    inputs = tuple(_example(each.dtype, each.row) for each in spec.inputs)
    weights = sum(each.nbytes for each in module.state_dict().values())
    try:
        with _quiet(), torch.no_grad():
            dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
            program = torch.export.export(module, inputs, dynamic_shapes=_by_argument(module, dynamic))
            program = program.run_decompositions({torch.ops.aten.upsample_nearest2d.vec: _upsample_nearest})
            graph: Any = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=spec.opset,
                input_names=[each.name for each in spec.inputs],
                output_names=[each.name for each in spec.outputs],
                verbose=False,
            )
            graph.save(path, external_data=weights > ONE_FILE_BYTES)
    except Exception as error:  # the exporter raises whatever its passes do
        raise ExportError(f"network {spec.name!r} cannot be exported to ONNX: {error}; use backend torch") from error
    check_operators(path, spec)


def check_operators(path: Path, spec: EngineSpec) -> None:
    """Refuse a graph with forbidden or non-standard operators, or with other inputs and outputs than the spec says."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    strange = sorted({node.op_type for node in graph.node if node.domain or any(bad in node.op_type.lower() for bad in FORBIDDEN)})
    if strange:
        raise ExportError(
            f"the graph of {spec.name!r} holds {', '.join(strange)}, which runtimes do not treat alike; use backend torch"
        )
    for ours, theirs in ((spec.inputs, graph.input), (spec.outputs, graph.output)):
        wanted, found = [each.name for each in ours], [each.name for each in theirs]
        if wanted != found:
            raise ExportError(f"the graph of {spec.name!r} has {found} where {wanted} was asked for")
        fixed = [each.name for each in theirs if each.type.tensor_type.shape.dim[0].dim_value]
        if fixed:
            raise ExportError(
                f"the graph of {spec.name!r} has a fixed batch in {', '.join(fixed)}; a size was taken for a constant"
            )


def _upsample_nearest(x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None) -> Tensor:
    n, c, h, w = x.shape
    up_h, up_w = (int(factor) for factor in factors) if factors else (int(size[0]) // h, int(size[1]) // w) if size else (1, 1)
    return x[:, :, :, None, :, None].expand(n, c, h, up_h, w, up_w).reshape(n, c, h * up_h, w * up_w)


def _example(dtype: str, row: tuple[int, ...]) -> Tensor:
    shape = (EXAMPLE_ROWS, *row)
    return (
        torch.ones(shape, dtype=torch.int64)
        if dtype == "int64"
        else torch.linspace(0, 1, int(torch.Size(shape).numel())).reshape(shape)
    )


def _by_argument(module: nn.Module, dynamic: Sequence[dict[int, Any]]) -> dict[str, Any]:
    import inspect

    return dict(zip(inspect.signature(module.forward).parameters, dynamic, strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports on its own internals and on libraries that are not installed; neither is the user's business."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

"""A traced module as an ONNX model."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from engines.spec import BATCH, EngineSpec, TensorSpec

OPSETS: Mapping[str, tuple[int, ...]] = {"ort-cpu": (18,), "ort-cuda": (20, 21), "tensorrt": (23, 21)}
"""Operator sets worth trying, by who runs the graph.  18: GroupNorm as InstanceNormalization, faster on a CPU; 21: native
GroupNormalization; 23: native Attention; ONNX Runtime's CUDA kernels differ by release, so that both are to be timed."""


def emit(traced: fx.GraphModule, inputs: Sequence[Tensor], spec: EngineSpec, *, symbolic: bool) -> Any:
    """The graph as an ``onnx_ir.Model``, named as in the spec, neither folded nor simplified.

    ``symbolic``: sizes that depend on the batch are computed in it; else the model is that of the inputs' shapes.
    """
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} if is_dynamic(each, spec) else None for each in spec.inputs)
    with quiet():
        program: Any = torch.onnx.export(
            traced,
            tuple(inputs),
            dynamo=True,
            dynamic_shapes=dynamic if symbolic else None,
            opset_version=spec.opset,
            input_names=[each.name for each in spec.inputs],
            output_names=[each.name for each in spec.outputs],
            optimize=False,
            verbose=False,
        )
    return program.model


def is_dynamic(tensor: TensorSpec, spec: EngineSpec) -> bool:
    """Whether the tensor's first size is any of several."""
    return tensor.shape[:1] == (BATCH,) and not spec.profile.static


@contextmanager
def quiet() -> Iterator[None]:
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

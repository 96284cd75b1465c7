"""A traced module as an ONNX model."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

from engines.spec import BATCH, EngineSpec, TensorSpec


def emit(traced: fx.GraphModule, inputs: Sequence[Tensor], spec: EngineSpec, *, symbolic: bool) -> Any:
    """The graph as an ``onnx_ir.Model``, neither folded nor simplified, nor named as in the spec.

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

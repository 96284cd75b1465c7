"""Modules as graphs of ATen operators: forward ones as torch has them, gradients in formulas that every runtime has."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines.graphs.decompositions import gradient_table
from engines.graphs.portable import Portable
from engines.graphs.tidy import tidy


def trace(
    module: nn.Module, inputs: Sequence[Tensor], dynamic: Sequence[bool], *, gradients: bool, native_attention: bool
) -> fx.GraphModule:
    """The module's operators on inputs of these shapes; where ``dynamic``, the first size may be any.

    Weights are the module's own tensors.  Raises ValueError when the module fixes a size that should be any.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes = [_fake(mode, value, free) for value, free in zip(inputs, dynamic, strict=True)]

    def function(*args: Tensor) -> Any:
        with Portable(native_attention=native_attention):
            return module(*args)

    options: dict[str, Any] = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}
    if gradients:
        with sdpa_kernel(SDPBackend.MATH):
            traced = make_fx(function, gradient_table(), **options)(*fakes)
    else:
        with torch.no_grad():
            traced = make_fx(function, pre_dispatch=True, **options)(*fakes)
    traced = tidy(traced)
    _check_sizes(traced, dynamic)
    return traced


def depends_on_batch(traced: fx.GraphModule) -> bool:
    """Whether a size is computed somewhere, which fixed shapes would turn into a constant."""
    return any(isinstance(node.meta.get("val"), torch.SymInt) for node in traced.graph.nodes)


def name_weights(traced: fx.GraphModule, names: Mapping[int, str]) -> None:
    """Give the traced module's tensors the names that their parameters have, by identity; what has no name stays a constant."""
    renamed: set[str] = set()
    for node in traced.graph.nodes:
        value = getattr(traced, node.target) if node.op == "get_attr" else None
        if value is not None and id(value) in names:
            renamed.add(node.target)
            node.target = names[id(value)]
            _hold(traced, names[id(value)], value)
    for name in renamed:
        delattr(traced, name)
    traced.recompile()


def _hold(root: nn.Module, name: str, value: Tensor) -> None:
    """Register a tensor under a dotted name."""
    *path, last = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    if isinstance(value, nn.Parameter):
        root.register_parameter(last, value)
    else:
        root.register_buffer(last, value)


def _fake(mode: FakeTensorMode, value: Tensor, free: bool) -> Tensor:
    kinds = [DimDynamic.DYNAMIC if free and axis == 0 else DimDynamic.STATIC for axis in range(value.ndim)]
    fake: Tensor = mode.from_tensor(value, symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))
    return fake


def _check_sizes(traced: fx.GraphModule, dynamic: Sequence[bool]) -> None:
    places = [node for node in traced.graph.nodes if node.op == "placeholder"]
    for node, free in zip(places, dynamic, strict=True):
        size = node.meta["val"].shape[0] if free else None
        if isinstance(size, torch.SymInt) and size.node.maybe_as_int() is not None:
            raise ValueError(f"it fixes the batch of {node.name.removesuffix('_1')!r} to {size}; a size was taken for a constant")

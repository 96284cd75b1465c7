"""Networks in half precision.  What must not be rounded stays float32: numbers per row, time embeddings, outputs, statistics.

A graph's types are its precision (strongly typed engines know no other way), so a module is cast before it is exported.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engines.errors import ExportError
from engines.spec import Precision

HALVES: Mapping[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}

TIME_EMBEDDINGS = frozenset({"time_embedding", "time_embed", "time_mlp", "timestep_embedder", "add_embedding"})
"""Names that diffusers and its like give to what embeds a timestep; computed in float32."""


class Half(nn.Module):
    """A network in half precision, with float32 at its door."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        """The network is cast in place."""
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype
        for name, part in network.named_modules():
            if name.rpartition(".")[2] in TIME_EMBEDDINGS:
                part.float().register_forward_pre_hook(self._to_float)
                part.register_forward_hook(self._to_half)
            elif isinstance(part, _BatchNorm):
                part.float()  # a variance may be too large for float16

    def forward(self, *inputs: Tensor) -> Any:
        """Numbers per row, such as timesteps, are not cast: neighbouring ones would become equal."""
        outputs = self.network(*(x.to(self.dtype) if x.is_floating_point() and x.ndim > 1 else x for x in inputs))
        return tuple(y.float() for y in outputs) if isinstance(outputs, tuple) else outputs.float()

    def _to_float(self, part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)

    def _to_half(self, part: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output.to(self.dtype)


def at_precision(module: nn.Module, precision: Precision) -> nn.Module:
    """The module itself for fp32 and tf32, else a copy in half precision.  Raises ExportError for fp8.

    Modules that are arithmetic around networks name those in ``NETWORKS``; only they are cast.
    """
    if precision in {"fp32", "tf32"}:
        return module
    if precision not in HALVES:
        raise ExportError(f"precision {precision} needs scales from a calibration, which an export does not make; use bf16 or fp16")
    module = copy.deepcopy(module)
    parts: tuple[str, ...] | None = getattr(module, "NETWORKS", None)
    if parts is None:
        return Half(module, HALVES[precision])
    for name in parts:
        network = getattr(module, name)
        setattr(module, name, None if network is None else Half(network, HALVES[precision]))
    return module


def parameter_names(module: nn.Module, cast: nn.Module) -> dict[int, str]:
    """Identity of each tensor that is saved with the cast module -> its name in the module itself; the first of several."""
    tensors = cast.state_dict(keep_vars=True).values()
    return {id(tensor): name for name, tensor in reversed(list(zip(module.state_dict(), tensors, strict=True)))}

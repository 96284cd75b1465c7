"""Plain torch: the reference that every other backend is measured against.  CPU in fp32, CUDA in fp32, fp16 or bf16."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engines.spec import EngineSpec

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class EagerEngine:
    """A module on a device."""

    spec: EngineSpec
    module: nn.Module
    device: torch.device
    threads: int | None
    backend: str = "torch"

    def run(self, feeds: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Inputs of floating point are cast to the engine's precision, the output back to float32."""
        dtype = DTYPES[self.spec.precision]
        inputs = [feeds[each.name].to(self.device) for each in self.spec.inputs]
        inputs = [value.to(dtype) if value.is_floating_point() else value for value in inputs]
        with torch.no_grad(), _threads(self.threads), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return {self.spec.outputs[0].name: self.module(*inputs).float()}


@dataclass(frozen=True)
class EagerBackend:
    """Runs modules as they are."""

    device: str = "cpu"
    threads: int | None = None
    name: str = "torch"

    def unusable(self, spec: EngineSpec) -> str | None:
        """Precisions without a torch type, half precision on a CPU, CUDA without a device."""
        if spec.precision not in DTYPES:
            return f"precision {spec.precision} is not offered by torch eager"
        if self.device == "cpu":
            return None if spec.precision == "fp32" else f"precision {spec.precision} needs a GPU; on a CPU use fp32"
        return None if torch.cuda.is_available() else f"device {self.device!r} was asked for, but torch sees no CUDA device"

    def build(self, module: nn.Module, spec: EngineSpec) -> EagerEngine:
        """Nothing is compiled and nothing cached; the module given stays as it is, since it is the reference of others."""
        device = torch.device(self.device)
        if device.type != "cpu":
            moved: Any = copy.deepcopy(module).to(device, DTYPES[spec.precision])
            module = moved.to(memory_format=torch.channels_last)
        return EagerEngine(spec, module, device, self.threads)


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Torch's thread count is global: borrowed for one call."""
    before = torch.get_num_threads()
    if wanted is None or wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Plain torch: the reference that every other backend is measured against.  CPU in fp32, CUDA in fp32, tf32, fp16 or bf16."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from engines.capability import Capability, cuda_driver
from engines.engine import Engine
from engines.errors import ArtifactError, NotRefittableError
from engines.protocols import Replay, Stream
from engines.spec import EngineSpec, Kind, Precision, TensorSpec

DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
CUDA_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")


@dataclass(frozen=True, eq=False)
class EagerProgram:
    """A module on a device."""

    spec: EngineSpec
    module: nn.Module
    device: torch.device
    threads: int | None
    captures: int = 0

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Inputs of floating point are cast to the engine's precision, outputs back to what the spec says."""
        with on_stream(stream), _settings(self.spec.precision, self.threads):
            inputs = [cast_in(each, feeds[each.name].to(self.device), self.spec.precision) for each in self.spec.inputs]
            return handed(self.spec.outputs, self.module(*inputs), out)

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """Nothing can be settled ahead: a replay is a run into the bound tensors."""
        return lambda: (self.run(feeds, outs, None), None)[1]

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """Copied into the module's parameters, which on a CPU are the caller's own: give a copy to keep them."""
        own = dict(self.module.named_parameters())
        unknown = sorted(set(weights) - set(own))
        if unknown:
            raise NotRefittableError(self.spec.name, f"it has no parameter {', '.join(unknown[:3])}")
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

    def close(self) -> None:
        """The module goes with the engine."""


@dataclass(frozen=True)
class EagerBackend:
    """Runs modules as they are."""

    device: str = "cpu"
    threads: int | None = None
    name: str = "torch"

    def probe(self) -> Capability:
        """Torch is always there; a GPU may not be."""
        return torch_capability(self.name, self.device)

    def unusable(self, spec: EngineSpec) -> str | None:
        """Half precision on a CPU, fp8 anywhere, CUDA without a device."""
        return self.probe().refuses(spec)

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Nothing is compiled and nothing cached; the module given stays as it is, since it is the reference of others."""
        device = torch.device(self.device)
        program = EagerProgram(spec, placed(module, device, spec.precision), device, self.threads)
        return Engine(spec=spec, program=program, backend=self.name)

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """There is no artifact: a module is code."""
        raise ArtifactError(
            f"backend {self.name!r} has no artifacts to load {spec.name!r} from ({artifact}); build it from its module"
        )


def torch_capability(name: str, device: str) -> Capability:
    """What torch can do on a device, whether it interprets or compiles."""
    kinds: tuple[Kind, ...] = ("forward", "vjp", "guided", "loop")
    if device == "cpu":
        return Capability(backend=name, version=torch.__version__, device=device, precisions=("fp32",), kinds=kinds)
    reason = None
    if not torch.cuda.is_available():
        reason = (
            f"device {device!r} was asked for, but torch sees no CUDA device ({cuda_driver() or 'this build of torch has no CUDA'})"
        )
    return Capability(
        backend=name, reason=reason, version=torch.__version__, device=device, precisions=CUDA_PRECISIONS, kinds=kinds
    )


def placed(module: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    """On a CPU the module itself, elsewhere a copy in the precision, channels last."""
    if device.type == "cpu":
        return module
    moved: Any = copy.deepcopy(module).to(device, DTYPES[precision])
    return cast("nn.Module", moved.to(memory_format=torch.channels_last))


def cast_in(spec: TensorSpec, value: Tensor, precision: Precision) -> Tensor:
    """What the spec calls float32 is computed in the engine's precision."""
    return value.to(DTYPES[precision]) if spec.dtype == "float32" else value


def handed(
    specs: Sequence[TensorSpec], results: Tensor | tuple[Tensor, ...], out: Mapping[str, Tensor] | None
) -> Mapping[str, Tensor]:
    """Outputs by name, in float32, in ``out`` where that is given."""
    values = results if isinstance(results, tuple) else (results,)
    named = zip(specs, values, strict=True)
    if out is None:
        return {each.name: value.detach().float() if each.dtype == "float32" else value.detach() for each, value in named}
    for each, value in named:
        out[each.name].copy_(value.detach())
    return out


@contextmanager
def on_stream(stream: Stream | None) -> Iterator[None]:
    """The given stream, or the current one."""
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        yield


@contextmanager
def _settings(precision: Precision, threads: int | None) -> Iterator[None]:
    """TF32 only where it was asked for; everything that torch keeps globally is borrowed for one call."""
    tf32 = precision == "tf32"
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.no_grad(), borrowed_threads(threads), torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def borrowed_threads(wanted: int | None) -> Iterator[None]:
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

"""Plain torch: the reference that every other backend is measured against.  CPU in fp32, CUDA in fp32, tf32, fp16 or bf16."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.backends.weights import Copies, check_weights, weights_of
from engines.capability import Capability, cuda_driver
from engines.capture import Recorder, recorder_for
from engines.engine import Engine
from engines.errors import ArtifactError, FeedError
from engines.protocols import Replay, Stream
from engines.spec import EngineSpec, Kind, Precision, TensorSpec

DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
CUDA_PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")


@dataclass(eq=False)
class TorchProgram:
    """A module on a device, called as it is or through something compiled from it."""

    spec: EngineSpec
    weights: Mapping[str, Tensor]
    """Parameters by the names they have in the module that was given."""
    call: Callable[..., Tensor | tuple[Tensor, ...]]
    device: torch.device
    threads: int | None = None
    recorder: Recorder | None = None
    """Replaces CUDA graphs, and records on a CPU too."""
    captures: int = 0

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Feeds in pinned memory are copied while the host goes on: leave them alone until the results are there."""
        with on_stream(stream), _settings(self.spec, self.device, self.threads):
            inputs = [feeds[each.name].to(self.device, non_blocking=True) for each in self.spec.inputs]
            return handed(self.spec.outputs, self.call(*inputs), out)

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """On a GPU one CUDA graph, forward and backward together; it computes with the weights of the time of the replay."""
        lie_on(self.device, feeds, outs, self.spec.name)
        work = partial(self._into, feeds, outs)
        replay = (self.recorder or recorder_for(self.device))(work)
        self.captures += replay is not work
        return replay

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """Copied in place, so that recorded graphs see them.

        On a CPU the parameters are the caller's own: give a copy to keep them.  On a GPU, engines that one backend built from one module
        share their weights.
        """
        check_weights(self.spec.name, self.weights, weights)
        with torch.no_grad():
            for name, value in weights.items():
                self.weights[name].copy_(value)

    def close(self) -> None:
        """Let go of the module; a GPU's memory is free when no other engine runs the same copy."""
        self.call, self.weights = _closed, {}

    def _into(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> None:
        self.run(feeds, outs, None)


@dataclass(frozen=True)
class EagerBackend:
    """Runs modules as they are."""

    device: str = "cpu"
    threads: int | None = None
    name: str = "torch"
    _copies: Copies = field(default_factory=Copies, init=False, repr=False, compare=False)

    def probe(self) -> Capability:
        """Torch is always there; a GPU may not be."""
        return torch_capability(self.name, self.device)

    def unusable(self, spec: EngineSpec) -> str | None:
        """Half precision on a CPU, fp8 anywhere, CUDA without a device."""
        return self.probe().refuses(spec)

    def ready(self, spec: EngineSpec) -> bool:
        """Modules run as they are."""
        return True

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Nothing is compiled and nothing cached; the module given stays as it is, since it is the reference of others."""
        device = torch.device(self.device)
        placed = module if device.type == "cpu" else self._copies.of(module, spec, device)
        program = TorchProgram(spec, weights_of(module, placed), placed, device, self.threads)
        return Engine(spec=spec, program=program, backend=self.name)

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """There is no artifact: a module is code."""
        raise ArtifactError(
            f"backend {self.name!r} has no artifacts to load {spec.name!r} from ({artifact}); build it from its module"
        )


def _closed(*_: Tensor) -> Tensor:
    raise RuntimeError("the engine of this replay was closed")


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


def lie_on(device: torch.device, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor], engine: str) -> None:
    """Raise FeedError for a tensor elsewhere: an address on another device cannot be bound."""
    for name, value in (*feeds.items(), *outs.items()):
        if value.device.type != device.type or (device.index is not None and value.device.index != device.index):
            raise FeedError(f"{name!r} of engine {engine!r} lies on {value.device}, and is bound on {device}; move it there")


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
def _settings(spec: EngineSpec, device: torch.device, threads: int | None) -> Iterator[None]:
    """TF32 only where it was asked for; everything that torch keeps globally is borrowed for one call.

    Convolutions are tuned by trying where there is one shape to tune for.
    """
    tf32 = spec.precision == "tf32"
    tuned = device.type == "cuda" and spec.profile.static
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.no_grad(), borrowed_threads(threads), torch.backends.cudnn.flags(enabled=True, benchmark=tuned, allow_tf32=tf32):
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

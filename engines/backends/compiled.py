"""Torch, compiled: one kernel where eager torch runs many.  Inductor on a CPU needs a C++ compiler, on a GPU Triton and a C compiler.

A dynamic engine is compiled for one row, which compilers take for a constant, and for a symbolic batch, perhaps twice where kernels for
large batches differ; a static one for its size.
"""

import os
import shutil
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.backends.eager import TorchProgram, torch_capability
from engines.backends.weights import Copies, weights_of
from engines.cache import BuildCache
from engines.capability import Capability
from engines.engine import Engine
from engines.errors import ArtifactError, ExportError
from engines.spec import TORCH_TYPES, EngineSpec

MODES = {"cpu": "default", "cuda": "max-autotune-no-cudagraphs"}
"""CUDA graphs are ours: ``bind`` and :mod:`engines.capture` decide what they cover."""

RECOMPILES = 1024
"""Engines of one architecture share its code, and torch counts their graphs together."""

REGIONS = 4
"""A class that occurs this often in a network is worth compiling once."""

CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(frozen=True)
class CompiledBackend:
    """Compiles modules; kernels and tuning results are kept in the build cache, and found again by torch itself."""

    cache: BuildCache
    device: str = "cpu"
    threads: int | None = None
    regional: bool = False
    """Compile blocks that recur instead of the whole network: less to compile, for runs too short to earn it back."""
    name: str = "torch-compiled"
    _copies: Copies = field(default_factory=Copies, init=False, repr=False, compare=False)

    def probe(self) -> Capability:
        """A compiler that is missing, besides what torch itself lacks."""
        capability = torch_capability(self.name, self.device)
        return replace(capability, reason=capability.reason or toolchain_missing(self.device))

    def ready(self, spec: EngineSpec) -> bool:
        """Torch compiles in every process anew."""
        return False

    def unusable(self, spec: EngineSpec) -> str | None:
        """Missing compilers, half precision on a CPU, fp8 anywhere, CUDA without a device."""
        return self.probe().refuses(spec)

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Compile a copy of the module and run it once.  Raises ExportError for what cannot be compiled in one piece."""
        device = torch.device(self.device)
        placed = self._copies.of(module, spec, device)
        function = compiled(placed, spec, self.device, regional=self.regional)
        call = Compiled(function, self.cache.root, dynamic=spec.kind == "forward" and not spec.profile.static)
        program = TorchProgram(spec, weights_of(module, placed), call, device, self.threads)
        try:
            program.run(_ones(spec), None, None)
        except Exception as error:  # compilers raise whatever their passes do
            if not _compilers(error):
                raise
            said = str(error).strip().partition("\n")[0]
            raise ExportError(f"network {spec.name!r} cannot be compiled: {said}; use backend torch") from error
        return Engine(spec=spec, program=program, backend=self.name)

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """There is no artifact besides torch's own caches: a module is code."""
        raise ArtifactError(
            f"backend {self.name!r} has no artifacts to load {spec.name!r} from ({artifact}); build it from its module"
        )


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled network, which compiles when it meets a batch of a new kind."""

    function: Callable[..., Any]
    root: Path
    dynamic: bool
    """Whether the batch is symbolic from the start; inside a module that differentiates torch finds that out at the second size."""
    _met: set[int] = field(default_factory=set)

    def __call__(self, *inputs: Tensor) -> Any:
        """Inputs in the plain layout, so that a view of another one is no new kind."""
        plain = [each.detach().contiguous() for each in inputs]
        rows = len(plain[0])
        if rows in self._met:
            return self.function(*plain)
        if self.dynamic and rows > 1:
            for each in plain:
                torch._dynamo.mark_dynamic(each, 0)  # noqa: SLF001  # documented under this name
        with compiling(self.root):
            results = self.function(*plain)
        self._met.add(rows)
        return results


def compiled(placed: nn.Module, spec: EngineSpec, device: str, *, regional: bool) -> Callable[..., Any]:
    """What runs the module.  Of a module that differentiates, the networks in it are compiled, each forward with its backward."""
    if regional:
        for part in regions(placed):
            part.compile(fullgraph=True, mode=MODES[device])
        return placed
    if spec.kind == "forward":
        return torch.compile(placed, fullgraph=True, mode=MODES[device])
    for part in placed.children():
        if next(part.parameters(), None) is not None:
            part.compile(fullgraph=True, mode=MODES[device])
    return placed


def regions(network: nn.Module) -> list[nn.Module]:
    """The outermost blocks of classes that recur: their code is compiled once for every shape of weights, not once a block."""
    counts = Counter(type(part) for part in network.modules() if _block(part))
    return list(_outermost(network, {kind for kind, count in counts.items() if count >= REGIONS}))


def _outermost(part: nn.Module, kinds: set[type]) -> Iterator[nn.Module]:
    for child in part.children():
        if type(child) in kinds:
            yield child
        else:
            yield from _outermost(child, kinds)


def _block(part: nn.Module) -> bool:
    return not isinstance(part, CONTAINERS) and sum(not list(each.children()) for each in part.modules()) > 1


@contextmanager
def compiling(root: Path) -> Iterator[None]:
    """Kernels and tuning results go to the build cache, unless the user has said where; the compiler's own remarks go nowhere."""
    wanted = {"TORCHINDUCTOR_CACHE_DIR": str(root / ".inductor"), "TRITON_CACHE_DIR": str(root / ".triton")}
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    limits: Any = torch._dynamo.config.patch(recompile_limit=RECOMPILES, accumulated_recompile_limit=RECOMPILES)  # noqa: SLF001
    try:
        with warnings.catch_warnings(), limits:
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def toolchain_missing(device: str) -> str | None:
    """Which tool inductor would miss, or None."""
    if device == "cpu":
        if not any(shutil.which(each) for each in _cpp_compilers()):
            return f"there is no C++ compiler ({', '.join(_cpp_compilers())}); install g++ or set CXX"
        headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
        return None if headers.is_file() else f"{headers} is missing; install Python's development headers"
    if find_spec("triton") is None:
        return "triton is not installed, which comes with torch's CUDA builds"
    if not any(shutil.which(each) for each in (os.environ.get("CC"), "gcc", "clang", "cc") if each):
        return "there is no C compiler, which Triton needs to launch kernels; install gcc or set CC"
    return None


def _cpp_compilers() -> list[str]:
    return [each for each in (os.environ.get("CXX"), "g++", "clang++") if each]


def _ones(spec: EngineSpec) -> dict[str, Tensor]:
    return {each.name: torch.ones(spec.profile.opt_b, *each.row, dtype=TORCH_TYPES[each.dtype]) for each in spec.inputs}


def _compilers(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "torch.fx"))

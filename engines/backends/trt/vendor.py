"""Which TensorRT is here, if any: found by import, refused with a reason, never started."""

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

from engines.backends.trt import api

MODULES = ("tensorrt", "tensorrt_bindings", "tensorrt_lean", "tensorrt_lean_bindings")
"""In the order tried.  The second is the same without the package that brings the libraries; the last two only load."""

OLDEST = (10, 13)


class TensorRT(Protocol):
    """The vendor's module."""

    DataType: type[api.DataType]
    TensorIOMode: type[api.TensorIOMode]
    TensorLocation: type[api.TensorLocation]
    NetworkDefinitionCreationFlag: type[api.NetworkDefinitionCreationFlag]
    BuilderFlag: type[api.BuilderFlag]
    HardwareCompatibilityLevel: type[api.HardwareCompatibilityLevel]
    MemoryPoolType: type[api.MemoryPoolType]
    OnnxParserFlag: type[api.OnnxParserFlag]
    ExecutionContextAllocationStrategy: type[api.ExecutionContextAllocationStrategy]
    ILogger: type[api.ILogger]
    Builder: Callable[[api.ILogger], api.Builder]
    OnnxParser: Callable[[api.INetworkDefinition, api.ILogger], api.OnnxParser]
    Runtime: Callable[[api.ILogger], api.Runtime]
    Refitter: Callable[[api.ICudaEngine, api.ILogger], api.Refitter]
    Weights: Callable[[api.DataType, int, int], api.Weights]


@dataclass(frozen=True)
class Vendor:
    """TensorRT, imported."""

    trt: TensorRT
    module: str
    """Name to import it by elsewhere."""
    version: str
    lean: bool
    """Whether it only loads plans."""

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor."""
        return release(self.version)


def find_vendor(names: Sequence[str] = MODULES) -> Vendor | str:
    """The first module that can be imported and has what is needed, or why there is none.

    Importing loads the vendor's libraries but calls nothing in them.  Ask for the driver before.
    """
    reasons: list[str] = []
    for name in names:
        found = _imported(name)
        vendor = found if isinstance(found, str) else as_vendor(found)
        if isinstance(vendor, Vendor):
            return vendor
        reasons.append(vendor)
    worst = [reason for reason in reasons if not reason.endswith("not installed")]
    return "; ".join(worst) or "TensorRT is not installed; install the extra `tensorrt`"


def as_vendor(module: ModuleType) -> Vendor | str:
    """A module as TensorRT, or why it is none."""
    version = _version(module)
    if version is None:
        return f"{module.__name__} is something else than TensorRT: it has no version"
    if release(version) < OLDEST:
        return f"{module.__name__} is {version}; TensorRT {OLDEST[0]}.{OLDEST[1]} or newer is needed"
    lean = not hasattr(module, "Builder")
    missing = missing_names(module, api.LOADING if lean else (*api.LOADING, *api.BUILDING))
    if missing:
        return f"{module.__name__} {version} has no {', '.join(missing[:4])}; use a release from 10.13 to 11"
    return Vendor(cast("TensorRT", module), module.__name__, version, lean)


def missing_names(module: Any, kinds: Sequence[type]) -> list[str]:
    """Names of ours that the module does not have."""
    wanted = [(kind.__name__, name) for kind in kinds for name in sorted(api.members(kind))]
    return [f"{kind}.{name}" for kind, name in wanted if not hasattr(getattr(module, kind, None), name)]


def release(version: str) -> tuple[int, int]:
    """Major and minor of a version; (0, 0) where there are none.

    >>> release("10.16.1.11")
    (10, 16)
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _version(module: ModuleType) -> str | None:
    """Of the module, or of the bindings that it passes on without their version."""
    bindings = sys.modules.get(f"{module.__name__}_bindings")
    for each in (module, bindings):
        version = getattr(each, "__version__", None)
        if isinstance(version, str):
            return version
    return None


def _imported(name: str) -> ModuleType | str:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        return f"{name} is not installed" if error.name == name else f"{name} cannot be imported: {error}"
    except Exception as error:  # noqa: BLE001  # a library that does not load raises whatever it likes
        return f"{name} cannot be imported: {error}; its libraries must match this driver and lie on the loader's path"

"""Choose who runs a network: the first choice of the user, or the fastest whose numbers are certified."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from engines.errors import BackendUnavailableError
from engines.protocols import Backend, Engine
from engines.spec import EngineSpec


@dataclass(frozen=True)
class BackendChoice:
    """Who runs a network, and why nobody else."""

    name: str
    reason: str
    refused: tuple[str, ...] = ()


def build(module: nn.Module, spec: EngineSpec, wanted: str, backends: Sequence[Backend]) -> tuple[Engine, BackendChoice]:
    """The network on the backend asked for; ``auto`` takes the first that does not refuse."""
    refused: list[str] = []
    for backend in backends:
        if wanted not in {"auto", backend.name}:
            continue
        reason = backend.unusable(spec)
        if reason is None:
            return backend.build(module, spec), BackendChoice(backend.name, "pinned", tuple(refused))
        refused.append(f"{backend.name}: {reason}")
    names = ", ".join(backend.name for backend in backends)
    raise BackendUnavailableError(wanted, refused or [f"there is none of that name; known are auto, {names}"])

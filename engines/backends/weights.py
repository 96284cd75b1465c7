"""Modules on a device in an engine's precision, and their parameters under the names of the module that was given."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn

from engines.errors import NotRefittableError
from engines.graphs.precision import at_precision
from engines.spec import EngineSpec, Precision


@dataclass(frozen=True, eq=False)
class Copies:
    """One copy for all engines of a module, as long as one of them is open."""

    _known: WeakKeyDictionary[nn.Module, WeakValueDictionary[tuple[object, ...], nn.Module]] = field(
        default_factory=WeakKeyDictionary
    )
    _writes: WeakKeyDictionary[nn.Module, int] = field(default_factory=WeakKeyDictionary)

    def of(self, module: nn.Module, spec: EngineSpec, device: torch.device) -> nn.Module:
        """The copy, made when it is first asked for.  A module whose weights have changed, or a copy that was refitted, is copied anew."""
        copies = self._known.setdefault(module, WeakValueDictionary())
        key = (spec.model_hash, spec.precision, str(device))
        placed = copies.get(key)
        if placed is None or _writes(placed) != self._writes[placed]:
            placed = copies[key] = copied(module, spec.precision, device)
            self._writes[placed] = _writes(placed)
        return placed


def copied(module: nn.Module, precision: Precision, device: torch.device) -> nn.Module:
    """A copy on the device in the precision, frozen, with its images channels last."""
    cast: Any = at_precision(module, precision)
    cast = (copy.deepcopy(module) if cast is module else cast).requires_grad_(requires_grad=False)
    placed: nn.Module = cast.to(device).to(memory_format=torch.channels_last)
    return placed


def weights_of(module: nn.Module, placed: nn.Module) -> dict[str, Tensor]:
    """Parameters of a copy, under the names that they have in the module: a cast one may be wrapped."""
    return dict(zip((name for name, _ in module.named_parameters()), placed.parameters(), strict=True))


def check_weights(engine: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raise NotRefittableError for a parameter that is not there or has another shape."""
    unknown = sorted(set(weights) - set(own))
    if unknown:
        raise NotRefittableError(engine, f"it has no parameter {', '.join(unknown[:3])}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise NotRefittableError(engine, f"{name} is {tuple(own[name].shape)}, got {tuple(value.shape)}")


def _writes(placed: nn.Module) -> int:
    """How often parameters were written to in place."""
    return sum(each._version for each in placed.parameters())  # noqa: SLF001  # torch has no other name for it

"""Checkpoints without pickle: tensors as safetensors, counters as their metadata, replaced atomically."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.training.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a stage of training has cost so far, and where it stands."""

    steps: int = 0
    seconds: float = 0.0
    """Wall clock of all sessions together, up to the last checkpoint of those that were killed."""
    loss: float = 0.0
    """Running mean over some fifty steps."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A stage of training at rest."""

    tensors: Mapping[str, Tensor]
    spent: Spent


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's per-parameter state, by position."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """State of a module under a prefix."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def restore_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`module_tensors` took."""
    module.load_state_dict(
        {name.removeprefix(prefix + "."): value for name, value in tensors.items() if name.startswith(prefix + ".")}
    )


def save(path: Path, tensors: Mapping[str, Tensor], spent: Spent, *, run: str) -> None:
    """Write all or nothing; ``run`` names what is being trained on what."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_suffix(".partial")
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    notes = {"run": run, "step": str(spent.steps), "seconds": str(spent.seconds), "loss": str(spent.loss)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary, metadata=notes)
        os.replace(temporary, path)  # noqa: PTH105  # atomic on one file system
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"checkpoint {path} cannot be written ({error}); free space there and run again: it resumes") from error


def load(path: Path, *, run: str) -> Checkpoint | None:
    """The checkpoint, if there is one.  Raises TrainingError when it cannot be read or belongs to another run."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        spent = Spent(steps=int(notes["step"]), seconds=float(notes["seconds"]), loss=float(notes["loss"]))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise TrainingError(f"checkpoint {path} cannot be read ({error}); delete it to start this stage again") from error
    if notes.get("run") != run:
        raise TrainingError(
            f"checkpoint {path} belongs to other images, captions or sizes; delete it or use another work directory"
        )
    return Checkpoint(tensors, spent)

"""Checkpoints without pickle: tensors as safetensors, the step counter as their metadata, replaced atomically."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


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


def save(path: Path, tensors: Mapping[str, Tensor], *, step: int, seconds: float) -> None:
    """Write all or nothing."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    save_file(plain, temporary, metadata={"step": str(step), "seconds": str(seconds)})
    os.replace(temporary, path)  # noqa: PTH105  # atomic on one file system


def load(path: Path) -> tuple[dict[str, Tensor], int, float]:
    """Tensors, step and seconds spent; empty and zeros when there is no checkpoint."""
    from safetensors import safe_open

    if not path.exists():
        return {}, 0, 0.0
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
        return {name: file.get_tensor(name) for name in file.keys()}, int(notes["step"]), float(notes["seconds"])  # noqa: SIM118

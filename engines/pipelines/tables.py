"""Noise schedules of exported networks: a table in a file, or the rule that made it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from engines.errors import EngineError, PipelineError
from engines.precondition import noise_levels

RULE = ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
"""What a rule may say, in diffusers' words."""
TABLES = ("alpha_bars", "betas")
"""What a file may hold; the value is the array's key in it."""


def rule_or_table(directory: Path, schedule: Mapping[str, Any]) -> Float64[Tensor, " t"]:
    """Logarithms of a schedule's noise levels sqrt((1 - alpha_bar) / alpha_bar), ascending.  Raises PipelineError."""
    if "file" not in schedule:
        if odd := sorted(set(schedule) - set(RULE)):
            raise PipelineError(f"a schedule by rule says {', '.join(RULE)}; {', '.join(odd)} is none of them")
        try:
            return noise_levels(schedule).log_sigmas
        except (EngineError, TypeError, ValueError) as error:
            raise PipelineError(f"the schedule {dict(schedule)} cannot be made: {error}") from error
    which = [name for name in TABLES if name in schedule]
    if len(which) != 1 or set(schedule) != {"file", *which}:
        raise PipelineError(
            f"a schedule in a file says `file` and one of {' and '.join(TABLES)} (the array's key), got {dict(schedule)}"
        )
    path, key = directory / str(schedule["file"]), str(schedule[which[0]])
    table = torch.from_numpy(_array(path, key).astype(np.float64))
    alpha_bars = table if which[0] == "alpha_bars" else torch.cumprod(1 - table, 0)
    inside, falling = bool(((alpha_bars > 0) & (alpha_bars < 1)).all()), bool((alpha_bars.diff() < 0).all())
    if table.ndim != 1 or len(table) < 2 or not inside or not falling:
        raise PipelineError(
            f"{path}: {key} of shape {tuple(table.shape)} is no table of {which[0]}: alpha bars must fall from entry to entry, "
            "between 1 and 0, both excluded"
        )
    return ((1 - alpha_bars) / alpha_bars).log() / 2


def unit_betas(log_sigmas: Float64[Tensor, " t"], half_range: float) -> list[float]:
    """Betas of the same schedule for images in [-1, 1], of a network whose images span twice ``half_range``.

    >>> [round(beta, 6) for beta in unit_betas(torch.tensor([0.5, 2.0], dtype=torch.float64).log(), 0.5)]
    [0.5, 0.882353]
    """
    alpha_bars = 1 / (1 + (2 * log_sigmas).exp() / half_range**2)
    before = torch.cat([torch.ones(1, dtype=alpha_bars.dtype), alpha_bars[:-1]])
    betas: list[float] = (1 - alpha_bars / before).tolist()
    return betas


def _array(path: Path, key: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            if key not in file:
                raise PipelineError(f"{path} has no array {key!r}; it has {', '.join(file)}")
            found: np.ndarray = file[key]
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise PipelineError(f"{path} cannot be read as an .npz file of a schedule: {error}") from error
    return found

"""The steps of a rectified flow: diffusers' FlowMatchEulerDiscreteScheduler (Esser et al. 2024, section 5.3.2: shift by resolution)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from engines.errors import UnsupportedPipelineError
from engines.schedules import Trajectory


def flow_trajectory(settings: Mapping[str, Any], steps: int, tokens: int) -> Trajectory:
    """Levels s in [0, 1], from 1 down to 0; ``tokens`` is the length of the image's sequence, for shifts that depend on it."""
    for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"):
        if settings[key]:
            raise UnsupportedPipelineError(
                f"FlowMatchEulerDiscreteScheduler sets {key}, which is not supported; use its plain levels"
            )
    lowest = 1 / int(settings["num_train_timesteps"])
    if settings["use_dynamic_shifting"]:
        levels = _moved(np.linspace(1, lowest, steps), _mu(settings, tokens), settings["time_shift_type"])
    else:  # the class shifts its lowest level twice
        shift = float(settings["shift"])
        levels = _shifted(np.linspace(1, _shifted(np.array(lowest), shift), steps), shift)
    if settings["shift_terminal"]:
        levels = 1 - (1 - levels) * (1 - float(settings["shift_terminal"])) / (1 - levels[-1])
    return Trajectory((*(float(s) for s in levels), 0.0), start=1.0)


def _shifted(levels: Float64[np.ndarray, "..."], shift: float) -> Float64[np.ndarray, "..."]:
    """Eq. 23: s' = a s / (1 + (a - 1) s)."""
    return shift * levels / (1 + (shift - 1) * levels)


def _moved(levels: Float64[np.ndarray, " n"], mu: float, kind: str) -> Float64[np.ndarray, " n"]:
    """The same with a = exp(mu), or a = mu."""
    return _shifted(levels, float(np.exp(mu)) if kind == "exponential" else mu)


def _mu(settings: Mapping[str, Any], tokens: int) -> float:
    """Linear in the length of the sequence."""
    short, long = float(settings["base_image_seq_len"]), float(settings["max_image_seq_len"])
    low, high = float(settings["base_shift"]), float(settings["max_shift"])
    return low + (high - low) * (tokens - short) / (long - short)

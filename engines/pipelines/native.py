"""The steps that schedulers' classes take: spacing, offset, Karras levels, where they end, and how they scale what they start from.

Tables are float64 here, float32 in diffusers.  One thing differs on purpose: its DDIM steps by count // steps timesteps, whichever it
visits next; ours goes to the next one visited, which is the same wherever steps divides count and spacing is not linspace.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from engines.errors import UnsupportedPipelineError
from engines.precondition import NoiseLevels
from engines.schedules import (
    Spacing,
    Trajectory,
    exponential_sigmas,
    karras_sigmas,
    spaced_timesteps,
    variance_preserving,
)

Settings = Mapping[str, Any]


def _ddim(settings: Settings, levels: NoiseLevels, steps: int) -> Trajectory:
    """Ends at the first level of the table unless ``set_alpha_to_one``, as a state of unit variance."""
    table = levels.sigmas
    sigmas = [table[t] for t in _whole_timesteps(settings, levels, steps)]
    last = 0.0 if settings["set_alpha_to_one"] else table[0]
    return _from_unit_variance([*sigmas, last])


def _ddpm(settings: Settings, levels: NoiseLevels, steps: int) -> Trajectory:
    table = levels.sigmas
    return variance_preserving([*(table[t] for t in _whole_timesteps(settings, levels, steps)), 0.0])


def _euler(settings: Settings, levels: NoiseLevels, steps: int) -> Trajectory:
    """Levels between those of the table are interpolated in sigma; what is sampled is never scaled back."""
    table = levels.sigmas
    timesteps = spaced_timesteps(_spacing(settings), len(table), steps, settings["steps_offset"])
    sigmas = _between(table, timesteps)
    low, high = settings.get("sigma_min") or sigmas[-1], settings.get("sigma_max") or sigmas[0]
    if settings.get("use_karras_sigmas") or settings.get("use_exponential_sigmas"):
        spaced = karras_sigmas if settings.get("use_karras_sigmas") else exponential_sigmas
        sigmas, timesteps = spaced(low, high, steps)[:-1], []
    last = table[0] if settings.get("final_sigmas_type") == "sigma_min" else 0.0
    start = float(np.hypot(1.0, sigmas[0])) if _spacing(settings) == "leading" else sigmas[0]
    return Trajectory((*sigmas, last), start=start, timesteps=tuple(timesteps))


def _lcm(settings: Settings, levels: NoiseLevels, steps: int) -> Trajectory:
    """Evenly out of the timesteps of distillation."""
    table, original = levels.sigmas, int(settings["original_inference_steps"])
    if not 1 <= steps <= original:
        raise UnsupportedPipelineError(f"LCMScheduler takes 1 to {original} steps (original_inference_steps), got {steps}")
    distilled = [(i + 1) * (len(table) // original) - 1 for i in reversed(range(original))]
    return variance_preserving([*(table[distilled[i * original // steps]] for i in range(steps)), 0.0])


def _dpm_solver(settings: Settings, levels: NoiseLevels, steps: int) -> Trajectory:
    """Its Karras levels are told to the network at rounded timesteps."""
    table = levels.sigmas
    if settings["use_exponential_sigmas"] or (settings["use_karras_sigmas"] and settings["beta_schedule"] == "squaredcos_cap_v2"):
        raise UnsupportedPipelineError(
            "DPMSolverMultistepScheduler cuts the timesteps of these sigmas down as rounding happens to fall; use schedule karras"
        )
    if settings["use_karras_sigmas"]:
        sigmas = karras_sigmas(table[0], table[-1], steps)[:-1]
        timesteps = [float(t) for t in np.interp(np.log(sigmas), levels.log_sigmas.numpy(), np.arange(len(table))).round()]
    else:
        timesteps = _dpm_timesteps(settings, levels, steps)
        sigmas = _between(table, timesteps)
    last = 0.0
    if settings["final_sigmas_type"] == "sigma_min":
        if settings["euler_at_final"] or (settings["lower_order_final"] and steps < _FEW):
            raise UnsupportedPipelineError(
                f"DPMSolverMultistepScheduler with final_sigmas_type sigma_min needs at least {_FEW} steps here"
            )
        last = table[0]
    return _from_unit_variance([*sigmas, last], tuple(timesteps))


_FEW = 15
"""Below it the class ends with a step of first order; a step to zero is one anyway."""


NATIVE: Mapping[str, Callable[[Settings, NoiseLevels, int], Trajectory]] = {
    "DDIMScheduler": _ddim,
    "DDPMScheduler": _ddpm,
    "EulerDiscreteScheduler": _euler,
    "EulerAncestralDiscreteScheduler": _euler,
    "LCMScheduler": _lcm,
    "DPMSolverMultistepScheduler": _dpm_solver,
}


def _spacing(settings: Settings) -> Spacing:
    return cast("Spacing", settings["timestep_spacing"])


def _whole_timesteps(settings: Settings, levels: NoiseLevels, steps: int) -> list[int]:
    count = len(levels.sigmas)
    found = [round(t) for t in spaced_timesteps(_spacing(settings), count, steps, settings["steps_offset"])]
    if found[0] >= count:
        raise UnsupportedPipelineError(
            f"steps_offset {settings['steps_offset']} leads past the last timestep at {steps} steps; use fewer"
        )
    return found


def _dpm_timesteps(settings: Settings, levels: NoiseLevels, steps: int) -> list[float]:
    """Spaced as if one more were visited, and not above where log(alpha / sigma) is clipped."""
    count = len(levels.sigmas)
    kept = int((-levels.log_sigmas >= float(settings["lambda_min_clipped"])).sum())
    spacing = _spacing(settings)
    if spacing == "trailing":
        return [float(t) for t in np.round(np.arange(kept, 0, -count / steps)) - 1]
    if spacing == "linspace":
        return [float(t) for t in np.linspace(0, kept - 1, steps + 1).round()[::-1][:-1]]
    return [float(t) for t in (np.arange(steps + 1) * (kept // (steps + 1)))[::-1][:-1] + settings["steps_offset"]]


def _between(table: tuple[float, ...], timesteps: list[float]) -> list[float]:
    return [float(sigma) for sigma in np.interp(timesteps, np.arange(len(table)), table)]


def _from_unit_variance(sigmas: list[float], timesteps: tuple[float, ...] = ()) -> Trajectory:
    """For classes that keep states at unit variance: what is left at the last level is scaled as they leave it."""
    start, end = float(np.hypot(1.0, sigmas[0])), float(1 / np.hypot(1.0, sigmas[-1]))
    return Trajectory(tuple(sigmas), start=start, end=end, timesteps=timesteps)

"""What a directory's scheduler_config.json means: noise levels, prediction, and the steps that its class would take.

Our own plans (``trailing``, ``karras``) need only the levels; the schedule ``native`` is the class's own: spacing, offset, Karras levels,
where it ends and how it scales what it starts from.  Tables are float64 here, float32 there.  One thing differs on purpose: diffusers'
DDIM steps by count // steps timesteps, whichever it visits next; ours go to the next one visited, which is the same wherever steps divides
count and spacing is not linspace.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from engines.errors import UnsupportedPipelineError
from engines.pipelines.flows import flow_trajectory
from engines.plan import SamplingPlan
from engines.precondition import NoiseLevels
from engines.samplers import Variance
from engines.schedules import (
    Spacing,
    Trajectory,
    exponential_sigmas,
    karras_sigmas,
    spaced_timesteps,
    variance_preserving,
)

Settings = Mapping[str, Any]

_TABLE = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}
_CLIP = {"clip_sample_range": 1.0, "thresholding": False}
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False, "final_sigmas_type": "zero"}

DEFAULTS: Mapping[str, Settings] = {
    "DDIMScheduler": _TABLE
    | _CLIP
    | {
        "clip_sample": True,
        "timestep_spacing": "leading",
        "steps_offset": 0,
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    },
    "DDPMScheduler": _TABLE
    | _CLIP
    | {"clip_sample": True, "timestep_spacing": "leading", "steps_offset": 0, "variance_type": "fixed_small"}
    | {"rescale_betas_zero_snr": False},
    "EulerDiscreteScheduler": _TABLE
    | _SIGMAS
    | {"timestep_spacing": "linspace", "steps_offset": 0, "interpolation_type": "linear", "timestep_type": "discrete"}
    | {"sigma_min": None, "sigma_max": None, "rescale_betas_zero_snr": False},
    "EulerAncestralDiscreteScheduler": _TABLE
    | {"timestep_spacing": "linspace", "steps_offset": 0, "rescale_betas_zero_snr": False},
    "LCMScheduler": _TABLE
    | _CLIP
    | {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    | {"original_inference_steps": 50, "timestep_scaling": 10.0, "rescale_betas_zero_snr": False},
    "DPMSolverMultistepScheduler": _TABLE
    | _SIGMAS
    | {
        "timestep_spacing": "linspace",
        "steps_offset": 0,
        "solver_order": 2,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
    }
    | {"use_lu_lambdas": False, "use_flow_sigmas": False, "lambda_min_clipped": -float("inf"), "lower_order_final": True}
    | {"euler_at_final": False, "thresholding": False, "variance_type": None, "rescale_betas_zero_snr": False},
    "FlowMatchEulerDiscreteScheduler": {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False}
    | {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096, "time_shift_type": "exponential"}
    | {"shift_terminal": None, "invert_sigmas": False, "stochastic_sampling": False}
    | {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False},
}
"""Classes whose own steps we take, and what they assume where a configuration is silent."""

LEVELS_ONLY = (
    "PNDMScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler",
)  # fmt: skip
"""Classes whose noise levels are those of the others, but whose steps we do not take: drawn by the plan's sampler and schedule."""

RECOMMENDED: Mapping[str, Settings] = {
    "EulerDiscreteScheduler": {"sampler": "euler", "schedule": "native"},
    "EulerAncestralDiscreteScheduler": {"sampler": "euler_ancestral", "schedule": "native"},
    "LCMScheduler": {"sampler": "lcm", "schedule": "native", "steps": 4, "guidance": 1.0},
    "FlowMatchEulerDiscreteScheduler": {"sampler": "flow_euler", "schedule": "native", "steps": 28},
}
"""What a plan says for a text-to-image directory unless told otherwise; for all others it is SamplingPlan's own word."""

PIXEL_RECOMMENDED: Mapping[str, Settings] = {
    "DDPMScheduler": {"sampler": "ddpm", "schedule": "native", "steps": 1000},
    "DDIMScheduler": {"sampler": "ddim", "schedule": "native", "steps": 50},
}
"""The same for directories that are not asked by text."""


@dataclass(frozen=True)
class Scheduler:
    """One configuration, with what its class assumes filled in."""

    name: str
    settings: Settings

    @property
    def flowing(self) -> bool:
        """Whether it belongs to a flow and not to a diffusion."""
        return self.name == "FlowMatchEulerDiscreteScheduler"

    @property
    def clip(self) -> float | None:
        """Largest size of a clean estimate, where the class clips it."""
        return float(self.settings["clip_sample_range"]) if self.settings.get("clip_sample") else None

    @property
    def variance(self) -> Variance:
        """Of the noise that DDPM steps add; a variance that the network learned is not used."""
        return "large" if self.settings.get("variance_type") == "fixed_large" else "small"

    @property
    def boundary(self) -> float:
        """How steeply a consistency function leaves the identity."""
        return float(self.settings.get("timestep_scaling", 10.0))

    def trajectory(self, plan: SamplingPlan, levels: NoiseLevels | None, tokens: int) -> Trajectory:
        """Levels that a plan visits; ``tokens`` is the length of the sequence a flow's network sees."""
        if self.flowing:
            return flow_trajectory(self.settings, plan.steps, tokens)
        assert levels is not None
        if plan.schedule != "native":
            return variance_preserving(plan.sigmas(levels))
        if self.name not in NATIVE:
            known = ", ".join(NATIVE)
            raise UnsupportedPipelineError(
                f"the steps of {self.name} are not known here; use schedule trailing or karras, or one of {known}"
            )
        return NATIVE[self.name](self.settings, levels, plan.steps)


def read_scheduler(config: Settings) -> Scheduler:
    """Check a configuration; raises UnsupportedPipelineError by name for what would be drawn otherwise than its class draws."""
    name = config.get("_class_name", "DDIMScheduler")
    if name not in DEFAULTS and name not in LEVELS_ONLY:
        known = ", ".join((*DEFAULTS, *LEVELS_ONLY))
        raise UnsupportedPipelineError(f"scheduler {name} is not supported; supported are {known}")
    found = Scheduler(name, {**DEFAULTS.get(name, _TABLE), **config})
    for key, allowed in _ALLOWED.items():
        if key in found.settings and found.settings[key] not in allowed:
            raise UnsupportedPipelineError(
                f"scheduler {name} sets {key} to {found.settings[key]!r}; supported is {' or '.join(repr(value) for value in allowed)}"
            )
    return found


_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "thresholding": (False,),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "timestep_spacing": ("trailing", "leading", "linspace"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "algorithm_type": ("dpmsolver++",),
    "solver_type": ("midpoint",),
    "solver_order": (2,),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "learned", "learned_range"),
    "time_shift_type": ("exponential", "linear"),
    "invert_sigmas": (False,),
    "stochastic_sampling": (False,),
}


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

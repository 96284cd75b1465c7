"""What a directory's scheduler_config.json means: noise levels, prediction, and the steps that its class would take.

Our own plans (``trailing``, ``karras``) need only the levels; the schedule ``native`` takes the class's own steps
(``engines.pipelines.native``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.errors import UnsupportedPipelineError
from engines.pipelines.flows import flow_trajectory
from engines.pipelines.native import NATIVE, Settings
from engines.plan import SamplingPlan
from engines.precondition import NoiseLevels
from engines.samplers import Variance
from engines.schedules import Trajectory, variance_preserving

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
    "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
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
        """Largest size of a clean estimate, where the class clips it; configurations keep the settings of other classes too."""
        clips = "clip_sample" in DEFAULTS.get(self.name, {}) and self.settings["clip_sample"]
        return float(self.settings["clip_sample_range"]) if clips else None

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
            raise UnsupportedPipelineError(
                f"the steps of {self.name} are not known here, those of {', '.join(NATIVE)} are; use schedule trailing or karras"
            )
        _check(self, _STEPS, "; use schedule trailing or karras")
        return NATIVE[self.name](self.settings, levels, plan.steps)


def read_scheduler(config: Settings) -> Scheduler:
    """Check a configuration; raises UnsupportedPipelineError by name for what would be drawn otherwise than its class draws."""
    name = config.get("_class_name", "DDIMScheduler")
    if name not in DEFAULTS and name not in LEVELS_ONLY:
        known = ", ".join((*DEFAULTS, *LEVELS_ONLY))
        raise UnsupportedPipelineError(f"scheduler {name} is not supported; supported are {known}")
    found = Scheduler(name, {**DEFAULTS.get(name, _TABLE), **config})
    _check(found, _ALWAYS, "")
    return found


def _check(scheduler: Scheduler, rules: Mapping[str, tuple[Any, ...]], cure: str) -> None:
    """Raise UnsupportedPipelineError for a setting that its class would follow and we do not."""
    for key, allowed in rules.items():
        value = scheduler.settings.get(key, allowed[0])
        if (key in DEFAULTS.get(scheduler.name, rules)) and value not in allowed:
            raise UnsupportedPipelineError(
                f"scheduler {scheduler.name} sets {key} to {value!r}; supported is {' or '.join(map(repr, allowed))}{cure}"
            )


_ALWAYS: Mapping[str, tuple[Any, ...]] = {
    "thresholding": (False, None),
    "timestep_type": ("discrete",),
    "use_flow_sigmas": (False, None),
    "time_shift_type": ("exponential", "linear"),
    "invert_sigmas": (False,),
    "stochastic_sampling": (False,),
}
"""What would change every picture."""

_STEPS: Mapping[str, tuple[Any, ...]] = {
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "interpolation_type": ("linear",),
    "timestep_spacing": ("trailing", "leading", "linspace"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "algorithm_type": ("dpmsolver++",),
    "solver_type": ("midpoint",),
    "solver_order": (2,),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "learned", "learned_range"),
}
"""What would change the steps that the class takes itself."""

"""The way from noise to data: a network, its process and its scheduler, joined by a plan."""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.errors import PipelineError
from engines.guidance import Guidance, guide
from engines.pipelines.schedulers import Scheduler
from engines.plan import SamplingPlan
from engines.precondition import NoiseLevels, TimestepNetwork, clipped, consistent
from engines.process import Diffusing, Flowing, Process
from engines.protocols import ConditionalDenoiser, Denoiser
from engines.samplers import SAMPLERS, STOCHASTIC_SAMPLERS, OnStep, StepNoise, StochasticSampler, sample_ddpm
from engines.schedules import Trajectory

Latents = Float[Tensor, "n c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Course:
    """Everything a plan needs to become pictures, but the seeds and what is asked for."""

    network: TimestepNetwork
    process: Process
    scheduler: Scheduler
    tokens: int
    """Length of the sequence that a flow's network sees."""
    distilled: bool = False
    """Whether the network itself is told how strong guidance should be."""

    @property
    def levels(self) -> NoiseLevels | None:
        """Of a diffusion."""
        return self.process.levels if isinstance(self.process, Diffusing) else None

    def path(self, plan: SamplingPlan) -> Trajectory:
        """Levels that the plan visits, and how it starts and ends."""
        full = self.scheduler.trajectory(plan, self.levels, self.tokens)
        return full if plan.solver is None else plan.solver.along(full)

    def guidance(self, plan: SamplingPlan) -> Guidance:
        """Guidance by a second evaluation."""
        return Guidance() if self.distilled else plan.guide

    def conditional(self, plan: SamplingPlan) -> ConditionalDenoiser:
        """The denoiser before guidance, told the timesteps that the plan's schedule decrees."""
        if not isinstance(self.process, Diffusing):
            return self.process.denoiser(self.network)
        path = self.path(plan)
        return self.process.visiting(path.timesteps, path.sigmas).denoiser(self.network)

    def denoiser(self, plan: SamplingPlan, told: Conditioning, null: Conditioning | None) -> Denoiser:
        """Guided, clipped where the scheduler says so, and a consistency function where the sampler needs one."""
        denoise = guide(self.conditional(plan), told, null, self.guidance(plan))
        if self.scheduler.clip is not None:
            denoise = clipped(denoise, self.scheduler.clip)
        levels = self.levels
        return consistent(denoise, levels, self.scheduler.boundary) if plan.sampler == "lcm" and levels is not None else denoise

    def draw(
        self, plan: SamplingPlan, denoise: Denoiser, x: Latents, noise: StepNoise | None = None, *, on_step: OnStep | None = None
    ) -> Latents:
        """Latents from a start (see ``path``); ``noise`` is what stochastic samplers add, by step."""
        path = self.path(plan)
        if plan.solver is not None:
            return path.end * plan.solver.sample(denoise, x, path.sigmas, on_step)
        if plan.sampler in SAMPLERS:
            return path.end * SAMPLERS[plan.sampler](denoise, x, path.sigmas, on_step)
        if noise is None:
            raise ValueError(f"sampler {plan.sampler!r} adds noise at every step; give it some (`engines.noise.step_noise`)")
        return path.end * self._stochastic(plan)(denoise, x, path.sigmas, noise, on_step)

    def _stochastic(self, plan: SamplingPlan) -> StochasticSampler:
        return (
            partial(sample_ddpm, variance=self.scheduler.variance) if plan.sampler == "ddpm" else STOCHASTIC_SAMPLERS[plan.sampler]
        )


def check_plan(plan: SamplingPlan, process: Process, *, distilled: bool, guided: bool) -> None:
    """Raise PipelineError for a plan that a kind of network cannot follow; ``guided`` says whether it has a null condition."""
    flowing = isinstance(process, Flowing)
    if flowing != (plan.sampler == "flow_euler"):
        raise PipelineError(f"sampler {plan.sampler!r} does not fit this network; flow_euler is for flows, and they know no other")
    if flowing and plan.schedule != "native":
        raise PipelineError(f"a flow's levels are those of its scheduler; use schedule native instead of {plan.schedule}")
    if plan.solver is not None and plan.sampler not in SAMPLERS:
        raise PipelineError(f"sampler {plan.sampler!r} adds noise at every step; only {', '.join(SAMPLERS)} have fitted solvers")
    if distilled and plan.guidance_interval is not None:
        raise PipelineError("guidance is distilled into this network and cannot be switched by level; leave guidance_interval out")
    if plan.guidance != 1.0 and not distilled and not guided:
        raise PipelineError(
            f"guidance of {plan.guidance} needs a class that stands for none, and this network is not known to have one; "
            "set guidance to 1, or name its null_class"
        )

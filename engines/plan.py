"""How an image is drawn: sampler, noise levels, guidance.  A plan is part of what a generator's fingerprint covers."""

from dataclasses import dataclass
from typing import Literal, get_args

from engines.fitted import FittedSolver
from engines.guidance import Guidance
from engines.precondition import NoiseLevels
from engines.schedules import karras_sigmas, trailing_sigmas

SamplerName = Literal["ddim", "dpmpp_2m", "euler", "euler_ancestral", "ddpm", "lcm", "flow_euler"]
ScheduleName = Literal["trailing", "karras", "native"]


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """How an image is drawn."""

    steps: int = 20
    """Steps of the sampler; each costs one network evaluation, two where it is guided."""
    sampler: SamplerName = "dpmpp_2m"
    """Which step is taken: deterministic of order one (ddim, euler) or two, or with fresh noise; flow_euler for flows only."""
    schedule: ScheduleName = "trailing"
    """Which noise levels are visited; ``native`` as the directory's scheduler does."""
    guidance: float = 5.0
    """Strength of classifier-free guidance; 1 is none."""
    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest sigma that are guided; all when absent."""
    solver: FittedSolver | None = None
    """Visits only some of the levels of all the above; all are visited when absent."""

    def __post_init__(self) -> None:
        if self.sampler not in get_args(SamplerName):
            raise ValueError(f"sampler {self.sampler!r} is unknown; use one of {', '.join(get_args(SamplerName))}")
        if self.schedule not in get_args(ScheduleName):
            raise ValueError(f"schedule {self.schedule!r} is unknown; use one of {', '.join(get_args(ScheduleName))}")
        if self.steps < 1:
            raise ValueError(f"a plan needs at least one step, got {self.steps}")
        if self.solver is not None and self.solver.levels[-1] != self.steps:
            raise ValueError(f"the solver was fitted to {self.solver.levels[-1]} steps, the plan has {self.steps}")
        _ = self.guide  # which checks the interval

    @property
    def guide(self) -> Guidance:
        """Scale and interval together."""
        return Guidance(self.guidance, *(self.guidance_interval or ()))

    @property
    def visited(self) -> int:
        """Steps that are taken."""
        return self.steps if self.solver is None else self.solver.steps

    def sigmas(self, levels: NoiseLevels) -> list[float]:
        """Noise levels of the full plan, descending to 0; those of ``native`` are the scheduler's own (``engines.pipelines.schedulers``)."""
        if self.schedule == "native":
            raise ValueError("a native schedule is the scheduler's to tell; ask it for its trajectory")
        table = levels.sigmas
        return trailing_sigmas(table, self.steps) if self.schedule == "trailing" else karras_sigmas(table[0], table[-1], self.steps)

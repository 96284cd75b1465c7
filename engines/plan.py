"""How an image is drawn: sampler, noise levels, guidance.  A plan is part of what a generator's fingerprint covers."""

from dataclasses import dataclass
from typing import Literal

from engines.guidance import Guidance
from engines.precondition import NoiseLevels
from engines.samplers import SAMPLERS
from engines.schedules import karras_sigmas, trailing_sigmas


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """How an image is drawn."""

    steps: int = 20
    """Steps of the sampler; each costs one network evaluation, two where it is guided."""
    sampler: Literal["ddim", "dpmpp_2m"] = "dpmpp_2m"
    """Order one or two."""
    schedule: Literal["trailing", "karras"] = "trailing"
    """Which noise levels are visited."""
    guidance: float = 5.0
    """Strength of classifier-free guidance; 1 is none."""
    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest sigma that are guided; all when absent."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler {self.sampler!r} is unknown; use one of {', '.join(SAMPLERS)}")
        if self.schedule not in {"trailing", "karras"}:
            raise ValueError(f"schedule {self.schedule!r} is unknown; use trailing or karras")
        if self.steps < 1:
            raise ValueError(f"a plan needs at least one step, got {self.steps}")
        _ = self.guide  # which checks the interval

    @property
    def guide(self) -> Guidance:
        """Scale and interval together."""
        return Guidance(self.guidance, *(self.guidance_interval or ()))

    def sigmas(self, levels: NoiseLevels) -> list[float]:
        """Noise levels to visit, descending to 0."""
        table = levels.sigmas
        return trailing_sigmas(table, self.steps) if self.schedule == "trailing" else karras_sigmas(table[0], table[-1], self.steps)

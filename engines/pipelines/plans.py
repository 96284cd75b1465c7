"""The plan of a directory: what the caller says, then its audit.json, then what suits its scheduler and family, then SamplingPlan."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engines.directory import DEFAULTS, Parts
from engines.errors import PipelineError
from engines.pipelines.families import DIT
from engines.pipelines.schedulers import PIXEL_RECOMMENDED, RECOMMENDED, Scheduler
from engines.plan import SamplingPlan

DISTILLED_GUIDANCE = 8.5
"""What latent consistency models are told unless asked otherwise: omega of 7.5 (Luo et al. 2023, section 5.1), plus 1 as guidance counts."""


@dataclass(frozen=True)
class Settled:
    """A plan, and which class stands for none."""

    plan: SamplingPlan
    null_class: int | None = None


def settle(parts: Parts, scheduler: Scheduler, asked: Mapping[str, object], directory: Path) -> Settled:
    """Put settings together; ``asked`` leaves out what the caller does not say.  Raises PipelineError."""
    known = {field.name for field in fields(SamplingPlan)} - {"solver"} | {"null_class"}
    unknown = set(parts.defaults) - known
    if unknown:
        raise PipelineError(f"{directory / DEFAULTS}: unknown {', '.join(sorted(unknown))}; see SamplingPlan for what it may hold")
    settings: dict[str, Any] = {**recommended(parts, scheduler), **parts.defaults, **asked}
    null_class = settings.pop("null_class", None)
    if settings.get("guidance_interval") is not None:
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
    try:
        return Settled(SamplingPlan(**settings), null_class)
    except (TypeError, ValueError) as error:
        raise PipelineError(f"the sampling plan of {directory} cannot be used: {error}") from error


def recommended(parts: Parts, scheduler: Scheduler) -> dict[str, object]:
    """What suits this kind of directory.

    Few-step schedulers and Euler's take their own steps, since models are distilled to them; for DDIM, PNDM and their like a second-order
    sampler over trailing timesteps is better at 20 steps than what they were shipped with.
    """
    if not parts.family.by_text:
        own = PIXEL_RECOMMENDED.get(scheduler.name, RECOMMENDED.get(scheduler.name, {}))
        return {**own, "guidance": 4.0 if parts.family is DIT else 1.0}
    distilled = parts.network.config.get("time_cond_proj_dim") is not None
    return {**RECOMMENDED.get(scheduler.name, {}), **({"guidance": DISTILLED_GUIDANCE} if distilled else {})}

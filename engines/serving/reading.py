"""A pipeline directory as the exporter sees it: its networks in torch, and everything else that the served loop must be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.backends.eager import EagerBackend
from engines.course import Course, check_plan
from engines.directory import Parts, read_parts
from engines.errors import UnsupportedPipelineError
from engines.networks import VaeDecode, denoiser_spec, network_shape
from engines.parity import ROWS
from engines.pipelines.building import PROFILE, NetworkOnEngine, course_of, distilled, image_shape, process_of
from engines.pipelines.denoisers import denoiser_module
from engines.pipelines.plans import settle
from engines.pipelines.probes import Probes
from engines.pipelines.prompts import prompts_of
from engines.pipelines.schedulers import read_scheduler
from engines.plan import SamplingPlan
from engines.process import Diffusing
from engines.protocols import Prompts
from engines.serving.models.audit_loop.plan import SAMPLERS
from engines.spec import EngineSpec, Precision


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """What is served."""

    parts: Parts
    plan: SamplingPlan
    """The reference plan: what requests draw by unless they say otherwise."""
    course: Course
    process: Diffusing
    text: Prompts
    denoiser: nn.Module
    precision: Precision

    @property
    def latent(self) -> tuple[int, int, int]:
        """Channels, height and width of what is denoised."""
        return network_shape(self.parts.network)

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of what is drawn."""
        return image_shape(self.parts)

    @cached_property
    def spec(self) -> EngineSpec:
        """Of what denoises."""
        told = self.text.examples(ROWS).tensors
        return denoiser_spec(self.denoiser, told, self.latent, PROFILE, self.precision)

    @property
    def null(self) -> Mapping[str, Tensor]:
        """The one row that guidance starts from; nothing where there is none."""
        null = self.text.null
        return {} if null is None else null.tensors

    @cached_property
    def probes(self) -> Probes:
        """Inputs like those that the networks will meet."""
        plain = NetworkOnEngine(EagerBackend().build(self.denoiser, self.spec.at("fp32")), [0])
        return Probes(plain, self.text.examples(ROWS), self.process, self.latent)

    @cached_property
    def images(self) -> Tensor:
        """Pictures (ROWS 3 h w) in [-1, 1] from the probes' latents."""
        if not self.parts.family.latent:
            return self.probes.clean.clamp(-1, 1)
        with torch.no_grad():
            drawn: Tensor = VaeDecode(self.parts.vae)(self.probes.clean)
        return drawn.clamp(-1, 1)

    def reference(self) -> dict[str, Any]:
        """The reference plan as the loop reads it."""
        path, guide = self.course.path(self.plan), self.course.guidance(self.plan)
        interval = None if self.plan.guidance_interval is None else [guide.low, guide.high]
        return {
            "sigmas": list(path.sigmas),
            "timesteps": list(path.timesteps),
            "start": path.start,
            "end": path.end,
            "sampler": self.plan.sampler,
            "guidance": guide.scale,
            "guidance_interval": interval,
        }


def read_source(directory: Path, precision: Precision = "fp32") -> Source:
    """Read a directory.  Raises PipelineError; UnsupportedPipelineError for what the served loop cannot draw."""
    parts = read_parts(directory)
    scheduler = read_scheduler(parts.scheduler)
    settled = settle(parts, scheduler, {}, directory)
    process = process_of(parts, scheduler)
    if not isinstance(process, Diffusing):
        raise UnsupportedPipelineError(
            f"{directory} is a flow ({parts.family.name}); the loop that is served draws by diffusion only"
        )
    if settled.plan.sampler not in SAMPLERS:
        raise UnsupportedPipelineError(
            f"{directory} is drawn by {settled.plan.sampler}, the loop that is served knows {', '.join(SAMPLERS)}; name one of them as "
            "`sampler` in its audit.json"
        )
    if not parts.family.latent and network_shape(parts.network)[0] != 3:
        raise UnsupportedPipelineError(f"{directory} draws grey pictures; the loop that is served draws colours only")
    text = prompts_of(parts, image_shape(parts), settled.plan.guidance, settled.null_class)
    check_plan(settled.plan, process, distilled=distilled(parts), guided=text.null is not None)
    module = denoiser_module(parts.family, parts.network)
    course = course_of(parts, process, scheduler, lambda x, t, told: module(x, t, *told.tensors.values()))
    return Source(parts=parts, plan=settled.plan, course=course, process=process, text=text, denoiser=module, precision=precision)

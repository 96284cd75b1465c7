"""A pipeline directory as the exporter sees it: its networks in torch, and everything else that the served loop must be told."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.course import Course, check_plan
from engines.directory import Parts, read_parts
from engines.errors import UnsupportedPipelineError
from engines.network import Network
from engines.networks import network_shape
from engines.pipelines.building import course_of, distilled, image_shape, networks_of, process_of
from engines.pipelines.plans import settle
from engines.pipelines.prompts import prompts_of
from engines.pipelines.schedulers import read_scheduler
from engines.plan import SamplingPlan
from engines.process import Diffusing
from engines.protocols import Prompts
from engines.serving.models.audit_loop.plan import SAMPLERS
from engines.spec import Precision, TensorSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """What is served."""

    parts: Parts
    plan: SamplingPlan
    """The reference plan: what requests draw by unless they say otherwise."""
    course: Course
    process: Diffusing
    text: Prompts
    networks: tuple[Network, ...]
    """What denoises, and the decoder where there is one."""
    precision: Precision

    @property
    def denoiser(self) -> Network:
        """The network that the loop is about."""
        return self.networks[0]

    @property
    def decoder(self) -> Network | None:
        """Latents to images in [-1, 1]; None where pixels are denoised."""
        return self.networks[1] if len(self.networks) > 1 else None

    @property
    def latent(self) -> tuple[int, int, int]:
        """Channels, height and width of what is denoised."""
        return network_shape(self.parts.network)

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of what is drawn."""
        return image_shape(self.parts)

    @property
    def told(self) -> tuple[TensorSpec, ...]:
        """What the network is told besides its noise."""
        return self.denoiser.spec.inputs[2:]

    @property
    def null(self) -> Mapping[str, Tensor]:
        """The one row that guidance starts from; nothing where there is none."""
        null = self.text.null
        return {} if null is None else null.tensors

    @cached_property
    def images(self) -> Tensor:
        """Some pictures (n 3 h w) in [-1, 1], like those that are drawn."""
        if self.decoder is None:
            return self.denoiser.batches()[0]["sample"].clamp(-1, 1)
        with torch.no_grad():
            drawn: Tensor = self.decoder.module(self.decoder.batches()[0]["latents"])
        return drawn.clamp(-1, 1)

    def reference(self) -> dict[str, Any]:
        """The reference plan as the loop reads it."""
        path, guide = self.course.path(self.plan), self.course.guidance(self.plan)
        return {
            "sigmas": list(path.sigmas),
            "timesteps": list(path.timesteps),
            "start": path.start,
            "end": path.end,
            "sampler": self.plan.sampler,
            "guidance": guide.scale,
            "guidance_interval": None if self.plan.guidance_interval is None else [guide.low, guide.high],
        }


def read_source(directory: Path, precision: Precision = "fp32") -> Source:
    """Read a directory.  Raises PipelineError; UnsupportedPipelineError for what the served loop cannot draw."""
    parts = read_parts(directory)
    scheduler = read_scheduler(parts.scheduler)
    settled, process = settle(parts, scheduler, {}, directory), process_of(parts, scheduler)
    if not isinstance(process, Diffusing):
        raise UnsupportedPipelineError(
            f"{directory} is a flow ({parts.family.name}); the loop that is served draws by diffusion only"
        )
    if settled.plan.sampler not in SAMPLERS:
        raise UnsupportedPipelineError(
            f"{directory} is drawn by {settled.plan.sampler}, the loop that is served knows {', '.join(SAMPLERS)}; name one of them as "
            "`sampler` in its audit.json"
        )
    if not parts.family.latent and network_shape(parts.network)[0] == 1:
        raise UnsupportedPipelineError(f"{directory} draws grey pictures; the loop that is served draws colours only")
    text = prompts_of(parts, image_shape(parts), settled.plan.guidance, settled.null_class)
    check_plan(settled.plan, process, distilled=distilled(parts), guided=text.null is not None)
    networks = networks_of(parts, process, text, precision)
    course = course_of(parts, process, scheduler, lambda x, t, told: networks[0].module(x, t, *told.tensors.values()))
    return Source(parts=parts, plan=settled.plan, course=course, process=process, text=text, networks=networks, precision=precision)

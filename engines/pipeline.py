"""A diffusers directory as one generator: captions (or classes, or nothing) and seeds in, images out.

Everything that decides the pixels is in the fingerprint: weights, tokenizers, scheduler, plan, precision.  The backend is not: one is
used only when certified to compute the same numbers, and a fingerprint must not change with what a machine happens to be fast at.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.build import BackendChoice
from engines.conditioning import Conditioning
from engines.course import Course, check_plan
from engines.diffusion import Diffusion
from engines.directory import Parts, read_parts
from engines.engine import Engine
from engines.errors import BackendUnavailableError, OutOfMemoryError, UnsupportedPipelineError
from engines.memory import give_back, out_of_memory
from engines.networks import network_shape
from engines.noise import start_noise, step_noise
from engines.pipelines.building import (
    Built,
    NetworkOnEngine,
    Where,
    build_networks,
    course_of,
    differentiable,
    distilled,
    image_shape,
    process_of,
)
from engines.pipelines.codecs import KlCodec
from engines.pipelines.families import Family
from engines.pipelines.plans import settle
from engines.pipelines.prompts import prompts_of
from engines.pipelines.schedulers import read_scheduler
from engines.pipelines.solvers import plan_note, with_solver
from engines.pipelines.wording import Wording, wording_of
from engines.plan import SamplerName, SamplingPlan, ScheduleName
from engines.precondition import TimestepNetwork
from engines.process import Diffusing, Flowing, Process, Velocity
from engines.protocols import Codec, ConditionalDenoiser, Denoiser, Prompts
from engines.samplers import OnStep
from engines.spec import Precision, Tier, digest, higher
from engines.tiers import savings

Images = Float[np.ndarray, "n 3 h w"]
Latents = Float[Tensor, "n c h w"]
Wanted = Sequence[str] | Sequence[int] | None
"""Captions, classes, or None where a pipeline draws whatever its data were."""

LOG = logging.getLogger(__name__)

HALVINGS = 3
"""So often is a batch cut in half when memory is short."""

NOISE = "philox-1"
"""Changed whenever seeds come to mean other noise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pipeline:
    """Draws one image per seed, of a caption or a class where the family knows any.  Not thread safe."""

    fingerprint: str
    """Changes whenever weights, sampler or settings change."""
    digest: str
    """Of the directory's files: what ``pin`` compares."""
    solver_key: str
    """What fitted solvers belong to: the files, and the class that stands for none where there is one."""
    family: Family
    plan: SamplingPlan
    own: SamplingPlan
    """What the directory recommends: the reference that ``plan`` is measured against."""
    precision: Precision
    course: Course
    sigmas: tuple[float, ...]
    """Noise levels that are visited."""
    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    batch: int
    """Most images drawn at once."""
    choices: Mapping[str, BackendChoice]
    """Who runs each network, and why; first the one that denoises."""
    text: Prompts
    """Between what is asked for and what the network is told."""
    codec: Codec
    differentiable: TimestepNetwork
    """The network that denoises in torch, for gradients."""
    wording: Wording | None
    """The text encoders with gradients, for words that are learned; None where nothing is asked for in words."""
    device: torch.device
    spent: list[int]

    @property
    def evaluations_per_image(self) -> int:
        """Rows the network evaluates for one image, those of guidance included."""
        return self.course.guidance(self.plan).evaluations(self.sigmas)

    @property
    def evaluations(self) -> int:
        """Rows the network has evaluated since loading."""
        return self.spent[0]

    @property
    def savings(self) -> tuple[str, ...]:
        """What the plan leaves out of the directory's own."""
        return savings(self.course, self.plan, self.own)

    @property
    def tier(self) -> Tier:
        """Exact unless the plan saves something; every network is certified, or is the reference itself."""
        return "approximate" if self.savings else "exact"

    @property
    def reference(self) -> bool:
        """Whether these are the pictures that others are compared with: nothing saved, in torch, in single precision."""
        return not self.savings and self.precision == "fp32" and {choice.name for choice in self.choices.values()} == {"torch"}

    @property
    def choice(self) -> BackendChoice:
        """Who runs the network that denoises, and why."""
        return next(iter(self.choices.values()))

    @property
    def engines(self) -> tuple[Engine, ...]:
        """What denoises, and the decoder where there is one, in the order of ``choices``."""
        denoiser, codec = self.course.network, self.codec
        found = (denoiser.engine,) if isinstance(denoiser, NetworkOnEngine) else ()
        return (*found, codec.decoder) if isinstance(codec, KlCodec) else found

    @cached_property
    def conditional(self) -> ConditionalDenoiser:
        """The denoiser before guidance."""
        return self.course.conditional(self.plan)

    @cached_property
    def diffusion(self) -> Diffusion:
        """The same network by timestep, for methods that noise, guide and invert.  Raises UnsupportedPipelineError for flows."""
        process = self.course.process
        if not isinstance(process, Diffusing):
            raise UnsupportedPipelineError(
                f"a {self.family.name} pipeline is a flow, without timesteps of diffusion; use its velocity"
            )
        return Diffusion(
            course=self.course,
            levels=process.levels,
            prediction=process.prediction,
            differentiable=self.differentiable,
            device=self.device,
        )

    @cached_property
    def velocity(self) -> Velocity:
        """A flow's velocity: (x, s, conditioning), row by row.  Raises UnsupportedPipelineError for diffusions."""
        process = self.course.process
        if not isinstance(process, Flowing):
            raise UnsupportedPipelineError(f"a {self.family.name} pipeline is a diffusion, without a velocity; use its diffusion")
        return process.velocity(self.course.network)

    def generate(self, wanted: Wanted, seeds: Sequence[int], *, on_step: OnStep | None = None) -> Images:
        """One image per seed, float32 RGB in [0, 1], of what is wanted row by row.

        Raises CaptionTooLongError, or ValueError for what this family cannot be asked, before anything is drawn.
        """
        if wanted is not None and len(wanted) != len(seeds):
            raise ValueError(f"need one seed per caption, got {len(wanted)} captions and {len(seeds)} seeds")
        self.text.check(wanted)
        images = np.zeros((len(seeds), *self.image_shape), np.float32)
        for rows in _batches(len(seeds), self.batch):
            self._fill(images, wanted, seeds, rows, on_step, halvings=HALVINGS)
        return images

    def _fill(
        self, images: Images, wanted: Wanted, seeds: Sequence[int], rows: slice, on_step: OnStep | None, *, halvings: int
    ) -> None:
        """One batch; where memory is short, in halves.  Pictures do not depend on their batch."""
        try:
            latents = self.draw(None if wanted is None else wanted[rows], seeds[rows], on_step=on_step)
            images[rows] = (self.codec.decode(latents) / 2 + 0.5).clamp(0, 1).cpu().numpy()
        except Exception as error:  # every library has its own
            if not out_of_memory(error):
                raise
            size = rows.stop - rows.start
            if size < 2 or halvings == 0:
                raise OutOfMemoryError(
                    f"{self.device} runs out of memory, also with only {size} pictures at once; free memory there, "
                    "or set a smaller `generator.batch`"
                ) from error
            give_back(self.device)
        else:
            return
        middle = (rows.start + rows.stop) // 2
        for half in (slice(rows.start, middle), slice(middle, rows.stop)):
            self._fill(images, wanted, seeds, half, on_step, halvings=halvings - 1)

    def draw(self, wanted: Wanted, seeds: Sequence[int], *, on_step: OnStep | None = None) -> Latents:
        """The latents of one batch."""

        def noise(step: int) -> Tensor:
            return step_noise(seeds, step, self.latent_shape)

        return self.course.draw(self.plan, self.denoiser(wanted, len(seeds)), self.start(seeds), noise, on_step=on_step)

    def told(self, wanted: Wanted, rows: int | None = None) -> Conditioning:
        """What the network is told, on the device; ``rows`` is only needed where nothing in particular is wanted."""
        return self.text.encode(wanted, len(wanted) if wanted is not None else rows or 0).to(self.device)

    @property
    def null(self) -> Conditioning | None:
        """The row that guidance starts from, on the device."""
        null = self.text.null
        return None if null is None else null.to(self.device)

    def denoiser(self, wanted: Wanted, rows: int | None = None) -> Denoiser:
        """The guided denoiser of what is wanted, row by row."""
        return self.course.denoiser(self.plan, self.told(wanted, rows), self.null)

    def start(self, seeds: Sequence[int]) -> Latents:
        """Where sampling starts: of a diffusion about the marginal at sigmas[0] of data with unit variance, of a flow pure noise."""
        return self.course.path(self.plan).start * start_noise(seeds, self.latent_shape).to(self.device)


TextToImage = Pipeline
"""A pipeline that is asked by captions."""


def load_pipeline(
    directory: str | Path,
    *,
    backend: str = "auto",
    steps: int | None = None,
    sampler: SamplerName | None = None,
    schedule: ScheduleName | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    solver: int | None = None,
    null_class: int | None = None,
    batch: int = 16,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Precision = "fp32",
    cache: str | Path | None = None,
    pin: str | None = None,
    images: int | None = None,
    served: str | None = None,
) -> Pipeline:
    """Read a pipeline directory; what is left out comes from its ``audit.json``, then from what suits its kind, then from SamplingPlan.

    Nothing is downloaded and no pickle is opened.  ``backend`` is auto or the name of one; a named one that cannot be used raises.
    ``solver`` is the number of steps of one that was fitted to this plan (:mod:`engines.pipelines.solvers`).
    ``null_class`` is the class of a class-conditional UNet2DModel that stands for none, which guidance needs.  A directory with another
    content than ``pin`` (:func:`engines.directory.directory_digest`) raises DigestError.  ``images`` says how many are about to be drawn: for
    few of them ``auto`` builds nothing that takes longer than it saves.  ``served`` is host:port of the Triton that backend ``triton`` asks.
    """
    if batch < 1:
        raise ValueError(f"a batch holds at least one image, got {batch}")
    parts = read_parts(Path(directory), pin)
    scheduler = read_scheduler(parts.scheduler)
    asked = {"steps": steps, "sampler": sampler, "schedule": schedule, "guidance": guidance, "guidance_interval": guidance_interval}
    asked |= {"null_class": null_class}
    settled = settle(parts, scheduler, {key: value for key, value in asked.items() if value is not None}, Path(directory))
    plan, shape = settled.plan, image_shape(parts)
    solver_key = parts.digest if settled.null_class is None else digest({"parts": parts.digest, "null_class": settled.null_class})
    if solver is not None:
        plan = with_solver(plan, solver, Path(directory), solver_key)
    process = process_of(parts, scheduler)
    text = prompts_of(parts, shape, plan.guidance, settled.null_class)
    check_plan(plan, process, distilled=distilled(parts), guided=text.null is not None)
    where = Where(
        backend=backend,
        device=device,
        precision=precision,
        threads=threads,
        batch=batch,
        cache=Path(cache) if cache else None,
        images=images,
        served=served,
        outlines=Path(directory) if pin is None else None,  # a pin is of the weights and knows no graphs
        evaluations=None if images is None else images * plan.visited * (1 if plan.guidance == 1.0 else 2),
    )
    built, precision = _certified(parts, process, text, where)
    course = course_of(parts, process, scheduler, built.network)
    described = {"parts": parts.digest, "plan": plan_note(plan), "precision": precision, "noise": NOISE}
    return Pipeline(
        fingerprint=digest(described if settled.null_class is None else {**described, "null_class": settled.null_class}),
        digest=parts.digest,
        solver_key=solver_key,
        family=parts.family,
        plan=plan,
        own=settle(parts, scheduler, {}, Path(directory)).plan,
        precision=precision,
        course=course,
        sigmas=course.path(plan).sigmas,
        image_shape=shape,
        latent_shape=network_shape(parts.network),
        batch=batch,
        choices=built.choices,
        text=text,
        codec=built.codec,
        differentiable=differentiable(built.module, torch.device(device), precision),
        wording=wording_of(parts, shape, plan.guidance),
        device=torch.device(device),
        spent=built.network.spent,
    )


def _certified(parts: Parts, process: Process, text: Prompts, where: Where) -> tuple[Built, Precision]:
    """The networks in the precision asked for; with ``auto`` in the next one up when no backend's numbers suffice, and never silently."""
    for precision in higher(where.precision):
        try:
            return build_networks(parts, process, text, replace(where, precision=precision)), precision
        except BackendUnavailableError as error:
            if where.backend != "auto" or not error.uncertified or precision == "fp32":
                raise
            LOG.warning("no backend is certified in %s, going on in the next precision up: %s", precision, error)
    raise AssertionError


def _batches(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))

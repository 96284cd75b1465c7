"""Ways of editing by name, and which of them a pipeline's network allows.

| operator | step rule | grid | for |
| --- | --- | --- | --- |
| ``turbo4`` | consistency, or DDPM with shifted noise and a limited last residual | 3 or 4 steps | networks distilled to few steps |
| ``sde20`` | SDE-DPM-Solver++(2M) | 20 steps | every diffusion |
| ``ddpm_ef50`` | edit-friendly DDPM | 50 steps | every diffusion |
| ``flowedit`` | FlowEdit | the last 33 of 50 levels | flows |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.editing.costs import FEW_STEPS, FLOW_KEPT, STEPS
from engines.editing.edit import Edited, EditTerm, edit, rows_per_edit
from engines.editing.flow import FlowPath, flow_edit, flow_rows_per_edit, trace
from engines.editing.grid import TimeGrid, consistency_times, grid_at, skipping_times, turbo_times
from engines.editing.inversion import Inversion, invert
from engines.editing.masks import AttentionMaps
from engines.editing.predictor import Predictor
from engines.editing.steps import Consistency, EditFriendlyDdpm, SdeDpmSolver, StepRule, rule_note
from engines.errors import UnsupportedPipelineError
from engines.pipeline import Pipeline
from engines.pipelines.classes import Unconditional
from engines.plan import SamplingPlan
from engines.precondition import NoiseLevels
from engines.process import Flowing, Velocity

Latents = Float[Tensor, "n c h w"]
OperatorName = Literal["auto", "turbo4", "sde20", "ddpm_ef50", "flowedit"]
AUTO: tuple[OperatorName, ...] = ("turbo4", "sde20", "ddpm_ef50", "flowedit")
"""What ``auto`` tries, in this order."""

TURBO_SHIFT = 0.2
"""Share of the timesteps by which TurboEdit noises its states too little."""
TURBO_NORM = 15.5
"""Largest last residual of TurboEdit."""
FLOW_STEPS, FLOW_SOURCE = 50, 3.5
"""FlowEdit on Stable Diffusion 3: steps of the schedule, of which the last ``FLOW_KEPT`` are taken; guidance towards the source."""

Kept = Inversion | FlowPath
"""What is kept of images, so that every edit of them starts from the same."""


class Operator(Protocol):
    """One way of editing latents."""

    @property
    def scale(self) -> float:
        """Of terms that name none."""
        ...

    @property
    def note(self) -> Mapping[str, Any]:
        """Everything about it that decides the pixels, as JSON holds it."""
        ...

    def invert(self, x_0: Latents, seeds: Sequence[int], source: Conditioning) -> Kept:
        """What edits of these images start from."""
        ...

    def edit(self, kept: Kept, terms: Sequence[EditTerm]) -> Edited:
        """The images with terms added and removed; without terms they are drawn again."""
        ...

    def rows(self, terms: Sequence[EditTerm]) -> int:
        """Network rows that one image's edit costs."""
        ...

    @property
    def inversion_rows(self) -> int:
        """Network rows that inverting one image costs."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class InvertedEdits:
    """Edits of a diffusion, by exact inversion."""

    predictor: Predictor
    rule: StepRule
    grid: TimeGrid
    scale: float
    noised_at: tuple[float, ...] | None = None
    max_norm: float | None = None
    attention: AttentionMaps | None = None

    @property
    def note(self) -> Mapping[str, Any]:
        """Rule, grid and what TurboEdit changes."""
        return {
            "rule": rule_note(self.rule),
            "times": self.grid.times,
            "noised_at": self.noised_at,
            "max_norm": self.max_norm,
            "attention": self.attention is not None,
        }

    def invert(self, x_0: Latents, seeds: Sequence[int], source: Conditioning) -> Inversion:
        """See :func:`engines.editing.inversion.invert`."""
        return invert(
            self.predictor, x_0, seeds, self.rule, self.grid, source=source, noised_at=self.noised_at, max_norm=self.max_norm
        )

    def edit(self, kept: Kept, terms: Sequence[EditTerm]) -> Edited:
        """See :func:`engines.editing.edit.edit`."""
        if not isinstance(kept, Inversion) or (kept.grid, kept.rule) != (self.grid, self.rule):
            raise ValueError("these images were inverted by another operator; invert them again by this one")
        return edit(self.predictor, kept, terms, attention=self.attention)

    def rows(self, terms: Sequence[EditTerm]) -> int:
        """See :func:`engines.editing.edit.rows_per_edit`."""
        return rows_per_edit(terms, len(self.grid))

    @property
    def inversion_rows(self) -> int:
        """One a step."""
        return len(self.grid)


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowEdits:
    """Edits of a flow."""

    velocity: Velocity
    levels: tuple[float, ...]
    null: Conditioning | None
    scale: float = 13.5
    guidance: float = FLOW_SOURCE

    @property
    def note(self) -> Mapping[str, Any]:
        """Levels and guidance towards the source."""
        return {"levels": self.levels, "guidance": self.guidance}

    def invert(self, x_0: Latents, seeds: Sequence[int], source: Conditioning) -> FlowPath:
        """See :func:`engines.editing.flow.trace`."""
        return trace(self.velocity, x_0, seeds, self.levels, source, null=self.null, guidance=self.guidance)

    def edit(self, kept: Kept, terms: Sequence[EditTerm]) -> Edited:
        """See :func:`engines.editing.flow.flow_edit`."""
        if not isinstance(kept, FlowPath) or (kept.levels, kept.guidance) != (self.levels, self.guidance):
            raise ValueError("these images were inverted by another operator; invert them again by this one")
        return flow_edit(self.velocity, kept, terms, null=self.null)

    def rows(self, terms: Sequence[EditTerm]) -> int:
        """See :func:`engines.editing.flow.flow_rows_per_edit`."""
        return flow_rows_per_edit(terms, len(self.levels) - 1, self.guidance)

    @property
    def inversion_rows(self) -> int:
        """One a level, and one more where it is guided."""
        return (len(self.levels) - 1) * (1 + (self.guidance != 1.0))


def operator_of(
    pipeline: Pipeline, name: OperatorName = "auto", *, skip: float = 0.15, attention: AttentionMaps | None = None
) -> tuple[OperatorName, Operator]:
    """The operator of a name, or with ``auto`` the first that the pipeline allows; and its name.

    ``skip`` says how far below pure noise sde20 and ddpm_ef50 start.  Raises UnsupportedPipelineError for what a pipeline cannot do.
    """
    if name not in get_args(OperatorName):
        raise ValueError(f"operator {name!r} is unknown; use one of {', '.join(get_args(OperatorName))}")
    reasons = []
    for each in AUTO if name == "auto" else (name,):
        reason = unusable(pipeline, each, skip)
        if reason is None:
            return each, _made(pipeline, each, skip, attention)
        reasons.append(f"{each}: {reason}")
    raise UnsupportedPipelineError(f"this pipeline's images cannot be edited: {'; '.join(reasons)}")


def unusable(pipeline: Pipeline, name: OperatorName, skip: float = 0.15) -> str | None:
    """Why an operator cannot edit with a pipeline, or None."""
    if isinstance(pipeline.text, Unconditional):
        return "an unconditional network cannot be told what to change; use one that draws captions or classes"
    flowing = isinstance(pipeline.course.process, Flowing)
    if flowing != (name == "flowedit"):
        return f"a {pipeline.family.name} network is {'a flow; use flowedit' if flowing else 'no flow; use sde20'}"
    if flowing:
        return None
    if name == "turbo4":
        return None if few_steps(pipeline) else "the network is not distilled to few steps; use sde20"
    try:
        skipping_times(STEPS[name], skip, len(_levels(pipeline).log_sigmas))
    except ValueError as error:
        return str(error)
    return None


def few_steps(pipeline: Pipeline) -> bool:
    """Whether a network was distilled to few steps: its directory says so by its scheduler, its inputs, or the steps it recommends."""
    own = pipeline.own
    return own.sampler == "lcm" or pipeline.course.distilled or (own.steps <= FEW_STEPS and own.guidance == 1.0)


def _made(pipeline: Pipeline, name: OperatorName, skip: float, attention: AttentionMaps | None) -> Operator:
    if name == "flowedit":
        return FlowEdits(velocity=pipeline.velocity, levels=_flow_levels(pipeline), null=pipeline.null)
    if name == "turbo4":
        return _turbo(pipeline, attention)
    levels = _levels(pipeline)
    return InvertedEdits(
        predictor=Predictor.of(pipeline.diffusion),
        rule=SdeDpmSolver() if name == "sde20" else EditFriendlyDdpm(),
        grid=grid_at(skipping_times(STEPS[name], skip, len(levels.log_sigmas)), levels),
        scale=7.5,
        attention=attention,
    )


def _turbo(pipeline: Pipeline, attention: AttentionMaps | None) -> InvertedEdits:
    """A consistency model from its second timestep on, since at the first an image is lost; others as TurboEdit has it."""
    levels, predictor = _levels(pipeline), Predictor.of(pipeline.diffusion)
    count = len(levels.log_sigmas)
    if pipeline.own.sampler == "lcm":
        distilled = int(pipeline.course.scheduler.settings.get("original_inference_steps", 50))
        grid = grid_at(consistency_times(4, count, distilled)[1:], levels)
        rule = Consistency(pipeline.course.scheduler.boundary)
        return InvertedEdits(predictor=predictor, rule=rule, grid=grid, scale=1.5, attention=attention)
    times = turbo_times(FEW_STEPS, count)
    earlier = grid_at([max(t - round(TURBO_SHIFT * count), 0) for t in times], levels)
    return InvertedEdits(
        predictor=predictor,
        rule=EditFriendlyDdpm(),
        grid=grid_at(times, levels),
        scale=1.5,
        noised_at=earlier.alpha_bars[:-1],
        max_norm=TURBO_NORM,
        attention=attention,
    )


def _levels(pipeline: Pipeline) -> NoiseLevels:
    return pipeline.diffusion.levels


def _flow_levels(pipeline: Pipeline) -> tuple[float, ...]:
    plan = SamplingPlan(steps=FLOW_STEPS, sampler="flow_euler", schedule="native", guidance=1.0)
    return pipeline.course.path(plan).sigmas[-(FLOW_KEPT + 1) :]

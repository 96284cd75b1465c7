"""Counterfactuals with a loaded pipeline: images in, edited images out, by any method of this package.

What suits latents is not what suits pixels: the decoder's gradient is small, so class scales are some ten times the papers', and masks are
widened by one cell instead of five pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engines.guided.ace import AceOptions, ace
from engines.guided.canvas import Canvas, Pictures
from engines.guided.chain import depth_at
from engines.guided.dvce import DvceOptions, dvce
from engines.guided.edits import Accept, GuidedEdits, pixels
from engines.guided.ensemble import EnsembleOptions, ensemble
from engines.guided.fastdime import fastdime, unguided
from engines.guided.judge import Judge
from engines.guided.maskdime import MaskDimeOptions, maskdime
from engines.guided.options import DIME, FastDimeOptions
from engines.guided.particles import Editing, Found, Score, Told, free_pass
from engines.pipeline import Pipeline
from engines.spec import digest

Method = Literal["dime", "fastdime", "fastdime2", "fastdime2plus", "maskdime", "dvce", "ace", "ensemble"]
METHODS: tuple[Method, ...] = get_args(Method)
VERSION = "counterfactuals-1"
"""Changed whenever a method comes to mean other pictures."""
LATENT = 12.5
"""Class scales for latents, in units of those for pixels."""
Ask = Callable[[Float[np.ndarray, "m 3 h w"], Int[np.ndarray, " m"]], Float[np.ndarray, "m k"]]
"""(pictures at multiples of 1/255, which of the images they were made of) -> probabilities of the deployed model."""


@dataclass(frozen=True, kw_only=True)
class ProposalPlan:
    """How far and how hard images are edited."""

    kept: int = 50
    """Steps of the chain; 200 in the papers."""
    signal: float = 0.63
    """sqrt(alpha_bar) where an edit starts; less changes more."""
    scales: tuple[float, ...] = ()
    """Class scales of the DiME family, tried in this order; the papers' when empty, for latents 12.5 times those."""
    bisections: int = 2
    """How often the strength is halved back once an image has flipped."""
    confidence: float = 0.5
    """Least probability of the target for a flip."""
    iterations: int = 50
    """Of ACE's attack."""
    particles: int = 16
    """Of guidance without gradients."""
    steps: int = 25
    """Network calls of a particle."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposal:
    """What became of each image."""

    images: Pictures
    """At multiples of 1/255: as they are stored and sent."""
    success: Bool[np.ndarray, " n"]
    """Whether the deployed model said the target of them."""
    free: Bool[np.ndarray, " n"]
    """Whether a variation that nobody guided was enough."""
    attempts: Int[np.ndarray, " n"]
    network_rows: Int[np.ndarray, " n"]
    """Forward rows of the denoising network, the free pass included."""
    queries: Int[np.ndarray, " n"]
    """Pictures that the deployed model was asked about."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposer:
    """A pipeline and a plan.  Not thread safe, as the pipeline is not."""

    pipeline: Pipeline
    plan: ProposalPlan

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever a proposal for the same image and model would."""
        return digest({"pipeline": self.pipeline.fingerprint, "proposals": VERSION, "plan": repr(self.plan)})

    @cached_property
    def _canvas(self) -> Canvas:
        return Canvas(self.pipeline)

    def propose(
        self,
        method: Method,
        images: Pictures,
        seeds: Sequence[int],
        targets: Sequence[int],
        ask: Ask,
        *,
        judge: Judge | None = None,
        free: int = 0,
    ) -> Proposal:
        """Edit images (RGB in [0, 1], of the pipeline's size) until the deployed model calls each its target.

        ``ask`` has the last word on every try; ``judge`` is its gradient (for all methods but ensemble); ``free`` unguided variations are
        asked first, and an image that they flip is left at that.
        """
        if method not in METHODS or (judge is None) != (method == "ensemble"):
            raise ValueError(
                f"method {method!r} needs {'no gradient' if method == 'ensemble' else 'a gradient, and is one of ' + ', '.join(METHODS)}"
            )
        counted = _Counted(ask, len(images))
        goal = torch.tensor(list(targets))
        found = self._unguided_first(images, seeds, goal, counted, free)
        left = np.flatnonzero(~found.success)
        if not len(left):
            return replace(found, queries=counted.queries)
        some = _Some(images[left], [seeds[int(row)] for row in left], goal[left], left)
        made = self._searched(some, counted) if judge is None else self._guided(method, some, counted, judge)
        return _merged(found, made, left, counted.queries)

    def kept_class(self, images: Pictures, seeds: Sequence[int], signal: float) -> Pictures:
        """The same images, noised and denoised as deeply by the same noise, with nobody to guide them: the editor's floor."""
        options = self._dime(replace(self.plan, signal=signal))
        made = unguided(
            self.pipeline.diffusion,
            self._canvas.encoded(images),
            self._canvas.untold(len(images)),
            seeds,
            decode=self._canvas.decode,
            options=options,
        )
        floor: Pictures = made.cpu().numpy().astype(np.float32)
        return floor

    def _unguided_first(
        self, images: Pictures, seeds: Sequence[int], goal: Int[Tensor, " n"], counted: "_Counted", free: int
    ) -> Proposal:
        n = len(images)
        nothing = Proposal(
            images=np.rint(images * 255).astype(np.float32) / np.float32(255),
            success=np.zeros(n, bool),
            free=np.zeros(n, bool),
            attempts=np.zeros(n, np.int64),
            network_rows=np.zeros(n, np.int64),
            queries=np.zeros(n, np.int64),
        )
        if not free:
            return nothing
        found = free_pass(self._editing(_Some(images, list(seeds), goal, np.arange(n)), counted), k=free)
        flipped = np.array([each.success for each in found])
        return replace(
            nothing,
            images=np.where(flipped[:, None, None, None], _stacked(found), nothing.images),
            success=flipped,
            free=flipped,
            network_rows=np.array([each.network_rows for each in found]),
        )

    def _searched(self, some: "_Some", counted: "_Counted") -> Proposal:
        options = EnsembleOptions(particles=self.plan.particles, sizes=(2 * self.plan.particles, 4 * self.plan.particles))
        found = ensemble(self._editing(some, counted), options)
        return Proposal(
            images=_stacked(found),
            success=np.array([each.success for each in found]),
            free=np.zeros(len(found), bool),
            attempts=np.array([each.attempts for each in found]),
            network_rows=np.array([each.network_rows for each in found]),
            queries=np.zeros(len(found), np.int64),
        )

    def _guided(self, method: Method, some: "_Some", counted: "_Counted", judge: Judge) -> Proposal:
        made = self._edited(method, some, judge, counted.accept(some.rows))
        each = made.network_rows // max(1, int(made.attempts.sum()))
        return Proposal(
            images=made.images.cpu().numpy().astype(np.float32),
            success=made.success.cpu().numpy(),
            free=np.zeros(len(some.rows), bool),
            attempts=made.attempts.cpu().numpy(),
            network_rows=made.attempts.cpu().numpy() * each,
            queries=np.zeros(len(some.rows), np.int64),
        )

    def _edited(self, method: Method, some: "_Some", judge: Judge, accept: Accept) -> GuidedEdits:
        plan, diffusion, cond = self.plan, self.pipeline.diffusion, self._canvas.untold(len(some.rows))
        x, shared = (
            self._canvas.encoded(some.images),
            {"seeds": some.seeds, "decode": self._canvas.decode, "accept": accept, "batch": self.pipeline.batch},
        )
        depth, dilation = depth_at(diffusion, plan.kept, plan.signal), 1 if self._canvas.latent else 5
        if method == "maskdime":
            strengths = tuple(self._scale * each for each in MaskDimeOptions().strengths)
            mask = MaskDimeOptions(
                kept=plan.kept,
                depth=depth,
                strengths=strengths,
                dilation=dilation,
                bisections=plan.bisections,
                confidence=plan.confidence,
            )
            return maskdime(diffusion, x, some.goal, cond, judge, options=mask, **shared)  # type: ignore[arg-type]
        if method == "dvce":
            half = DvceOptions(kept=plan.kept, depth=plan.kept // 2, bisections=plan.bisections, confidence=plan.confidence)
            return dvce(diffusion, x, some.goal, cond, judge, options=half, **shared)  # type: ignore[arg-type]
        if method == "ace":
            attack = AceOptions(
                kept=plan.kept, iterations=plan.iterations, dilation=3 if self._canvas.latent else 15, confidence=plan.confidence
            )
            return ace(diffusion, x, some.goal, cond, judge, options=attack, **shared)  # type: ignore[arg-type]
        return fastdime(diffusion, x, some.goal, cond, judge, options=self._dime(plan, method), **shared)  # type: ignore[arg-type]

    def _dime(self, plan: ProposalPlan, method: Method = "fastdime") -> FastDimeOptions:
        """Settings of the DiME family; DiME itself as released but for the chain, which is the plan's."""
        plain = DIME if method == "dime" else FastDimeOptions(
            passes={"fastdime2": "two", "fastdime2plus": "two_plus"}.get(method, "masked"),  # type: ignore[arg-type]
            bisections=plan.bisections,
            confidence=plan.confidence,
        )  # fmt: skip
        scales = plan.scales or tuple(self._scale * each for each in plain.class_scales)
        depth = depth_at(self.pipeline.diffusion, plan.kept, plan.signal)
        return replace(plain, kept=plan.kept, depth=depth, class_scales=scales, dilation=1 if self._canvas.latent else 5)

    def _editing(self, some: "_Some", counted: "_Counted") -> Editing:
        return Editing(
            diffusion=self.pipeline.diffusion,
            x=self._canvas.encoded(some.images),
            target=some.goal,
            cond=self._canvas.untold(len(some.rows)),
            seeds=some.seeds,
            score=counted.score,
            rows=torch.from_numpy(some.rows),
            decode=self._decoded if self._canvas.latent else pixels,
            steps=self.plan.steps,
        )

    @property
    def _scale(self) -> float:
        return LATENT if self._canvas.latent else 1.0

    def _decoded(self, latents: Tensor) -> Tensor:
        """By the decoder's engine, for methods without gradients."""
        with torch.no_grad():
            return torch.cat([self.pipeline.codec.decode(some) for some in latents.split(self.pipeline.batch)])  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class _Some:
    images: Pictures
    seeds: list[int]
    goal: Int[Tensor, " n"]
    rows: Int[np.ndarray, " n"]
    """Which of the images they are."""


class _Counted:
    """The deployed model, its answers as searches take them, and how often it was asked about each image."""

    def __init__(self, ask: Ask, images: int) -> None:
        self.ask, self.queries = ask, np.zeros(images, np.int64)

    def probabilities(self, images: Tensor, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m k"]:
        np.add.at(self.queries, rows, 1)
        return self.ask(images.detach().cpu().numpy().astype(np.float32), rows)

    def accept(self, rows: Int[np.ndarray, " n"]) -> Accept:
        """The deployed model's word; rows of a search are positions in ``rows``."""

        def accept(images: Tensor, target: Tensor, which: Tensor) -> Tensor:
            p = torch.from_numpy(self.probabilities(images, rows[which.cpu().numpy()]))
            own = p.gather(1, target.cpu()[:, None])[:, 0]
            return torch.where(p.argmax(1) == target.cpu(), own, -own).float()

        return accept

    @property
    def score(self) -> Score:
        def score(images: Tensor, target: Tensor, rows: Tensor) -> Told:
            p = torch.from_numpy(self.probabilities(images, rows.cpu().numpy())).double()
            own = p.gather(1, target.cpu()[:, None])[:, 0]
            others = p.scatter(1, target.cpu()[:, None], 0.0).sum(1)  # 1 - p loses what is small
            tiny = torch.finfo(torch.float64).tiny
            return Told(own.clamp(min=tiny).log() - others.clamp(min=tiny).log(), p.argmax(1) == target.cpu())

        return score


def _stacked(found: Sequence[Found]) -> Pictures:
    made: Pictures = torch.stack([each.image for each in found]).cpu().numpy().astype(np.float32)
    return made


def _merged(found: Proposal, made: Proposal, left: Int[np.ndarray, " m"], queries: Int[np.ndarray, " n"]) -> Proposal:
    images, success, attempts, network_rows = (
        found.images.copy(),
        found.success.copy(),
        found.attempts.copy(),
        found.network_rows.copy(),
    )
    images[left], success[left] = made.images, made.success
    attempts[left] += made.attempts
    network_rows[left] += made.network_rows
    return Proposal(images=images, success=success, free=found.free, attempts=attempts, network_rows=network_rows, queries=queries)

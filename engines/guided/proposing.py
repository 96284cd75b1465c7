"""Counterfactuals with a loaded pipeline: images in, edited images out, by any method of this package.

First variations that nobody guides, then the method from its usual start, then from deeper ones what is left; last, what a flip did not need is
given back.  The deployed model has the last word on every picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from engines.guided.asking import Ask, Counted
from engines.guided.canvas import Canvas, Pictures, whole_bytes
from engines.guided.chain import depth_at
from engines.guided.edits import GuidedEdits, pixels
from engines.guided.fastdime import unguided
from engines.guided.judge import Judge
from engines.guided.methods import EDITS, FROM_SIGNAL, SEARCHES, Case
from engines.guided.options import FastDimeOptions
from engines.guided.particles import Editing, Found, free_pass
from engines.guided.plan import METHODS, SCORED, Guided, Method, ProposalPlan, Scored
from engines.guided.trimming import candidates, keeps_flip, least_changed
from engines.pipeline import Pipeline
from engines.spec import digest

__all__ = ["METHODS", "Ask", "Method", "Proposal", "ProposalPlan", "Proposer"]

VERSION = "counterfactuals-2"
"""Changed whenever a method comes to mean other pictures."""
TRIMMED = 5
"""What stays changed is widened by so many pixels, so that no border cuts through an edit."""


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
    floor: Pictures
    """The same noise with nobody to guide it, of methods that make that too; else the originals."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposer:
    """A pipeline and a plan.  Not thread safe, as the pipeline is not."""

    pipeline: Pipeline
    plan: ProposalPlan
    names: tuple[str, ...] = ()
    """Captions of the model's classes, by which ``ldce`` names targets to an editor that takes words; none where it is to do without."""

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever a proposal for the same image and model would."""
        named = {"names": list(self.names)} if self.names else {}
        return digest({"pipeline": self.pipeline.fingerprint, "proposals": VERSION, "plan": repr(self.plan), **named})

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
        robust: Judge | None = None,
        free: int = 0,
    ) -> Proposal:
        """Edit images (RGB in [0, 1], of the pipeline's size) until the deployed model calls each its target.

        ``ask`` has the last word on every try; ``judge`` is its gradient (for all methods but those that take scores alone); ``robust`` is for
        dvce's cone; ``free`` unguided variations from each of two starts are asked first, and an image that they flip is left at that.
        """
        if method not in METHODS or (judge is None) != (method in SCORED):
            raise ValueError(
                f"method {method!r} needs {'no gradient' if method in SCORED else 'a gradient, and is one of ' + ', '.join(METHODS)}"
            )
        counted = Counted(ask, len(images), self.plan.jpeg)
        some = _Some(images, list(seeds), torch.tensor(list(targets)), np.arange(len(images)))
        found = self._unguided_first(some, counted, free)
        if len(left := np.flatnonzero(~found.success)):
            rest = some.at(left)
            made = (
                self._searched(cast(Scored, method), rest, counted)
                if judge is None
                else self._guided(cast(Guided, method), rest, counted, (judge, robust))
            )
            found = _merged(found, made, left)
        if self.plan.trims and method != "dime":
            found = self._trimmed(found, some, counted)
        return replace(found, queries=counted.queries)

    def kept_class(self, images: Pictures, seeds: Sequence[int], signal: float) -> Pictures:
        """The same images, noised and denoised as deeply by the same noise, with nobody to guide them: the editor's floor."""
        made = unguided(
            self.pipeline.diffusion,
            self._canvas.encoded(images),
            self._canvas.untold(len(images)),
            seeds,
            decode=self._canvas.decode,
            options=FastDimeOptions(kept=self.plan.kept, depth=self.depth(signal)),
        )
        floor: Pictures = made.cpu().numpy().astype(np.float32)
        return floor

    def depth(self, signal: float) -> int:
        """Network rows of one image from a start."""
        return depth_at(self.pipeline.diffusion, self.plan.kept, signal)

    def _unguided_first(self, some: "_Some", counted: Counted, free: int) -> Proposal:
        n = len(some.images)
        original = whole_bytes(some.images)
        nothing = Proposal(
            images=original,
            success=np.zeros(n, bool),
            free=np.zeros(n, bool),
            attempts=np.zeros(n, np.int64),
            network_rows=np.zeros(n, np.int64),
            queries=np.zeros(n, np.int64),
            floor=original,
        )
        if not free:
            return nothing
        found = free_pass(self._editing(some, counted, self.plan.free_steps), k=free)
        flipped = np.array([each.success for each in found])
        return replace(
            nothing,
            images=np.where(flipped[:, None, None, None], _stacked(found), nothing.images),
            success=flipped,
            free=flipped,
            network_rows=np.array([each.network_rows for each in found]),
        )

    def _searched(self, method: Scored, some: "_Some", counted: Counted) -> Proposal:
        found = SEARCHES[method](self._editing(some, counted, self.plan.steps), self.plan)
        return Proposal(
            images=_stacked(found),
            success=np.array([each.success for each in found]),
            free=np.zeros(len(found), bool),
            attempts=np.array([each.attempts for each in found]),
            network_rows=np.array([each.network_rows for each in found]),
            queries=np.zeros(len(found), np.int64),
            floor=whole_bytes(some.images),
        )

    def _guided(self, method: Guided, some: "_Some", counted: Counted, judges: tuple[Judge, Judge | None]) -> Proposal:
        whole = Case(
            diffusion=self.pipeline.diffusion,
            x=self._canvas.encoded(some.images),
            target=some.goal,
            cond=self._canvas.untold(len(some.rows)),
            seeds=some.seeds,
            judge=judges[0],
            robust=judges[1],
            told=self._canvas.named([self.names[at] for at in some.goal.tolist()]) if method == "ldce" and self.names else None,
            accept=counted.accept(some.rows),
            decode=self._canvas.decode,
            batch=self.pipeline.batch,
            plan=self.plan,
            signal=self.plan.signal,
        )
        original = whole_bytes(some.images)
        made = EDITS[method](whole)
        found, reached = _proposal(made, original), made.reached.cpu().numpy()
        for signal in self.plan.starts()[1:] if method in FROM_SIGNAL else ():
            if not len(left := np.flatnonzero(~found.success)):
                break
            made = EDITS[method](whole.starting(signal, counted.accept(some.rows[left]), left))
            later, now = _proposal(made, original[left]), made.reached.cpu().numpy()
            for row in np.flatnonzero(reached[left] & ~now):  # a deeper failure leaves what is better and there
                later.images[row], later.floor[row] = found.images[left[row]], found.floor[left[row]]
            found, reached[left] = _merged(found, later, left), reached[left] | now
        return found

    def _trimmed(self, found: Proposal, some: "_Some", counted: Counted) -> Proposal:
        """Flips with less changed, where the deployed model calls those its target too."""
        rows = np.flatnonzero(found.success)
        if not len(rows):
            return found
        original, edited, floor = (torch.from_numpy(each[rows]) for each in (whole_bytes(some.images), found.images, found.floor))
        tried = candidates(original, edited, floor, self.plan.trims, dilation=TRIMMED)
        shares = tried.shape[1]
        told = counted.accept(some.rows[rows])(
            tried.flatten(0, 1), some.goal[rows].repeat_interleave(shares), torch.arange(len(rows)).repeat_interleave(shares)
        )
        flipped = keeps_flip(told, self.plan.confidence).view(len(rows), shares)
        images = found.images.copy()
        for row, best, candidate in zip(rows, least_changed(original, tried, flipped), tried, strict=True):
            if best is not None:
                images[row] = candidate[best].numpy()
        return replace(found, images=images)

    def _editing(self, some: "_Some", counted: Counted, steps: int) -> Editing:
        return Editing(
            diffusion=self.pipeline.diffusion,
            x=self._canvas.encoded(some.images),
            target=some.goal,
            cond=self._canvas.untold(len(some.rows)),
            seeds=some.seeds,
            score=counted.score,
            rows=torch.from_numpy(some.rows),
            decode=self._canvas.decoded if self._canvas.latent else pixels,
            steps=steps,
        )


@dataclass(frozen=True, eq=False)
class _Some:
    images: Pictures
    seeds: list[int]
    goal: Int[Tensor, " n"]
    rows: Int[np.ndarray, " n"]
    """Which of the images they are."""

    def at(self, left: Int[np.ndarray, " m"]) -> "_Some":
        return _Some(self.images[left], [self.seeds[row] for row in left.tolist()], self.goal[left], self.rows[left])


def _stacked(found: Sequence[Found]) -> Pictures:
    made: Pictures = torch.stack([each.image for each in found]).cpu().numpy().astype(np.float32)
    return made


def _proposal(made: GuidedEdits, original: Pictures) -> Proposal:
    attempts = made.attempts.cpu().numpy()
    each = made.network_rows // max(1, int(attempts.sum()))  # every attempt costs the same
    return Proposal(
        images=made.images.cpu().numpy().astype(np.float32),
        success=made.success.cpu().numpy(),
        free=made.free.cpu().numpy(),
        attempts=attempts,
        network_rows=attempts * each,
        queries=np.zeros(len(attempts), np.int64),
        floor=original if made.floor is None else made.floor.cpu().numpy().astype(np.float32),
    )


def _merged(found: Proposal, made: Proposal, left: Int[np.ndarray, " m"]) -> Proposal:
    """What was found, with what was made later of the images that were left."""
    taken = {name: getattr(found, name).copy() for name in ("images", "success", "free", "floor", "attempts", "network_rows")}
    for name in ("images", "success", "free", "floor"):
        taken[name][left] = getattr(made, name)
    for name in ("attempts", "network_rows"):
        taken[name][left] += getattr(made, name)
    return replace(found, **taken)

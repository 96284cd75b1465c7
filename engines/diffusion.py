"""The class that algorithms see: a network over discrete timesteps, in the papers' coordinates.

States have unit variance, x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, and are named by timesteps of training, one per row;
timestep -1 is x_0 itself.  Tables are float64.  Samplers and inversion are the functions of ``engines.samplers`` and
``engines.inversion``, so that what is drawn here is what a pipeline draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.conditioning import Conditioning
from engines.course import Course
from engines.engine import Engine
from engines.errors import UnsupportedPipelineError
from engines.inversion import invert_ddim
from engines.plan import SamplingPlan
from engines.precondition import NoiseLevels, Prediction, TimestepNetwork, estimates, rowwise
from engines.samplers import StepNoise

Latents = Float[Tensor, "n c h w"]
Timesteps = int | Sequence[int] | Tensor
"""One for all rows, or one per row; a tensor is never read back to the host."""

Judge = Callable[..., Float[Tensor, " n"]]
"""(clean estimate (n c h w), target row by row, terms of its own) -> one loss per row, differentiable in the estimate."""


@dataclass(frozen=True, eq=False)
class GuidedStep:
    """What one guided evaluation tells, row by row."""

    eps: Latents
    x0: Latents
    loss: Float[Tensor, " n"]
    """Before it is weighted."""
    grad: Latents
    """Of weight times loss, in x_t."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Diffusion:
    """A network that denoises, by timestep, and the trajectories of its scheduler."""

    course: Course
    """Its network runs on an engine and gives no gradients."""
    levels: NoiseLevels
    prediction: Prediction
    differentiable: TimestepNetwork
    """The same network in torch, on the device, for gradients where no guided engine was built."""
    device: torch.device
    judge: Judge | None = None
    guided_engine: Engine | None = None

    @property
    def timesteps(self) -> int:
        """Timesteps of training."""
        return len(self.levels.log_sigmas)

    def alpha_bar(self, t: Timesteps, rows: int) -> Float64[Tensor, " n"]:
        """Share of the data's variance, one per row, on the device; 1 at timestep -1."""
        return self._table[self._rows(t, rows)]  # -1 is the last entry

    def noised(self, x0: Latents, t: Timesteps, noise: Latents) -> Latents:
        """x_t for clean x_0 and standard normal noise."""
        alpha_bar = self.alpha_bar(t, len(x0))
        return _mix(x0, noise, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    def eps(self, x: Latents, t: Timesteps, cond: Conditioning) -> Latents:
        """The noise that the network sees in x_t."""
        return self._estimates(x, t, cond)[0]

    def x0(self, x: Latents, t: Timesteps, cond: Conditioning) -> Latents:
        """The clean estimate at x_t (Tweedie's formula), clipped where the scheduler says so."""
        return self._estimates(x, t, cond)[1]

    def step(self, x: Latents, i_from: Timesteps, i_to: Timesteps, cond: Conditioning, noise: Latents | None = None) -> Latents:
        """From one timestep to an earlier one: DDIM without noise, the posterior of DDPM with it.

        Song et al. 2021, eq. 12 with sigma = 0 or with the variance of eq. 16 at eta = 1, which is Ho et al. 2020, eq. 7.
        """
        eps, clean = self._estimates(x, i_from, cond)
        before, after = self.alpha_bar(i_from, len(x)), self.alpha_bar(i_to, len(x))
        spread = (1 - after) / (1 - before) * (1 - before / after) if noise is not None else torch.zeros_like(after)
        moved = _mix(clean, eps, after.sqrt(), (1 - after - spread).clamp(min=0).sqrt())
        return moved if noise is None else moved + rowwise(spread.sqrt().to(x.dtype), x) * noise

    def guided(
        self,
        x: Latents,
        t: Timesteps,
        cond: Conditioning,
        target: Tensor,
        weight: Float[Tensor, " n"],
        *,
        terms: Sequence[Tensor] = (),
    ) -> GuidedStep:
        """Estimates at x_t, a loss of the clean one, and the gradient of weight times loss in x_t.

        By the guided engine, whose inputs are x, t, alpha_bar, target, weight, the loss's own ``terms`` and the conditioning, and whose outputs
        are loss, eps, x0 and the gradient, in this order under whatever names; or else by autograd through the network in torch.  Raises
        UnsupportedPipelineError where there is neither an engine nor a judge.
        """
        alpha_bar = self.alpha_bar(t, len(x)).to(x.dtype)
        at = self._rows(t, len(x)).to(x.dtype)
        if self.guided_engine is not None:
            given = [x, at, alpha_bar, target, weight, *terms, *cond.tensors.values()]
            return _by_engine(self.guided_engine, given)
        if self.judge is None:
            raise UnsupportedPipelineError("nothing says what to guide towards; give a judge (`Diffusion.judged`)")
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            out = self.differentiable(leaf, at, cond)
            eps, clean = estimates(self.prediction, leaf, out, alpha_bar)
            loss = self.judge(self._bounded(clean), target, *terms)
            (grad,) = torch.autograd.grad((weight * loss).sum(), leaf)
        return GuidedStep(eps.detach(), self._bounded(clean.detach()), loss.detach(), grad)

    def judged(self, judge: Judge | None, engine: Engine | None = None) -> Self:
        """The same diffusion, guided towards low losses of a judge, or of an engine that holds network and judge as one graph."""
        return replace(self, judge=judge, guided_engine=engine)

    def sample(
        self,
        x_T: Latents,
        plan: SamplingPlan,
        cond: Conditioning,
        *,
        null: Conditioning | None = None,
        noise: StepNoise | None = None,
    ) -> Latents:
        """x_0 from standard normal x_T, by the plan's sampler and guidance; ``noise`` is for samplers that add some."""
        denoise = self.course.denoiser(plan, cond, null)
        return self.course.draw(plan, denoise, self.course.path(plan).start * x_T, noise)

    def invert(
        self, x_0: Latents, plan: SamplingPlan, cond: Conditioning, *, null: Conditioning | None = None, refine: int = 0
    ) -> Latents:
        """The x_T from which DDIM over the plan's levels draws about x_0; deterministic.  See :func:`engines.inversion.invert_ddim`."""
        path = self.course.path(plan)
        return invert_ddim(self.course.denoiser(plan, cond, null), x_0 / path.end, path.sigmas, refine) / path.start

    @cached_property
    def _table(self) -> Float64[Tensor, " t"]:
        return torch.cat([self.levels.alpha_bars, torch.ones(1, dtype=torch.float64)]).to(self.device)

    def _estimates(self, x: Latents, t: Timesteps, cond: Conditioning) -> tuple[Latents, Latents]:
        alpha_bar = self.alpha_bar(t, len(x)).to(x.dtype)
        out = self.course.network(x, self._rows(t, len(x)).to(x.dtype), cond)
        eps, clean = estimates(self.prediction, x, out, alpha_bar)
        if self.course.scheduler.clip is None:
            return eps, clean
        clean = self._bounded(clean)
        return (x - rowwise(alpha_bar.sqrt(), x) * clean) / rowwise((1 - alpha_bar).sqrt(), x), clean

    def _bounded(self, clean: Latents) -> Latents:
        limit = self.course.scheduler.clip
        return clean if limit is None else clean.clamp(-limit, limit)

    def _rows(self, t: Timesteps, rows: int) -> Tensor:
        if isinstance(t, Tensor):
            return t.long().to(self.device).expand(rows)
        numbers = [t] * rows if isinstance(t, int) else list(t)
        if any(not -1 <= each < self.timesteps for each in numbers) or len(numbers) != rows:
            raise ValueError(f"need {rows} timesteps from -1 to {self.timesteps - 1}, got {t}")
        return torch.tensor(numbers, device=self.device)


def _by_engine(engine: Engine, given: Sequence[Tensor]) -> GuidedStep:
    found = engine.run({each.name: value for each, value in zip(engine.spec.inputs, given, strict=True)})
    loss, eps, x0, grad = (found[each.name] for each in engine.spec.outputs)
    return GuidedStep(eps, x0, loss, grad)


def _mix(a: Latents, b: Latents, share_a: Float64[Tensor, " n"], share_b: Float64[Tensor, " n"]) -> Latents:
    return rowwise(share_a.to(a.dtype), a) * a + rowwise(share_b.to(b.dtype), b) * b

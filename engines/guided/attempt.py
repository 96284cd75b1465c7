"""One attempt of DiME or FastDiME on some images, each at its class scale: down the chain, guided at clean estimates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.chain import Chain
from engines.guided.edits import Decode, Images, Latents, shown
from engines.guided.judge import Judge, Likeness, pushed
from engines.guided.masks import Mask, changed
from engines.guided.options import FastDimeOptions
from engines.noise import step_noise

Draw = Callable[[int], Latents]
"""Standard normal noise of stream 0, 1, ...: even ones below twice the chain are of steps, odd ones of what a mask keeps, later ones of the
loops inside."""
MaskAt = Callable[[int, Latents], Mask | None]
"""(step, clean estimate) -> where the edit may act from here on; None: anywhere."""


@dataclass(frozen=True, eq=False)
class Task:
    """Everything one attempt needs, for some of the rows; see :func:`fastdime`."""

    diffusion: Diffusion
    chain: Chain
    x: Latents
    target: Int[Tensor, " n"]
    cond: Conditioning
    judge: Judge
    decode: Decode
    unlike: Likeness | None
    options: FastDimeOptions
    seen: Images | None = None
    """The originals, decoded; only where likeness is asked for."""

    def rows(self, which: Int[Tensor, " m"]) -> "Task":
        """The same for some of the rows."""
        seen = None if self.seen is None else self.seen[which]
        return replace(self, x=self.x[which], target=self.target[which], cond=self.cond[which], seen=seen)


Scales = Float[Tensor, " n"]


def attempt(task: Task, scales: Scales, noise: Latents, draw: Draw) -> tuple[Latents, Mask, int]:
    """One attempt at a class scale each: latents, where they may differ, network rows.  ``noise`` is what the originals are noised with."""
    options = task.options
    z = started(task.chain, task.x, noise, options)

    def own(step: int, estimate: Latents) -> Mask | None:
        return changed(task.x, estimate, options.threshold, options.dilation) if step >= options.from_step else None

    first = own if options.passes in {"masked", "two_plus"} else _anywhere
    latents, mask = _run(task, scales, z, draw, first)
    if options.passes in {"masked", "plain"}:
        return latents, mask, len(z) * options.network_calls
    fixed = changed(task.x, latents, options.threshold, options.dilation)
    latents, mask = _run(task, scales, z, draw, lambda *_: fixed)
    return latents, mask, 2 * len(z) * options.network_calls


def draws(seeds: Sequence[int], like: Latents) -> Draw:
    """Noise by (seed, stream): neither the batch nor the attempt matters."""
    return lambda stream: step_noise(seeds, stream, like.shape[1:]).to(like)


def _run(task: Task, scales: Scales, z: Latents, draw: Draw, mask_at: MaskAt) -> tuple[Latents, Mask]:
    """Down the chain, guided at the clean estimate of the step before; the first gradient is taken at the original itself."""
    chain, options = task.chain, task.options
    estimate, mask = task.x, None
    for step, index in enumerate(reversed(range(options.depth))):
        g = gradient(task, scales, estimate, z, step)
        with torch.no_grad():
            clean = task.diffusion.x0(z, chain.at[index], task.cond)
        z = stepped(chain, chain.mean(clean, z, index) - float(chain.variance[index]) * g, index, draw)  # mu' = mu - Sigma g
        estimate = clean if options.inner is None or not options.guides(step) else _denoised(task, z, index, draw)
        mask = mask_at(step, clean)
        if mask is not None:
            level = index if options.as_released else index - 1
            kept = chain.noised(task.x, level, draw(2 * index + 1)) if level >= 0 else task.x
            z, estimate = torch.where(mask, z, kept), torch.where(mask, estimate, task.x)
    if mask is None:
        return z, torch.ones_like(z[:, :1], dtype=torch.bool)
    return torch.where(mask, z, task.x), mask


def _denoised(task: Task, z: Latents, index: int, draw: Draw) -> Latents:
    """DiME's clean estimate: the state at ``index - 1`` taken down the rest of the chain with nobody to guide it."""
    chain, first = task.chain, 2 * task.options.kept + index * (index - 1) // 2
    for at in reversed(range(index)):
        with torch.no_grad():
            clean = task.diffusion.x0(z, chain.at[at], task.cond)
        z = chain.mean(clean, z, at)
        if at and task.options.inner == "stochastic":
            z = z + float(chain.variance[at]) ** 0.5 * draw(first + at)
    return z


def gradient(task: Task, scales: Scales, estimate: Latents, z: Latents, step: int) -> Latents:
    """Of all losses at the clean estimate, row by row (sums over rows never mix them); of the distance at the state itself."""
    options = task.options
    if not options.guides(step):
        return torch.zeros_like(z)
    near = options.distance_steps is None or step < options.distance_steps
    with torch.enable_grad():
        leaf = estimate.detach().requires_grad_()
        images = shown(task.decode, leaf)
        loss = -scales * pushed(options.push, task.judge(images), task.target)
        if task.unlike is not None and task.seen is not None and near:
            loss = loss + options.likeness * task.unlike(images, task.seen)
        (g,) = torch.autograd.grad(loss.sum(), leaf)
    if options.through_noise:
        g = g / float(task.chain.alpha_bars[options.depth - 1 - step]) ** 0.5
    return g + options.distance * (z - task.x).sign() if near else g  # the L1 distance is of the state, so it is not carried


def started(chain: Chain, x: Latents, noise: Latents, options: FastDimeOptions) -> Latents:
    """The noisy state that the first step sees; as released, one level more."""
    return chain.noised(x, options.depth if options.as_released else options.depth - 1, noise)


def stepped(chain: Chain, mean: Latents, index: int, draw: Draw) -> Latents:
    """One index down from a mean, with the posterior's noise but for the last step."""
    return mean if index == 0 else mean + float(chain.variance[index]) ** 0.5 * draw(2 * index)


def _anywhere(step: int, estimate: Latents) -> None:
    """No mask."""

"""FastDiME: edits of real images by a diffusion that a judge guides at its clean estimates, without an inner loop.

Weng, Pegios, Feragen, Petersen, Bigdeli, "Fast diffusion-based counterfactuals for shortcut removal and generation" (ECCV 2024), on DiME
(Jeanneret, Simon, Jurie, ACCV 2022).  Followed: z_tau = noised x; at each step mu' = mu - Sigma * g, with g the gradient of the losses at the
clean estimate of the step before; the self-optimised mask; class scales 8, 10, 15, the first that flips.  Changed: the logarithm of the
probability is pushed rather than the logit, success is judged on images as they are stored (8 bits), the mask's maximum is guarded, noise
depends on (seed, step) alone, and the off-by-one levels of the released code are an option (``as_released``).

Everything is of the space that is denoised: pixels in [-1, 1], or latents of about unit variance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.chain import Chain, Variance
from engines.guided.judge import Judge, Likeness, Push, pushed
from engines.guided.masks import Mask, changed
from engines.noise import start_noise, step_noise

Latents = Float[Tensor, "n c h w"]
Images = Float[Tensor, "n 3 H W"]
Decode = Callable[[Latents], Images]
"""Latents -> images in [-1, 1], differentiable."""
Draw = Callable[[int], Latents]
"""Standard normal noise of stream 0, 1, ...: even ones are of steps, odd ones of what a mask keeps."""
MaskAt = Callable[[int, Latents], Mask | None]
"""(step, clean estimate) -> where the edit may act from here on; None: anywhere."""
Passes = Literal["masked", "plain", "two", "two_plus"]
"""FastDiME, FastDiME without a mask, FastDiME-2 (the mask from a first run without), FastDiME-2+ (from a first run with one)."""


@dataclass(frozen=True, kw_only=True)
class FastDimeOptions:
    """How far, how hard and where."""

    kept: int = 200
    """Steps of the respaced chain."""
    depth: int = 60
    """Steps of it that are undone; :func:`engines.guided.chain.depth_at` finds the one of the paper's noise level on other schedules."""
    class_scales: tuple[float, ...] = (8.0, 10.0, 15.0)
    """Tried in this order, each on the images that have not flipped yet."""
    distance: float = 0.05
    """Weight of the L1 distance between the noisy state and the original; 0 turns it off."""
    likeness: float = 30.0
    """Weight of the caller's own distance, where one is given."""
    distance_steps: int | None = None
    """Steps in which distances act; all when None."""
    push: Push = "log_probability"
    confidence: float = 0.5
    """Least probability of the target, besides being the likeliest class, for success."""
    passes: Passes = "masked"
    warmup: int | None = None
    """Steps before the mask acts; half of the depth when None, as in the paper (30 of 60)."""
    threshold: float = 0.15
    dilation: int = 5
    """Odd width, in pixels or latent cells, that the mask is widened by; 5 is for 128 pixels, use 1 or 3 on latents."""
    through_noise: bool = False
    """Carry gradients from the clean estimate to the state by 1 / sqrt(alpha_bar), as DiME does."""
    variance: Variance = "middle"
    as_released: bool = False
    """Start one level noisier than the first step, and keep masked parts one level noisier than the state."""

    def __post_init__(self) -> None:
        if not 1 <= self.depth < self.kept:
            raise ValueError(f"depth counts steps of the chain, from 1 to {self.kept - 1}, got {self.depth}")
        if not self.class_scales or min(self.class_scales) < 0 or min(self.distance, self.likeness) < 0:
            raise ValueError("at least one class scale is needed, and weights are not negative")
        if not 0 <= self.confidence < 1:
            raise ValueError(f"confidence is a probability below 1, got {self.confidence}")

    @property
    def from_step(self) -> int:
        """First step at which the mask acts."""
        return self.depth // 2 if self.warmup is None else self.warmup


@dataclass(frozen=True, eq=False, kw_only=True)
class GuidedEdits:
    """What became of each image."""

    images: Images
    """In [0, 1], at multiples of 1/255: as they are stored and sent."""
    latents: Latents
    """Before decoding, not clipped."""
    success: Bool[Tensor, " n"]
    """Whether the judge says the target of ``images``; failures hold the result of the last scale."""
    probability: Float[Tensor, " n"]
    """Of the target, by the judge."""
    attempts: Int[Tensor, " n"]
    """Class scales tried."""
    mask: Mask
    """Where an image may differ from its original, in the space that is denoised."""
    network_rows: int
    """Rows that the denoising network evaluated."""


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


def fastdime(
    diffusion: Diffusion,
    x: Latents,
    target: Int[Tensor, " n"],
    cond: Conditioning,
    judge: Judge,
    *,
    seeds: Sequence[int],
    decode: Decode | None = None,
    unlike: Likeness | None = None,
    options: FastDimeOptions | None = None,
) -> GuidedEdits:
    """Edit x until the judge calls each row its target, at the first class scale that does.

    ``x`` are encoded originals, ``target`` columns of the judge's logits, ``cond`` what the network is told (usually nothing), ``decode`` a
    torch module (None: x are pixels).  A row's result depends on its own x, target, conditioning and seed.  Costs ``depth`` network rows,
    decodings and gradients of the judge per image and attempt, twice that with two passes.
    """
    options = options or FastDimeOptions()
    if not len(x) == len(target) == len(cond) == len(seeds):
        raise ValueError(
            f"need one target, condition and seed per image, got {len(target)}, {len(cond)}, {len(seeds)} for {len(x)}"
        )
    chain = Chain.of(diffusion, options.kept, options.variance)
    decode = decode or _pixels
    with torch.no_grad():
        seen = None if unlike is None else _shown(decode, x)
    task = Task(diffusion, chain, x.detach(), target, cond, judge, decode, unlike, options, seen)
    latents, mask = x.clone(), torch.ones_like(x[:, :1], dtype=torch.bool)
    images, attempts = torch.zeros_like(_stored(task.decode, x)), torch.zeros_like(target)
    success, probability = torch.zeros_like(target, dtype=torch.bool), torch.zeros(len(x), device=x.device)
    rows_spent = 0
    for scale in options.class_scales:
        left = (~success).nonzero()[:, 0]
        if not len(left):
            break
        some, mine = task.rows(left), [seeds[row] for row in left.tolist()]
        latents[left], mask[left], spent = attempt(some, scale, start_noise(mine, x.shape[1:]).to(x), draws(mine, x))
        images[left] = _stored(task.decode, latents[left])
        success[left], probability[left] = _judged(judge, images[left], target[left], options.confidence)
        attempts[left] += 1
        rows_spent += spent
    return GuidedEdits(
        images=images,
        latents=latents,
        success=success,
        probability=probability,
        attempts=attempts,
        mask=mask,
        network_rows=rows_spent,
    )


def unguided(
    diffusion: Diffusion,
    x: Latents,
    cond: Conditioning,
    seeds: Sequence[int],
    *,
    decode: Decode | None = None,
    mask: Mask | None = None,
    options: FastDimeOptions | None = None,
) -> Images:
    """The editor's floor: the same images, noised and denoised as for an edit, with the same noise, and nobody to guide them.

    With ``mask`` the originals are kept outside of it after the last step, as an edit keeps them.  Images as :attr:`GuidedEdits.images`.
    """
    options = options or FastDimeOptions()
    chain = Chain.of(diffusion, options.kept, options.variance)
    draw = draws(seeds, x)
    z = _start(chain, x, start_noise(seeds, x.shape[1:]).to(x), options)
    for index in reversed(range(options.depth)):
        with torch.no_grad():
            clean = diffusion.x0(z, chain.at[index], cond)
        z = _stepped(chain, chain.mean(clean, z, index), index, draw)
    return _stored(decode or _pixels, z if mask is None else torch.where(mask, z, x))


def attempt(task: Task, scale: float, noise: Latents, draw: Draw) -> tuple[Latents, Mask, int]:
    """One attempt at one class scale: latents, where they may differ, network rows.  ``noise`` is what the originals are noised with."""
    options = task.options
    z = _start(task.chain, task.x, noise, options)

    def own(step: int, estimate: Latents) -> Mask | None:
        return changed(task.x, estimate, options.threshold, options.dilation) if step >= options.from_step else None

    first = own if options.passes in {"masked", "two_plus"} else _anywhere
    latents, mask = _run(task, scale, z, draw, first)
    if options.passes in {"masked", "plain"}:
        return latents, mask, len(z) * options.depth
    fixed = changed(task.x, latents, options.threshold, options.dilation)
    latents, mask = _run(task, scale, z, draw, lambda *_: fixed)
    return latents, mask, 2 * len(z) * options.depth


def draws(seeds: Sequence[int], like: Latents) -> Draw:
    """Noise by (seed, stream): neither the batch nor the attempt matters."""
    return lambda stream: step_noise(seeds, stream, like.shape[1:]).to(like)


def _run(task: Task, scale: float, z: Latents, draw: Draw, mask_at: MaskAt) -> tuple[Latents, Mask]:
    """Down the chain, guided at the clean estimate of the step before; the first gradient is taken at the original itself."""
    chain, options = task.chain, task.options
    estimate, mask = task.x, None
    for step, index in enumerate(reversed(range(options.depth))):
        with torch.no_grad():
            clean = task.diffusion.x0(z, chain.at[index], task.cond)
        g = _gradient(task, scale, estimate, z, step)
        z = _stepped(chain, chain.mean(clean, z, index) - float(chain.variance[index]) * g, index, draw)  # mu' = mu - Sigma g
        estimate, mask = clean, mask_at(step, clean)
        if mask is not None:
            level = index if options.as_released else index - 1
            kept = chain.noised(task.x, level, draw(2 * index + 1)) if level >= 0 else task.x
            z, estimate = torch.where(mask, z, kept), torch.where(mask, estimate, task.x)
    if mask is None:
        return z, torch.ones_like(z[:, :1], dtype=torch.bool)
    return torch.where(mask, z, task.x), mask


def _gradient(task: Task, scale: float, estimate: Latents, z: Latents, step: int) -> Latents:
    """Of all losses, row by row: sums over rows never mix them."""
    options = task.options
    near = options.distance_steps is None or step < options.distance_steps
    with torch.enable_grad():
        leaf = estimate.detach().requires_grad_()
        images = _shown(task.decode, leaf)
        loss = -scale * pushed(options.push, task.judge(images), task.target)
        if task.unlike is not None and task.seen is not None and near:
            loss = loss + options.likeness * task.unlike(images, task.seen)
        (g,) = torch.autograd.grad(loss.sum(), leaf)
    if options.through_noise:
        g = g / float(task.chain.alpha_bars[options.depth - 1 - step]) ** 0.5
    return g + options.distance * (z - task.x).sign() if near else g  # the L1 distance is of the state, so it is not carried


def _start(chain: Chain, x: Latents, noise: Latents, options: FastDimeOptions) -> Latents:
    return chain.noised(x, options.depth if options.as_released else options.depth - 1, noise)


def _stepped(chain: Chain, mean: Latents, index: int, draw: Draw) -> Latents:
    return mean if index == 0 else mean + float(chain.variance[index]) ** 0.5 * draw(2 * index)


def _judged(judge: Judge, images: Images, target: Int[Tensor, " n"], confidence: float) -> tuple[Tensor, Tensor]:
    """(whether each row is its target, the target's probability)."""
    with torch.no_grad():
        p = judge(images).softmax(1)
    own = p.gather(1, target[:, None])[:, 0]
    return (p.argmax(1) == target) & (own >= confidence), own


def _stored(decode: Decode, latents: Latents) -> Images:
    """Decoded and rounded to 8 bits: a flip that only holds before rounding is none."""
    with torch.no_grad():
        return _shown(decode, latents).mul(255).round() / 255


def _shown(decode: Decode, latents: Latents) -> Images:
    return (decode(latents) / 2 + 0.5).clamp(0, 1)


def _pixels(x: Latents) -> Images:
    return x.expand(-1, 3, -1, -1)


def _anywhere(step: int, estimate: Latents) -> None:
    """No mask."""

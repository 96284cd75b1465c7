"""FastDiME: edits of real images by a diffusion that a judge guides at its clean estimates, without an inner loop.

Weng, Pegios, Feragen, Petersen, Bigdeli, "Fast diffusion-based counterfactuals for shortcut removal and generation" (ECCV 2024), on DiME
(Jeanneret, Simon, Jurie, ACCV 2022).  Followed: z_tau = noised x; at each step mu' = mu - Sigma * g, with g the gradient of the losses at the
clean estimate of the step before; the self-optimised mask; class scales 8, 10, 15, the first that flips.  Changed: the logarithm of the
probability is pushed rather than the logit, success is judged on images as they are stored (8 bits), the mask's maximum is guarded, noise
depends on (seed, step) alone, and the off-by-one levels of the released code are an option (``as_released``).

Everything is of the space that is denoised: pixels in [-1, 1], or latents of about unit variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.attempt import Decode, Images, Latents, Task, attempt, draws, shown, started, stepped
from engines.guided.chain import Chain
from engines.guided.judge import Judge, Likeness
from engines.guided.masks import Mask
from engines.guided.options import FastDimeOptions
from engines.noise import start_noise


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
        seen = None if unlike is None else shown(decode, x)
    task = Task(diffusion, chain, x.detach(), target, cond, judge, decode, unlike, options, seen)
    latents, mask = x.clone(), torch.ones_like(x[:, :1], dtype=torch.bool)
    images, attempts = _stored(decode, x), torch.zeros_like(target)
    success, probability = torch.zeros_like(target, dtype=torch.bool), torch.zeros(len(x), device=x.device)
    rows_spent = 0
    for scale in options.class_scales:
        left = (~success).nonzero()[:, 0]
        if not len(left):
            break
        some, mine = task.rows(left), [seeds[row] for row in left.tolist()]
        latents[left], mask[left], spent = attempt(some, scale, start_noise(mine, x.shape[1:]).to(x), draws(mine, x))
        images[left] = _stored(decode, latents[left])
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
    z = started(chain, x, start_noise(seeds, x.shape[1:]).to(x), options)
    for index in reversed(range(options.depth)):
        with torch.no_grad():
            clean = diffusion.x0(z, chain.at[index], cond)
        z = stepped(chain, chain.mean(clean, z, index), index, draw)
    return _stored(decode or _pixels, z if mask is None else torch.where(mask, z, x))


def _judged(judge: Judge, images: Images, target: Int[Tensor, " n"], confidence: float) -> tuple[Tensor, Tensor]:
    """(whether each row is its target, the target's probability)."""
    with torch.no_grad():
        p = judge(images).softmax(1)
    own = p.gather(1, target[:, None])[:, 0]
    return (p.argmax(1) == target) & (own >= confidence), own


def _stored(decode: Decode, latents: Latents) -> Images:
    """Decoded and rounded to 8 bits: a flip that only holds before rounding is none."""
    with torch.no_grad():
        return shown(decode, latents).mul(255).round() / 255


def _pixels(x: Latents) -> Images:
    return x.expand(-1, 3, -1, -1)

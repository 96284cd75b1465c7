"""FastDiME: edits of real images by a diffusion that a judge guides at its clean estimates, without an inner loop.

Weng, Pegios, Feragen, Petersen, Bigdeli, "Fast diffusion-based counterfactuals for shortcut removal and generation" (ECCV 2024), on DiME
(Jeanneret, Simon, Jurie, ACCV 2022).  Followed: z_tau = noised x; at each step mu' = mu - Sigma * g, with g the gradient of the losses at the
clean estimate of the step before; the self-optimised mask; class scales 8, 10, 15, the first that flips.  Changed: the logarithm of the
probability is pushed rather than the logit, success is judged on images as they are stored (8 bits), the mask's maximum is guarded, noise
depends on (seed, step) alone, and the off-by-one levels of the released code are an option (``as_released``).

Everything is of the space that is denoised: pixels in [-1, 1], or latents of about unit variance.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.attempt import Task, attempt, draws, started, stepped
from engines.guided.chain import Chain
from engines.guided.edits import Accept, Decode, GuidedEdits, Images, Latents, accepted_by, on_ladder, pixels, search, shown, stored
from engines.guided.judge import Judge, Likeness
from engines.guided.masks import Mask
from engines.guided.options import FastDimeOptions
from engines.noise import start_noise


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
    accept: Accept | None = None,
    batch: int | None = None,
    options: FastDimeOptions | None = None,
) -> GuidedEdits:
    """Edit x until the judge calls each row its target, at the first class scale that does.

    ``x`` are encoded originals, ``target`` columns of the judge's logits, ``cond`` what the network is told (usually nothing), ``decode`` a
    torch module (None: x are pixels), ``accept`` who decides whether an edit flipped (None: the judge).  A row's result depends on its own
    x, target, conditioning and seed.  Costs ``depth`` network rows, decodings and gradients of the judge per image and attempt, twice that
    with two passes; DiME's inner loop costs depth * (depth + 1) / 2 rows.
    """
    options = options or FastDimeOptions()
    if not len(x) == len(target) == len(cond) == len(seeds):
        raise ValueError(
            f"need one target, condition and seed per image, got {len(target)}, {len(cond)}, {len(seeds)} for {len(x)}"
        )
    chain = Chain.of(diffusion, options.kept, options.variance)
    decode = decode or pixels
    with torch.no_grad():
        seen = None if unlike is None else shown(decode, x)
    task = Task(diffusion, chain, x.detach(), target, cond, judge, decode, unlike, options, seen)

    def run(rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, Mask, int]:
        mine = [seeds[row] for row in rows.tolist()]
        scales = on_ladder(options.class_scales, places)
        return attempt(task.rows(rows), scales, start_noise(mine, x.shape[1:]).to(x), draws(mine, x))

    return search(
        x,
        target,
        run,
        len(options.class_scales),
        accept=accept or accepted_by(judge),
        decode=decode,
        confidence=options.confidence,
        bisections=options.bisections,
        batch=batch,
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
    return stored(decode or pixels, z if mask is None else torch.where(mask, z, x))

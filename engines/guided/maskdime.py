"""MaskDiME: one guided pass in which only the pixels that the class gradient points at may change.

"MaskDiME" (CVPR 2026, arXiv 2602.18792), from its text; no released code was read.  Followed: one clean estimate per state, taken after the
step (depth + 1 network rows); gradients carried to the state by 1 / sqrt(alpha_bar) and scaled as a whole; noise mask of the top-k pixels of the
class gradient, clean mask of the top share of those, both dilated; outside, the state is the original noised to the same level.  Changed: a
ladder of scales, and the logarithm of the probability may be pushed in place of the logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.attempt import draws
from engines.guided.chain import Chain, Variance
from engines.guided.edits import Accept, Decode, GuidedEdits, Latents, accepted_by, on_ladder, pixels, search, shown
from engines.guided.judge import Judge, Likeness, Push, pushed
from engines.guided.masks import Mask
from engines.noise import start_noise
from engines.precondition import rowwise


@dataclass(frozen=True, kw_only=True)
class MaskDimeOptions:
    """How hard, and how much of an image may change."""

    kept: int = 200
    """Steps of the respaced chain."""
    depth: int = 60
    """Steps of it that are undone."""
    strengths: tuple[float, ...] = (8.0, 10.0, 14.0)
    """Scale of the whole gradient, tried in this order; published are 8 for faces at 128 pixels, 10 at 256, 14 for scenes of traffic."""
    class_scale: float = 8.0
    distance: float = 0.05
    """Weight of the L1 distance of the clean estimate."""
    likeness: float = 30.0
    """Weight of the caller's own distance, where one is given."""
    share: float = 0.1
    """Of the pixels, those of the largest class gradient, where the state may change."""
    clean_share: float = 0.5
    """Of those, where the clean estimate may differ from the original."""
    dilation: int = 5
    """Odd width that both masks are widened by; for 128 pixels."""
    push: Push = "log_odds"
    bisections: int = 0
    """How often the strength is halved back towards the last failure once an image has flipped."""
    confidence: float = 0.5
    variance: Variance = "middle"

    def __post_init__(self) -> None:
        if not 1 <= self.depth < self.kept or not self.strengths or min(self.strengths) < 0:
            raise ValueError(
                f"depth counts steps from 1 to {self.kept - 1}, and a strength is needed: {self.depth}, {self.strengths}"
            )
        if not (0 < self.share <= 1 and 0 < self.clean_share <= 1) or self.dilation < 1 or self.dilation % 2 == 0:
            raise ValueError(f"shares lie in (0, 1], dilation is odd: {self.share}, {self.clean_share}, {self.dilation}")


def maskdime(
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
    options: MaskDimeOptions | None = None,
) -> GuidedEdits:
    """Edit x until the judge calls each row its target; arguments as of :func:`engines.guided.fastdime`.  depth + 1 rows an attempt."""
    options, decode = options or MaskDimeOptions(), decode or pixels
    chain = Chain.of(diffusion, options.kept, options.variance)
    with torch.no_grad():
        originals = shown(decode, x)

    def losses(rows: Int[Tensor, " m"], estimate: Latents) -> tuple[Latents, Latents]:
        """Gradients of the class term and of the distances, at the clean estimate."""
        with torch.enable_grad():
            leaf = estimate.detach().requires_grad_()
            images = shown(decode, leaf)
            wanted = -options.class_scale * pushed(options.push, judge(images), target[rows])
            (towards,) = torch.autograd.grad(wanted.sum(), leaf, retain_graph=True)
            if unlike is None:
                return towards, options.distance * (estimate - x[rows]).sign()
            far = options.likeness * unlike(images, originals[rows])
            (away,) = torch.autograd.grad(far.sum(), leaf)
        return towards, away + options.distance * (estimate - x[rows]).sign()

    def run(rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, Mask, int]:
        own, told = x[rows], cond[rows]
        mine = [seeds[row] for row in rows.tolist()]
        noise, draw = start_noise(mine, x.shape[1:]).to(x), draws(mine, x)
        strength = rowwise(on_ladder(options.strengths, places), own)
        z, estimate = chain.noised(own, options.depth - 1, noise), own
        with torch.no_grad():
            clean = diffusion.x0(z, chain.at[options.depth - 1], told)
        mask = torch.ones_like(own[:, :1], dtype=torch.bool)
        for index in reversed(range(options.depth)):
            towards, away = losses(rows, estimate)
            wide, narrow = strongest(towards, options)
            mask = narrow
            g = strength * (towards + away) / float(chain.alpha_bars[index]) ** 0.5
            moved = chain.mean(clean, z, index) - float(chain.variance[index]) * g
            if index:
                moved = moved + float(chain.variance[index]) ** 0.5 * draw(2 * index)
                z = torch.where(wide, moved, chain.noised(own, index - 1, draw(2 * index + 1)))
                with torch.no_grad():
                    clean = diffusion.x0(z, chain.at[index - 1], told)
            else:
                clean = moved
            estimate = torch.where(narrow, clean, own)
        return estimate, mask, len(rows) * options.depth

    return search(
        x,
        target,
        run,
        len(options.strengths),
        accept=accept or accepted_by(judge),
        decode=decode,
        confidence=options.confidence,
        bisections=options.bisections,
        batch=batch,
    )


def strongest(gradient: Latents, options: MaskDimeOptions) -> tuple[Mask, Mask]:
    """(where the state may change, where the clean estimate may): the pixels of the largest class gradient, mean over channels, widened."""
    size = gradient.abs().mean(1, keepdim=True)
    pixels = size[0].numel()
    # the rank of every pixel; of equal ones the first in reading order comes first
    order = size.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(size.shape)
    masks = []
    for share in (options.share, options.share * options.clean_share):
        top = (order < max(1, round(share * pixels))) & (size > 0)
        masks.append(functional.max_pool2d(top.float(), options.dilation, stride=1, padding=options.dilation // 2) > 0)
    return masks[0], masks[1]

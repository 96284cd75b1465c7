"""ACE: an attack through a diffusion that filters out what is no picture, and a repainting of what the attack did not need.

Jeanneret, Simon, Jurie, "Adversarial counterfactual visual explanations" (CVPR 2023).  Followed: sign steps of 1/255 on the image, gradients
through all n steps of the filter (noise the image to step n - 1 of the chain, denoise); the repainting keeps the original wherever the
change is below a share of its largest, dilated.  Changed: losses are sums per image where the released code averages one of them over the batch,
so that an image's result does not depend on its batch; weights of the distance are tried from heavy to none, the published one among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.attempt import Draw, draws, stepped
from engines.guided.chain import Chain, Variance
from engines.guided.edits import Accept, Decode, GuidedEdits, Latents, accepted_by, pixels, search
from engines.guided.judge import Judge, pushed
from engines.guided.masks import Mask, changed, check_mask
from engines.precondition import estimates


@dataclass(frozen=True, kw_only=True)
class AceOptions:
    """Depth of the filter, length of the attack, what is repainted."""

    kept: int = 50
    """Steps of the respaced chain."""
    depth: int = 5
    """Steps of it that the filter undoes."""
    iterations: int = 50
    step: float = 1 / 255
    """Of the attack, on the scale of [0, 1]."""
    distances: tuple[float, ...] = (0.004, 0.001, 0.0)
    """Weights of the L1 distance (a sum over pixels), from near to far; the first that flips is kept.  Published: 0.001."""
    class_weight: float = 1.0
    threshold: float = 0.15
    """Share of the largest change below which the original is kept."""
    dilation: int = 15
    confidence: float = 0.5
    variance: Variance = "middle"

    def __post_init__(self) -> None:
        check_mask(self.threshold, self.dilation)
        if not 1 <= self.depth < self.kept or self.iterations < 1 or self.step <= 0 or not self.distances:
            raise ValueError(f"need a depth from 1 to {self.kept - 1}, an iteration, a step and a distance: {self}")


@dataclass(frozen=True, eq=False, kw_only=True)
class AceTask:
    """Some images under attack."""

    diffusion: Diffusion
    chain: Chain
    x: Latents
    target: Int[Tensor, " n"]
    cond: Conditioning
    judge: Judge
    decode: Decode
    options: AceOptions

    def filtered(self, x: Latents, draw: Draw) -> Latents:
        """Noised to the depth and denoised again, differentiable in x; even streams are of steps, stream 1 is what the image is noised with."""
        z = self.chain.noised(x, self.options.depth - 1, draw(1))
        for index in reversed(range(self.options.depth)):
            z = stepped(self.chain, self.chain.mean(self._clean(z, index), z, index), index, draw)
        return z

    def attacked(self, distance: Float[Tensor, " n"], draw: Draw) -> Latents:
        """Where ``iterations`` sign steps lead; fresh noise in each."""
        options, x = self.options, self.x
        streams = 2 * options.depth
        low, high = (-1.0, 1.0) if self.decode is pixels else (float("-inf"), float("inf"))
        for iteration in range(options.iterations):
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                clean = self.filtered(leaf, lambda stream, first=iteration * streams: draw(first + stream))  # type: ignore[misc]
                images = self.decode(clean) / 2 + 0.5
                wanted = options.class_weight * pushed("log_probability", self.judge(images), self.target)
                far = ((leaf - self.x) / 2).abs().flatten(1).sum(1)
                (g,) = torch.autograd.grad((distance * far - wanted).sum(), leaf)
            x = (x - 2 * options.step * g.sign()).clamp(low, high)
        return x

    def repainted(self, attacked: Latents, draw: Draw) -> tuple[Latents, Mask]:
        """The attack's changes where they are large, drawn anew by the diffusion among the original's pixels."""
        options, chain = self.options, self.chain
        mask = changed(self.x, attacked, options.threshold, options.dilation)
        z = chain.noised(attacked, options.depth - 1, draw(1))
        for index in reversed(range(options.depth)):
            z = torch.where(mask, z, chain.noised(self.x, index, draw(2 * index + 3)))
            with torch.no_grad():
                z = stepped(chain, chain.mean(self._clean(z, index), z, index), index, draw)
        return torch.where(mask, z, self.x), mask

    def _clean(self, z: Latents, index: int) -> Latents:
        """Tweedie's estimate, differentiable; clipped where the scheduler clips."""
        t = self.chain.at[index]
        bars = self.diffusion.alpha_bar(t, len(z)).to(z.dtype)
        at = torch.full((len(z),), float(t), device=z.device, dtype=z.dtype)
        found = estimates(self.diffusion.prediction, z, self.diffusion.differentiable(z, at, self.cond), bars)[1]
        limit = self.diffusion.course.scheduler.clip
        return found if limit is None else found.clamp(-limit, limit)


def ace(
    diffusion: Diffusion,
    x: Latents,
    target: Int[Tensor, " n"],
    cond: Conditioning,
    judge: Judge,
    *,
    seeds: Sequence[int],
    decode: Decode | None = None,
    accept: Accept | None = None,
    batch: int | None = None,
    options: AceOptions | None = None,
) -> GuidedEdits:
    """Attack x through the filter until the judge calls each row its target, from the heaviest distance to none.

    Arguments as of :func:`engines.guided.fastdime`.  Costs per image and attempt iterations * depth network rows forward and as many backward.
    """
    options, decode = options or AceOptions(), decode or pixels
    chain = Chain.of(diffusion, options.kept, options.variance)
    weights = torch.tensor(options.distances).to(x)

    def run(rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, Mask, int]:
        task = AceTask(
            diffusion=diffusion,
            chain=chain,
            x=x[rows].detach(),
            target=target[rows],
            cond=cond[rows],
            judge=judge,
            decode=decode,
            options=options,
        )
        draw = draws([seeds[row] for row in rows.tolist()], x)
        latents, mask = task.repainted(task.attacked(weights[places.long()], draw), draw)
        return latents, mask, len(rows) * (options.iterations + 1) * options.depth

    return search(
        x,
        target,
        run,
        len(options.distances),
        accept=accept or accepted_by(judge),
        decode=decode,
        confidence=options.confidence,
        batch=batch,
    )

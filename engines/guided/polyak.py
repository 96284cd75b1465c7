"""Edits by as much guidance as the target still needs: FastDiME's clean estimates, steps of Polyak's length.

At each step the log-odds l of the target and their gradient g are taken at the clean estimate of the step before.  A move of (goal - l) / |g|^2
along g would reach the goal if l were linear (Polyak's step length with a known optimum, 1987; DeepFool's, Moosavi-Dezfooli et al. 2016): so
much is shared out over what is left of the chain, in proportion to the posterior's variance.  Each step measures anew what the network has
undone, and an image that is there is pushed no further.  No scale of the class gradient is left to be found per classifier, and latents need
none of their own.

The gradient of a network that is not robust is mostly fine grain, which denoising takes out again.  So moves go along g with its spectrum
weighted by f^-smooth, as natural images have more of what is coarse (Field 1987).  Last steps are left alone: what is pushed there
nobody makes plausible again.

The first attempt pushes nothing.  If it flips, it is the most honest answer; if not, what the others change beyond it is the guidance's doing,
and the rest can go back to the original.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.attempt import draws, stepped
from engines.guided.chain import Chain, Variance
from engines.guided.edits import Accept, Decode, GuidedEdits, Latents, accepted_by, on_ladder, pixels, search, shown, stored
from engines.guided.judge import Judge, log_odds
from engines.noise import start_noise
from engines.precondition import rowwise

Reading = Callable[[Latents, Int[Tensor, " n"]], Float[Tensor, " n"]]
"""(clean estimates, targets) -> log-odds, differentiable."""
SMALLEST = 1e-12
"""Of a squared gradient: below it nothing points anywhere."""


@dataclass(frozen=True, kw_only=True)
class PolyakOptions:
    """How far, and to which probability."""

    kept: int = 50
    """Steps of the chain."""
    depth: int = 15
    """Steps of it that are undone."""
    strengths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Multiples of the length that a linear model would need, tried in this order."""
    goal: float = 0.95
    """Probability that steps aim for."""
    smooth: float = 0.7
    """Exponent by which coarse changes are preferred; 0 follows the gradient itself."""
    untouched: int = 2
    """Last steps without a push."""
    longest: float = 0.3
    """Most that one step may move an image: root mean square over its numbers."""
    bisections: int = 0
    """How often the strength is halved back towards the last failure once an image has flipped."""
    confidence: float = 0.5
    """Least probability of the target, besides being the likeliest class, for success."""
    variance: Variance = "middle"

    def __post_init__(self) -> None:
        if not 1 <= self.depth < self.kept or self.untouched < 0:
            raise ValueError(
                f"depth counts steps of the chain, from 1 to {self.kept - 1}, got {self.depth}, {self.untouched} untouched"
            )
        if not self.strengths or min(self.strengths) <= 0 or min(self.smooth, self.longest) < 0:
            raise ValueError(f"strengths are positive, and at least one is needed: {self.strengths}")
        if not 0.5 < self.goal < 1 or not 0 <= self.confidence < 1:
            raise ValueError(f"goal and confidence are probabilities, the goal above one half: {self.goal}, {self.confidence}")


def polyak(
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
    options: PolyakOptions | None = None,
) -> GuidedEdits:
    """Edit x until the judge calls each row its target; arguments as of :func:`engines.guided.fastdime`.

    The first attempt of each image is unguided (``free`` of the result; its images are ``floor``).  An attempt costs ``depth`` network rows
    and as many gradients of the judge.
    """
    options, decode = options or PolyakOptions(), decode or pixels
    chain, floor = Chain.of(diffusion, options.kept, options.variance), stored(decode, x)

    def reading(latents: Latents, wanted: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        return log_odds(judge(shown(decode, latents)), wanted)

    def run(rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, None, int]:
        strength = on_ladder((0.0, *options.strengths), places)
        mine = [seeds[row] for row in rows.tolist()]
        own, told, draw = x[rows], cond[rows], draws(mine, x)
        z = chain.noised(own, options.depth - 1, start_noise(mine, x.shape[1:]).to(x))
        estimate = own
        for index in reversed(range(options.depth)):
            moved = move(reading, estimate, target[rows], strength * _share(chain, index, options), options)
            with torch.no_grad():
                estimate = diffusion.x0(z, chain.at[index], told)
            z = stepped(chain, chain.mean(estimate, z, index) + moved, index, draw)
        unguided = places <= 0
        if bool(unguided.any()):
            floor[rows[unguided]] = stored(decode, z[unguided])
        return z, None, len(rows) * options.depth

    made = search(
        x,
        target,
        run,
        1 + len(options.strengths),
        accept=accept or accepted_by(judge),
        decode=decode,
        confidence=options.confidence,
        bisections=options.bisections,
        batch=batch,
        free_first=True,
    )
    return replace(made, floor=floor)


def move(
    reading: Reading, estimate: Latents, target: Int[Tensor, " n"], share: Float[Tensor, " n"], options: PolyakOptions
) -> Latents:
    """What takes each estimate its share of the way to the goal, if the log-odds were linear; nothing where the goal is reached."""
    if not bool((share > 0).any()):
        return torch.zeros_like(estimate)
    with torch.enable_grad():
        leaf = estimate.detach().requires_grad_()
        odds = reading(leaf, target)
        (g,) = torch.autograd.grad(odds.sum(), leaf)
    need = (math.log(options.goal / (1 - options.goal)) - odds.detach()).clamp(min=0)
    along = coarse(g, options.smooth)
    slope = (along * g).flatten(1).sum(1)
    length = torch.where(slope > SMALLEST, share * need / slope.clamp(min=SMALLEST), torch.zeros_like(slope))
    moved = rowwise(length, along) * along
    size = moved.flatten(1).square().mean(1).sqrt()
    return moved * rowwise((options.longest / size.clamp(min=SMALLEST)).clamp(max=1), moved)


def coarse(g: Latents, exponent: float) -> Latents:
    """A gradient with its spectrum weighted by (1 + cycles an image)^-exponent: positive definite, so it still points uphill."""
    if exponent == 0:
        return g
    height, width = g.shape[-2:]
    rows, columns = torch.fft.fftfreq(height, 1 / height), torch.fft.rfftfreq(width, 1 / width)
    weight = (1 + (rows[:, None].square() + columns[None].square()).sqrt()) ** -exponent
    found: Tensor = torch.fft.irfft2(torch.fft.rfft2(g) * weight.to(g), s=(height, width))
    return found


def _share(chain: Chain, index: int, options: PolyakOptions) -> float:
    """Of what is needed, how much this step brings: the posterior's variance here over that of all steps that still push."""
    last = min(options.untouched, options.depth - 1)
    return 0.0 if index < last else float(chain.variance[index] / chain.variance[last : index + 1].sum())

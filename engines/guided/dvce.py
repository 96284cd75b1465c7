"""DVCE: counterfactuals of any classifier by a diffusion that starts half-way, with guidance of adaptive length.

Augustin, Boreiko, Croce, Hein, "Diffusion visual counterfactual explanations" (NeurIPS 2022).  Followed: late start; gradients of the class
and of the distance go through the denoising network; each is brought to the length of the predicted noise; cone projection where a robust
model is given; the answer is the last clean estimate before its guidance.  Changed: the ladder of weights (the published pair first), one
forward pass a step where the released code has two, images independent of their batch, the cone guarded, success judged on 8 bits.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.adaptive import Inside, adaptive, cone, norms
from engines.guided.attempt import Draw, draws
from engines.guided.augment import Views, views
from engines.guided.chain import Chain, Variance
from engines.guided.edits import Accept, Decode, GuidedEdits, Images, Latents, accepted_by, on_ladder, pixels, search
from engines.guided.judge import Judge
from engines.noise import start_noise
from engines.precondition import estimates, rowwise

Predict = Callable[[Latents, int], tuple[Latents, Latents | None]]
"""(state, index of the chain) -> noise estimate, and the variance of the step where the network learned one; differentiable."""
Reference = Literal["eps", "mean"]
"""Whose length guidance takes: the predicted noise's (released code), or the reverse mean's."""

BUDGET = 2.48
"""Sum of betas over the published start: weights are for it, and scaled where another start leaves less (or more) room."""


@dataclass(frozen=True, kw_only=True)
class DvceOptions:
    """How far, how hard, and how the gradient is taken."""

    kept: int = 200
    """Steps of the respaced chain."""
    depth: int = 100
    """Steps of it that are undone; the published start keeps 0.28 of the signal."""
    weights: tuple[tuple[float, float], ...] = ((0.1, 0.15), (0.2, 0.1), (0.3, 0.1), (0.4, 0.05))
    """(class, distance), tried in this order from the same noise, each on what has not flipped yet."""
    degrees: float = 30.0
    """Half-angle of the cone; for a robust model only."""
    inside: Inside = "target"
    norm: Reference = "eps"
    views: int = 16
    """Views of the estimate that a gradient is averaged over; 1 is the plain estimate.  16 for models that are not robust."""
    jacobian: bool = True
    """Whether gradients go through the denoising network.  Without, a network that gives none will do, and flips fewer."""
    rescale: bool = True
    """Whether weights are scaled by BUDGET / sum of betas."""
    bisections: int = 0
    """How often the weights are halved back towards the last failure once an image has flipped."""
    confidence: float = 0.5
    """Least probability of the target, besides being the likeliest class, for success."""
    variance: Variance = "middle"

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= self.kept:
            raise ValueError(f"depth counts steps of the chain, from 1 to {self.kept}, got {self.depth}")
        if not self.weights or min(min(pair) for pair in self.weights) < 0:
            raise ValueError("at least one pair of weights is needed, and they are not negative")
        if not 0 < self.degrees < 90 or self.views < 1 or self.norm not in get_args(Reference):
            raise ValueError(
                f"need a cone between 0 and 90 degrees, a view, and norm eps or mean: {self.degrees}, {self.views}, {self.norm!r}"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class DvceTask:
    """Everything one attempt needs, for some of the rows; see :func:`dvce`."""

    chain: Chain
    predict: Predict
    x: Latents
    original: Images
    """What x shows, in [0, 1]."""
    target: Int[Tensor, " n"]
    judge: Judge
    robust: Judge | None
    decode: Decode
    options: DvceOptions


def dvce(
    diffusion: Diffusion,
    x: Latents,
    target: Int[Tensor, " n"],
    cond: Conditioning,
    judge: Judge,
    *,
    seeds: Sequence[int],
    robust: Judge | None = None,
    decode: Decode | None = None,
    accept: Accept | None = None,
    batch: int | None = None,
    options: DvceOptions | None = None,
) -> GuidedEdits:
    """Edit x until the judge calls each row its target, at the first pair of weights that does.

    As :func:`engines.guided.fastdime`; ``robust`` is a classifier over the same columns whose gradients are perceptually aligned.  Costs per
    image and attempt ``depth`` network rows forward and as many backward for each of class, robust class and distance.
    """
    options = options or DvceOptions()
    chain, decode = Chain.of(diffusion, options.kept, options.variance), decode or pixels
    with torch.no_grad():
        original = decode(x) / 2 + 0.5

    def run(rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, None, int]:
        mine = [seeds[row] for row in rows.tolist()]
        task = DvceTask(
            chain=chain,
            predict=predictor(diffusion, chain, cond[rows], jacobian=options.jacobian),
            x=x[rows].detach(),
            original=original[rows],
            target=target[rows],
            judge=judge,
            robust=robust,
            decode=decode,
            options=options,
        )
        classes, distances = zip(*options.weights, strict=True)
        weights = on_ladder(classes, places), on_ladder((*distances,), places.clamp(min=0))
        found = descend(task, weights, start_noise(mine, x.shape[1:]).to(x), draws(mine, x), mine)
        return found, None, len(rows) * options.depth

    return search(
        x,
        target,
        run,
        len(options.weights),
        accept=accept or accepted_by(judge),
        decode=decode,
        confidence=options.confidence,
        bisections=options.bisections,
        batch=batch,
    )


def predictor(diffusion: Diffusion, chain: Chain, cond: Conditioning, *, jacobian: bool = True) -> Predict:
    """The noise estimate of a diffusion: by its network in torch where gradients are wanted, else by its engine."""

    def predict(z: Latents, index: int) -> tuple[Latents, None]:
        t = chain.at[index]
        if not jacobian:
            with torch.no_grad():
                return diffusion.eps(z, t, cond), None
        alpha_bar = diffusion.alpha_bar(t, len(z)).to(z.dtype)
        at = torch.full((len(z),), float(t), device=z.device, dtype=z.dtype)
        return estimates(diffusion.prediction, z, diffusion.differentiable(z, at, cond), alpha_bar)[0], None

    return predict


Weights = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
"""(class, distance), row by row."""


def descend(task: DvceTask, weights: Weights, noise: Latents, draw: Draw, seeds: Sequence[int]) -> Latents:
    """One attempt: from the noised originals down, guided at every step.  The last clean estimate, not clipped."""
    chain, options = task.chain, task.options
    scaled = _scaled(chain, weights, options)
    z = chain.noised(task.x, options.depth - 1, noise)
    clean = task.x
    for index in reversed(range(options.depth)):
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            eps, learned = task.predict(leaf, index)
            kept = float(chain.alpha_bars[index])
            state = leaf if options.jacobian else leaf.detach()
            clean = (state - math.sqrt(1 - kept) * eps) / math.sqrt(kept)
            clean = clean if options.jacobian else clean.detach().requires_grad_()
            towards, away = _gradients(task, clean, leaf if options.jacobian else clean, index, seeds)
        clean, eps = clean.detach(), eps.detach()
        if index == 0:
            break
        mean = chain.mean(clean, z, index)
        length = norms(eps if options.norm == "eps" else mean)
        variance = rowwise(z.new_full([len(z)], float(chain.variance[index])), z) if learned is None else learned.detach()
        z = mean + variance * adaptive(length, towards, away, scaled) + variance.sqrt() * draw(2 * index)
    return clean


def _gradients(task: DvceTask, clean: Latents, of: Latents, index: int, seeds: Sequence[int]) -> tuple[Latents, Latents]:
    """Of the target's log-probability (on its cone), and of the mean absolute distance to the original."""
    options = task.options
    images = task.decode(clean) / 2 + 0.5  # not clipped: a clipped pixel has no gradient
    looks = views(options.views, seeds, index)

    def ascent(judge: Judge, looks: Views) -> Latents:
        told = torch.stack([_wanted(judge(each), task.target) for each in looks(images)]).mean(0)
        return torch.autograd.grad(told.sum(), of, retain_graph=True)[0]

    towards = ascent(task.judge, looks)
    if task.robust is not None:
        fresh = views(options.views, seeds, index, stream=1)
        towards = cone(towards, ascent(task.robust, fresh), math.radians(options.degrees), options.inside)
    distance = (images - task.original).abs().mean((1, 2, 3)).sum()
    return towards, torch.autograd.grad(distance, of)[0]


def _wanted(logits: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return logits.log_softmax(1).gather(1, target[:, None])[:, 0]


def _scaled(chain: Chain, weights: Weights, options: DvceOptions) -> Weights:
    """Weights for the room that this start leaves: what guidance can move is C times the sum of betas."""
    if not options.rescale:
        return weights
    before = torch.cat([torch.ones(1, dtype=torch.float64), chain.alpha_bars[:-1]])
    room = float((1 - chain.alpha_bars / before)[: options.depth].sum())
    return weights[0] * BUDGET / room, weights[1] * BUDGET / room

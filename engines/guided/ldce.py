"""LDCE: counterfactuals by a diffusion that knows classes by name, whose own idea of a class says where a classifier's gradient is heard.

Farid, Schrodi, Argus, Brox, "Latent diffusion counterfactual explanations" (2023).  Followed: the classifier's gradient through decoder and
network, kept at the locations where it agrees with the implicit classifier eps(z, class) - eps(z), brought to that one's length; the gradient
of the distance brought to the same length; DDIM without fresh noise from noised originals.  The implicit score is never added: it filters and
sets the scale.  Changed: fewer steps (``kept``; 500 in the paper) from the same share of signal, a ladder of weights, success judged on 8
bits, nothing divides by zero, and a substitute where no condition names the class (see :func:`ldce`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.adaptive import TINY, angle, cone, norms, unit
from engines.guided.chain import Chain, depth_at
from engines.guided.dvce import Predict, predictor
from engines.guided.edits import Accept, Decode, GuidedEdits, Images, Latents, accepted_by, on_ladder, pixels, search
from engines.guided.judge import Judge
from engines.noise import start_noise
from engines.precondition import rowwise

Consensus = Literal["zero", "cone", "image"]
"""What becomes of the gradient where it and the implicit score disagree: nothing (all published runs), the implicit score brought onto the
gradient's cone at each location, or so for the image as a whole."""
Weights = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
"""(class, distance), row by row."""


@dataclass(frozen=True, kw_only=True)
class LdceOptions:
    """How far, how hard, and how much agreement is asked for."""

    kept: int = 100
    """Steps of the respaced chain."""
    signal: float = 0.67
    """sqrt(alpha_bar) at the start: the paper's strength of 0.382 under the schedule of Stable Diffusion."""
    weights: tuple[tuple[float, float], ...] = ((1.0, 0.15), (2.3, 0.3), (3.95, 0.3), (6.0, 0.3))
    """(class, distance) in lengths of the implicit score, tried in this order from the same noise, each on what has not flipped yet.  The
    second is the published one for class labels; for text 3.95 and 1.2 are published."""
    scale: float = 3.0
    """Times both."""
    degrees: float = 45.0
    """Half-angle of the cone; 45 for class labels, 50 to 55 for text."""
    consensus: Consensus = "zero"
    share: float = 0.1
    """Length that the implicit score is taken to have, in lengths of the noise estimate, where there is none; pushes are then about as long as
    DVCE's."""
    jacobian: bool = True
    """Whether gradients go through the denoising network.  Without, a network that gives none will do."""
    bisections: int = 0
    """How often the weights are halved back towards the last failure once an image has flipped."""
    confidence: float = 0.5
    """Least probability of the target, besides being the likeliest class, for success."""

    def __post_init__(self) -> None:
        if self.kept < 2 or not 0 < self.signal < 1:
            raise ValueError(f"need two steps and a share of signal between 0 and 1, got {self.kept}, {self.signal}")
        if not self.weights or min(min(pair) for pair in self.weights) < 0 or min(self.scale, self.share) < 0:
            raise ValueError("at least one pair of weights is needed, and neither they nor scale and share are negative")
        if not 0 < self.degrees < 90 or self.consensus not in get_args(Consensus):
            raise ValueError(f"need a cone between 0 and 90 degrees and a consensus of {', '.join(get_args(Consensus))}: {self}")


@dataclass(frozen=True, eq=False, kw_only=True)
class LdceTask:
    """Everything one attempt needs, for some of the rows; see :func:`ldce`."""

    chain: Chain
    depth: int
    untold: Predict
    told: Predict | None
    x: Latents
    original: Images
    """What x shows, in [0, 1]."""
    target: Int[Tensor, " n"]
    judge: Judge
    decode: Decode
    options: LdceOptions


def ldce(
    diffusion: Diffusion,
    x: Latents,
    target: Int[Tensor, " n"],
    cond: Conditioning,
    judge: Judge,
    *,
    seeds: Sequence[int],
    told: Conditioning | None = None,
    decode: Decode | None = None,
    accept: Accept | None = None,
    batch: int | None = None,
    options: LdceOptions | None = None,
) -> GuidedEdits:
    """Edit x until the judge calls each row its target, at the first pair of weights that does.

    As :func:`engines.guided.fastdime`; ``cond`` tells the network nothing, ``told`` names each row's target (a prompt, or a class label).
    Without ``told`` nobody can disagree: the class gradient alone is the direction, everywhere, and its length is ``share`` of the noise
    estimate's; this is DVCE's guidance in LDCE's sampler.  Costs per image and attempt ``depth`` network rows, twice that with ``told``, and
    two rows backward for each step.
    """
    options = options or LdceOptions()
    if not len(x) == len(target) == len(cond) == len(seeds) or (told is not None and len(told) != len(x)):
        raise ValueError(
            f"need one target, condition and seed per image, got {len(target)}, {len(cond)}, {len(seeds)} for {len(x)}"
            + ("" if told is None else f", and {len(told)} conditions that name the targets")
        )
    chain, depth, decode = Chain.of(diffusion, options.kept), depth_at(diffusion, options.kept, options.signal), decode or pixels
    with torch.no_grad():
        original = decode(x) / 2 + 0.5

    def run(rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, None, int]:
        mine = [seeds[row] for row in rows.tolist()]
        task = LdceTask(
            chain=chain,
            depth=depth,
            untold=predictor(diffusion, chain, cond[rows], jacobian=options.jacobian),
            told=None if told is None else predictor(diffusion, chain, told[rows], jacobian=options.jacobian),
            x=x[rows].detach(),
            original=original[rows],
            target=target[rows],
            judge=judge,
            decode=decode,
            options=options,
        )
        classes, distances = zip(*options.weights, strict=True)
        weights = on_ladder((*classes,), places), on_ladder((*distances,), places.clamp(min=0))
        found = descend(task, weights, start_noise(mine, x.shape[1:]).to(x))
        return found, None, len(rows) * depth * (1 if told is None else 2)

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


def descend(task: LdceTask, weights: Weights, noise: Latents) -> Latents:
    """One attempt: from the noised originals down by DDIM, guided at every step.  The last clean estimate, not clipped."""
    chain, options = task.chain, task.options
    z = chain.noised(task.x, task.depth - 1, noise)
    for index in reversed(range(task.depth)):
        with torch.no_grad():  # by the way that eps goes: their difference is small
            named = None if task.told is None else task.told(z, index)[0]
        eps, towards, away = _gradients(task, z, index)
        score = -towards  # as noise; the paper's factor sqrt(1 - alpha_bar) changes neither angles nor directions
        if named is None:
            length = options.share * norms(eps)
        else:
            score, length = agreed(score, named - eps, math.radians(options.degrees), options.consensus), norms(named - eps)
        class_weight, distance_weight = (rowwise(length * weight, z) for weight in weights)
        push = class_weight * unit(score) + distance_weight * unit(away)
        z = _step(chain, z, eps + options.scale * push, index)
    return z


def agreed(score: Latents, implicit: Latents, radians: float, consensus: Consensus = "zero") -> Latents:
    """The classifier's score where the implicit classifier agrees, location by location over channels; of no particular length.

    Agreement is an angle of at most ``radians`` between the two; a location where either is zero says nothing and stays zero.
    """
    if consensus == "image":
        return cone(score, implicit, radians)
    n, c, h, w = score.shape
    ours, theirs = (each.permute(0, 2, 3, 1).reshape(-1, c, 1, 1) for each in (score, implicit))
    heard = (norms(ours) > TINY) & (norms(theirs) > TINY)
    if consensus == "zero":
        found = ours * rowwise((heard & (angle(ours, theirs) <= radians)).to(ours), ours)
    else:
        found = cone(ours, theirs, radians) * rowwise(heard * norms(ours), ours)
    return found.view(n, h, w, c).permute(0, 3, 1, 2)


def _gradients(task: LdceTask, z: Latents, index: int) -> tuple[Latents, Latents, Latents]:
    """The noise estimate, and at its clean one the gradients of the target's log-probability and of the summed distance to the original."""
    kept, through = float(task.chain.alpha_bars[index]), task.options.jacobian
    with torch.enable_grad():
        state = z.detach().requires_grad_(through)
        eps, _ = task.untold(state, index)
        clean = (state - math.sqrt(1 - kept) * eps) / math.sqrt(kept)
        of = state if through else clean.requires_grad_()
        images = task.decode(clean) / 2 + 0.5  # not clipped for the judge: a clipped pixel has no gradient
        wanted = task.judge(images).log_softmax(1).gather(1, task.target[:, None]).sum()
        (towards,) = torch.autograd.grad(wanted, of, retain_graph=True)
        distance = (images.clamp(0, 1) - task.original).abs().sum()
        return eps.detach(), towards, torch.autograd.grad(distance, of)[0]


def _step(chain: Chain, z: Latents, eps: Latents, index: int) -> Latents:
    """One index down for a noise estimate, without fresh noise (Song et al. 2021, eq. 12); from index 0 the clean estimate."""
    kept = float(chain.alpha_bars[index])
    after = float(chain.alpha_bars[index - 1]) if index else 1.0
    clean = (z - math.sqrt(1 - kept) * eps) / math.sqrt(kept)
    return math.sqrt(after) * clean + math.sqrt(1 - after) * eps

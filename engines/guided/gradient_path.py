"""Pictures whose gradient reaches the prompt: how far back through the sampler it goes, and what is remembered for it.

``full`` and ``last_k``: AlignProp's K (Prabhudesai et al. 2023); ``truncated``: its random start, N(42, 5) of 50 steps, as shares of our
steps; ``shortcut``: DPO-Diff (Wang et al. 2024), a jump from step 15 + iteration / 2 of 50 to the clean estimate there.  The prompt acts in
every step; only what is differentiated differs.  Since nothing but the prompt has a gradient, steps before the first one of the path are
plain evaluations, and any sampler of one evaluation a step will do, also one that adds noise: it is the same for the same seed.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engines.conditioning import Conditioning
from engines.guided.edits import Decode, Images, shown
from engines.noise import start_noise, step_noise
from engines.protocols import ConditionalDenoiser
from engines.samplers import Sampler, StochasticSampler, sample_ddim

Prompt = Float[Tensor, "n d"]
Latents = Float[Tensor, "n c h w"]
Path = Literal["full", "last_k", "truncated", "shortcut"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptedGenerator:
    """A frozen generator that can be differentiated in what it is told."""

    encode: Callable[[Prompt], Conditioning]
    """Soft tokens (n d), at the level of token embeddings, to one row of conditioning: the text encoder with its prefix and padding."""
    denoise: ConditionalDenoiser
    decode: Decode
    """Latents to images (n 3 h w) in [-1, 1]."""
    sigmas: tuple[float, ...]
    """Levels from the noisiest to the last, 0 but for schedulers that end before it: one step less than there are levels."""
    shape: tuple[int, int, int]
    """Of one latent (c h w)."""
    sampler: Sampler = sample_ddim
    """Deterministic, one evaluation a step."""
    fresh: StochasticSampler | None = None
    """Taken instead where there is one; what it adds follows from the seeds."""
    start: float | None = None
    """What sampling starts from, times standard normal noise; the noisiest level unless said."""
    device: torch.device | None = None
    """Where pictures are drawn; where the prompt is unless said."""

    def __post_init__(self) -> None:
        if len(self.sigmas) < 2 or self.sigmas[-1] < 0 or min(self.sigmas[:-1]) <= 0:
            raise ValueError(f"levels run from the noisiest down to 0, got {self.sigmas}")

    @property
    def steps(self) -> int:
        """Network calls of one picture."""
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class Reach:
    """Which steps of the sampler are taken, and which are differentiated; counted from 0."""

    first: int
    """The first step with a gradient."""
    last: int
    """The last step that is taken; it goes to its clean estimate."""


def reach(path: Path, steps: int, *, keep: int = 1, iteration: int = 0, seed: int = 0) -> Reach:
    """How far a gradient goes in one iteration; ``keep`` is K of ``last_k``, ``seed`` draws the start of ``truncated``.

    >>> reach("last_k", 4, keep=2), reach("shortcut", 50, iteration=7)
    (Reach(first=2, last=3), Reach(first=18, last=18))
    """
    if path not in get_args(Path):
        raise ValueError(f"path {path!r} is unknown; use {', '.join(get_args(Path))}")
    last = steps - 1
    if path == "shortcut":
        there = min(last, int(0.3 * steps) + iteration // 2)
        return Reach(there, there)
    if path == "truncated":
        start = round(float(np.random.default_rng((seed, iteration)).normal(0.84 * steps, 0.1 * steps)))
        return Reach(min(max(start, 0), last), last)
    if path == "last_k" and not 1 <= keep <= steps:
        raise ValueError(f"a gradient goes through 1 to {steps} steps, got {keep}")
    return Reach(steps - keep if path == "last_k" else 0, last)


def picture(
    generator: PromptedGenerator,
    prompt: Prompt,
    seeds: Sequence[int],
    to: Reach | None = None,
    *,
    checkpointed: bool = True,
    count: Callable[[int], None] | None = None,
) -> Images:
    """One picture a seed, in [0, 1], of one prompt; differentiable in the prompt along the path (None: all of it).

    With ``checkpointed`` every differentiated network call and the decoder keep their inputs only and are run again for the gradient: one
    more evaluation for the memory of one step rather than of all.  ``count`` is told the rows of every evaluation, repeated ones included.
    """
    to = to or Reach(0, generator.steps - 1)
    device = generator.device or prompt.device
    cond = generator.encode(prompt).to(device).expand(len(seeds))
    calls = itertools.count()

    def network(x: Latents, sigma: Float[Tensor, " n"]) -> Latents:
        if count is not None:
            count(len(x))
        return generator.denoise(x, sigma, cond)

    def denoise(x: Latents, sigma: Float[Tensor, " n"]) -> Latents:
        if next(calls) < to.first:
            with torch.no_grad():
                return network(x, sigma)
        return _again(network, x, sigma) if checkpointed and torch.is_grad_enabled() else network(x, sigma)

    def noise(step: int) -> Latents:
        return step_noise(seeds, step, generator.shape)

    sigmas = generator.sigmas if to.last + 1 == generator.steps else (*generator.sigmas[: to.last + 1], 0.0)
    scale = sigmas[0] if generator.start is None else generator.start
    start = scale * start_noise(seeds, generator.shape).to(device, prompt.dtype)
    if generator.fresh is None:
        clean = generator.sampler(denoise, start, sigmas, None)
    else:
        clean = generator.fresh(denoise, start, sigmas, noise, None)
    if checkpointed and torch.is_grad_enabled():
        return _again(lambda latents: shown(generator.decode, latents), clean)
    return shown(generator.decode, clean)


def _again(run: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    found: Tensor = checkpoint(run, *inputs, use_reentrant=False)
    return found

"""How FastDiME edits: depth of the noise, strength of the judge, where it may act."""

from dataclasses import dataclass
from typing import Literal, get_args

from engines.guided.chain import Variance
from engines.guided.judge import Push
from engines.guided.masks import check_mask

Passes = Literal["masked", "plain", "two", "two_plus"]
"""FastDiME, FastDiME without a mask, FastDiME-2 (the mask from a first run without), FastDiME-2+ (from a first run with one)."""

Inner = Literal["stochastic", "mean"]
"""Whether the loop inside adds noise, as published, or takes means only."""


@dataclass(frozen=True, kw_only=True)
class FastDimeOptions:
    """How far, how hard and where."""

    kept: int = 200
    """Steps of the respaced chain."""
    depth: int = 60
    """Steps of it that are undone; :func:`engines.guided.chain.depth_at` finds the one of the paper's noise level on other schedules."""
    class_scales: tuple[float, ...] = (8.0, 10.0, 15.0)
    """Tried in this order, each on the images that have not flipped yet.  The paper's are for pixels; what a latent needs depends on its
    decoder and is often ten times as much: find it on a few images."""
    distance: float = 0.05
    """Weight of the L1 distance between the noisy state and the original; 0 turns it off."""
    likeness: float = 30.0
    """Weight of the caller's own distance, where one is given."""
    distance_steps: int | None = None
    """Steps in which distances act; all when None."""
    inner: Inner | None = None
    """DiME's clean estimate: the whole rest of the chain from every state, in place of the estimate that the step has made already."""
    guided_steps: int | None = None
    """Steps that are guided at all; the rest only denoises.  All when None."""
    bisections: int = 0
    """How often the class scale is halved back towards the last failure once an image has flipped."""
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
        if self.passes not in get_args(Passes):
            raise ValueError(f"passes {self.passes!r} is unknown; use {', '.join(get_args(Passes))}")
        if self.inner not in (None, *get_args(Inner)):
            raise ValueError(f"inner {self.inner!r} is unknown; use {', '.join(get_args(Inner))}, or None")
        if self.bisections < 0:
            raise ValueError(f"bisections are counted from 0, got {self.bisections}")
        check_mask(self.threshold, self.dilation)
        if not 0 <= self.confidence < 1:
            raise ValueError(f"confidence is a probability below 1, got {self.confidence}")

    @property
    def from_step(self) -> int:
        """First step at which the mask acts."""
        return self.depth // 2 if self.warmup is None else self.warmup

    @property
    def network_calls(self) -> int:
        """Network rows of one image in one pass: one a step, and as many more as are below it where an inner loop takes each of them down."""
        if self.inner is None:
            return self.depth
        return self.depth + sum(index for step, index in enumerate(reversed(range(self.depth))) if self.guides(step))

    def guides(self, step: int) -> bool:
        """Whether a step, counted from 0, is guided."""
        return self.guided_steps is None or step < self.guided_steps


DIME = FastDimeOptions(
    passes="plain", inner="stochastic", through_noise=True, push="log_odds", as_released=True, class_scales=(8.0, 10.0, 15.0)
)
"""DiME as released: whole inner loops, raw logits, no mask; depth * (depth + 1) / 2 = 1830 network rows an attempt."""

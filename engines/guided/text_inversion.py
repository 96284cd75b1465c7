"""Counterfactuals by words alone: TIME (Jeanneret et al., "Text-to-image models for counterfactual explanations: a black-box approach", 2024).

An image is inverted exactly as what the model says it is, and drawn again as what the model is to say, with guidance from one to the other.
The model is asked once per try and never differentiated.  Followed: EDICT, the ladder of depths, the first flip kept, else the last try.
Ours: correct for any batch; the deeper rungs go on from where the one before had inverted to, which gives the same numbers for less.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.edict import MIXING, ROWS_A_STEP, Coupled, between, coupled, denoised, inverted, steps_of
from engines.guided.edits import Accept, Decode, GuidedEdits, Latents, pixels, search
from engines.guided.masks import Mask


@dataclass(frozen=True, kw_only=True)
class TextInversionOptions:
    """How far and how hard."""

    ladder: tuple[tuple[int, float], ...] = ((15, 4.0), (20, 4.0), (25, 4.0), (35, 4.0))
    """(steps up and down again, strength of guidance), tried in this order, each on the images that have not flipped yet."""
    steps: int = 50
    """Of the whole way to noise."""
    mixing: float = MIXING
    confidence: float = 0.0
    """Least probability of the target, besides being the likeliest class, for a flip; labels alone suffice at 0."""

    def __post_init__(self) -> None:
        if not self.ladder or not all(1 <= depth <= self.steps for depth, _ in self.ladder):
            raise ValueError(f"a ladder has rungs of 1 to {self.steps} steps, got {self.ladder}")
        if not 0.5 < self.mixing <= 1 or not 0 <= self.confidence < 1:
            raise ValueError(f"mixing lies in (0.5, 1], confidence in [0, 1), got {self.mixing} and {self.confidence}")

    def network_rows(self, attempts: int) -> int:
        """Of one image that took so many rungs."""
        return sum(self.rows_of(rung) for rung in range(attempts))

    def rows_of(self, rung: int) -> int:
        """Of one rung, after those before."""
        depth, _ = self.ladder[rung]
        return ROWS_A_STEP * (2 * depth - (self.ladder[rung - 1][0] if self.goes_on(rung) else 0))

    def goes_on(self, rung: int) -> bool:
        """Whether a rung's way up is that of the one before, and more."""
        return rung > 0 and self.ladder[rung][1] == self.ladder[rung - 1][1] and self.ladder[rung][0] >= self.ladder[rung - 1][0]


def text_inversion(
    diffusion: Diffusion,
    x: Latents,
    target: Int[Tensor, " n"],
    original: Conditioning,
    wanted: Conditioning,
    *,
    accept: Accept,
    decode: Decode | None = None,
    options: TextInversionOptions | None = None,
    batch: int | None = None,
) -> GuidedEdits:
    """Draw images, told as ``original`` row by row, again as ``wanted``, until ``accept`` says the target.

    ``decode`` is None over pixels; ``batch`` images are edited at once, all when None.
    """
    options = options or TextInversionOptions()
    run = _Ladder(diffusion, x, original, wanted, options).run
    return search(
        x,
        target,
        run,
        len(options.ladder),
        accept=accept,
        decode=decode or pixels,
        confidence=options.confidence,
        batch=batch,
    )


class _Ladder:
    """Remembers where each image was inverted to."""

    def __init__(
        self, diffusion: Diffusion, x: Latents, original: Conditioning, wanted: Conditioning, options: TextInversionOptions
    ) -> None:
        self.diffusion, self.x, self.original, self.wanted, self.options = diffusion, x, original, wanted, options
        self.steps = steps_of(diffusion, options.steps)
        self.reached: dict[int, Coupled] = {}

    def run(self, rows: Int[Tensor, " m"], places: Float[Tensor, " m"]) -> tuple[Latents, Mask | None, int]:
        found, spent = self.x[rows].clone(), 0
        for rung, at in _by_rung(places):
            found[at] = self.attempt([int(rows[place]) for place in at], rung)
            spent += len(at) * self.options.rows_of(rung)
        return found, None, spent

    def attempt(self, rows: list[int], rung: int) -> Latents:
        depth, scale = self.options.ladder[rung]
        first, own, other = 0, self.original[rows], self.wanted[rows]
        if self.options.goes_on(rung):
            first = self.options.ladder[rung - 1][0]
            pair = Coupled(*(torch.stack(each) for each in zip(*(self.reached[row] for row in rows), strict=True)))
        else:
            pair = coupled(self.x[rows])
        mixing = self.options.mixing
        pair = inverted(between(self.diffusion, own, other, scale), pair, self.steps[first:depth], mixing)
        self.reached |= {row: Coupled(pair.u[at], pair.v[at]) for at, row in enumerate(rows)}
        return denoised(between(self.diffusion, other, own, scale), pair, self.steps[:depth], mixing).u.to(self.x.dtype)


def _by_rung(places: Float[Tensor, " m"]) -> Iterator[tuple[int, list[int]]]:
    """Images of one batch may stand on different rungs."""
    rung: Callable[[int], int] = lambda at: round(float(places[at]))  # noqa: E731
    return ((key, list(group)) for key, group in groupby(sorted(range(len(places)), key=rung), key=rung))

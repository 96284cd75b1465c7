"""What guided edits return, and the search for the least strength that flips an image.

Every attempt of a method takes the same number of steps, whatever its strength.  So attempts of different images at different strengths
share a batch, and a slot whose image is done is filled with the next one's attempt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engines.guided.judge import Judge
from engines.guided.masks import Mask

Latents = Float[Tensor, "n c h w"]
Images = Float[Tensor, "n 3 H W"]
Decode = Callable[[Latents], Images]
"""Latents -> images in [-1, 1], differentiable."""
Run = Callable[[Int[Tensor, " m"], Float[Tensor, " m"]], tuple[Latents, Mask | None, int]]
"""(rows of x, place of each on the ladder of strengths) -> latents, where they may differ, network rows.  Place 0 is the first rung, -1 no
push at all; between rungs strengths are interpolated."""
Accept = Callable[[Images, Int[Tensor, " m"], Int[Tensor, " m"]], Float[Tensor, " m"]]
"""(images as stored, target, rows of x) -> the target's probability where it is the likeliest class, else minus that probability.

Whoever has the last word: the deployed server where there is one, else the judge.
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class GuidedEdits:
    """What became of each image."""

    images: Images
    """In [0, 1], at multiples of 1/255: as they are stored and sent."""
    latents: Latents
    """Before decoding, not clipped."""
    success: Bool[Tensor, " n"]
    """Whether the target was accepted for ``images``; failures hold the result of the last strength, or of the last one for which the
    target was at least the likeliest class."""
    reached: Bool[Tensor, " n"]
    """Whether it was the likeliest class, however likely."""
    probability: Float[Tensor, " n"]
    """Of the target, by whoever accepted."""
    attempts: Int[Tensor, " n"]
    """Strengths tried."""
    mask: Mask
    """Where an image may differ from its original, in the space that is denoised."""
    network_rows: int
    """Rows that the denoising network evaluated."""
    free: Bool[Tensor, " n"]
    """Whether an attempt that pushed nothing was enough."""
    floor: Images | None = None
    """The same without a push, from methods whose first attempt is that: what an edit changes beyond it is the guidance's doing."""


@dataclass
class _Search:
    """Where one image stands: the strongest place that failed, the weakest that flipped, and what is left to try."""

    failed: float = -1.0
    flipped: float | None = None
    bisections: int = 0
    waiting: bool = field(default=True)

    def place(self) -> float:
        return self.failed + 1 if self.flipped is None else (self.failed + self.flipped) / 2


def search(
    x: Latents,
    target: Int[Tensor, " n"],
    run: Run,
    rungs: int,
    *,
    accept: Accept,
    decode: Decode,
    confidence: float,
    bisections: int = 0,
    batch: int | None = None,
    free_first: bool = False,
) -> GuidedEdits:
    """The first rung that flips each image, then halfway back ``bisections`` times, keeping the weakest flip.

    ``batch`` attempts run at once, all when None.  A failure keeps the result of the last rung, or of the last one for which the target was at
    least the likeliest class.  ``free_first``: the first rung pushes nothing, so where it flips nothing weaker is looked for.
    """
    latents, mask = x.clone(), torch.ones_like(x[:, :1], dtype=torch.bool)
    images, attempts = stored(decode, x), torch.zeros_like(target)
    success, probability = torch.zeros_like(target, dtype=torch.bool), torch.zeros(len(x), device=x.device)
    free, reached = torch.zeros_like(success), torch.zeros_like(success)
    searches, spent = [_Search() for _ in range(len(x))], 0
    while waiting := [row for row, state in enumerate(searches) if state.waiting][:batch]:
        rows = torch.tensor(waiting, device=x.device)
        places = torch.tensor([searches[row].place() for row in waiting], device=x.device)
        found, allowed, network_rows = run(rows, places)
        shown = stored(decode, found)
        told = accept(shown, target[rows], rows)
        spent += network_rows
        attempts[rows] += 1
        for at, row in enumerate(waiting):
            flipped = float(told[at]) > 0 and float(told[at]) >= confidence
            likeliest = float(told[at]) > 0
            if flipped or not (success[row] or (reached[row] and not likeliest)):  # a failure leaves what is better and there
                latents[row], images[row], probability[row] = found[at], shown[at], told[at].abs()
                success[row], reached[row] = flipped, likeliest
                free[row] = flipped and free_first and float(places[at]) <= 0
                if allowed is not None:
                    mask[row] = allowed[at]
            _advance(searches[row], float(places[at]), rungs, 0 if free[row] else bisections, flipped=flipped)
    return GuidedEdits(
        images=images,
        latents=latents,
        success=success,
        reached=reached,
        probability=probability,
        attempts=attempts,
        mask=mask,
        network_rows=spent,
        free=free,
    )


def accepted_by(judge: Judge) -> Accept:
    """The judge's own word, where no server is asked."""

    def accept(images: Images, target: Int[Tensor, " m"], _rows: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        with torch.no_grad():
            p = judge(images).softmax(1)
        own = p.gather(1, target[:, None])[:, 0]
        return torch.where(p.argmax(1) == target, own, -own)

    return accept


def on_ladder(rungs: Sequence[float], places: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Strengths at places of a ladder: 0 at -1, the rungs at 0, 1, ..., linear between.

    >>> on_ladder((8.0, 10.0, 15.0), torch.tensor([-0.5, 0.0, 1.5]))
    tensor([ 4.0000,  8.0000, 12.5000])
    """
    steps = torch.tensor([0.0, *rungs]).to(places)
    low = (places + 1).floor().clamp(0, len(rungs) - 1)
    share = places + 1 - low
    return steps[low.long()] * (1 - share) + steps[low.long() + 1] * share


def shown(decode: Decode, latents: Latents) -> Images:
    """Decoded, in [0, 1]."""
    return (decode(latents) / 2 + 0.5).clamp(0, 1)


def stored(decode: Decode, latents: Latents) -> Images:
    """Decoded and rounded to 8 bits: a flip that only holds before rounding is none.  What is no number, by a gradient that was none, is black."""
    with torch.no_grad():
        return shown(decode, latents).nan_to_num().mul(255).round() / 255


def pixels(x: Latents) -> Images:
    """The decoder of a diffusion over pixels: grey images become colours."""
    return x.expand(-1, 3, -1, -1)


def _advance(state: _Search, place: float, rungs: int, bisections: int, *, flipped: bool) -> None:
    if state.flipped is not None:
        state.bisections += 1
    if flipped:
        state.flipped = place
    else:
        state.failed = place
    # A first rung that flips leaves [nothing, first rung] to look through; a last one that does not ends the search.
    done = state.flipped is None and place >= rungs - 1
    state.waiting = not done and (state.flipped is None or state.bisections < bisections)

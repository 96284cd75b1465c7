"""Edits of inverted images along differences of predictions, several concepts at once, each where it matters.

After LEDITS++ (Brack et al., CVPR 2024): out = base + sum_k M_k sign_k scale_k (out_k - base).  Ours: composed in the network's raw output,
which is the same since estimates are affine in it, and which needs no division where an image is all noise; without attention maps the
masks are those of the change alone.  With a single term, no mask and an inversion by few steps it is TurboEdit (Deutch et al. 2024).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.editing.inversion import Inversion
from engines.editing.masks import AttentionMaps, change_mask, token_mask
from engines.editing.predictor import Predictor

Latents = Float[Tensor, "n c h w"]
Mask = Float[Tensor, "n h w"]

_NOISY = 0.8
"""Above this share of the timesteps a change of prediction says little about places, and attention alone decides."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EditTerm:
    """One concept, added or removed."""

    conditioning: Conditioning
    """What the network is told of it: one row, or one an image."""
    scale: float = 5.0
    """How strongly; 0 is no edit."""
    sign: int = 1
    """1 adds the concept, -1 removes it."""
    threshold: float = 0.75
    """Share of positions that each mask leaves out, in [0, 1); 0 acts everywhere."""
    warm_up: int = 0
    """First step at which it acts."""
    cool_down: int | None = None
    """First step at which it acts no more; None is never."""
    user_mask: Float[Tensor, "m h w"] | None = None
    """Where it may act at all, in [0, 1], of the latents' size; one for all images, or one an image."""
    negative: Conditioning | None = None
    """What it is the opposite of (an image's present attributes); None is the source.  Costs a network row of its own."""
    tokens: int | None = None
    """Length of its prompt, for attention maps; None is all tokens but the first."""

    def __post_init__(self) -> None:
        if self.sign not in {1, -1}:
            raise ValueError(f"a term is added (sign 1) or removed (sign -1), got {self.sign}")
        if self.scale < 0 or not 0 <= self.threshold < 1:
            raise ValueError(f"a term needs scale >= 0 and 0 <= threshold < 1, got {self.scale} and {self.threshold}")

    def acts(self, k: int) -> bool:
        """Whether it has a say at step k."""
        return self.scale > 0 and self.warm_up <= k and (self.cool_down is None or k < self.cool_down)

    @property
    def told(self) -> tuple[Conditioning, ...]:
        """What the network is asked at each step at which the term acts."""
        return (self.conditioning,) if self.negative is None else (self.conditioning, self.negative)


@dataclass(frozen=True, eq=False)
class Edited:
    """What became of inverted images."""

    latents: Latents
    masks: tuple[Mask, ...]
    """Where each term acted, mean over the steps at which it did, in [0, 1]."""
    rows: int
    """Network rows spent on all images."""


def rows_per_edit(terms: Sequence[EditTerm], steps: int) -> int:
    """Network rows that one image's edit costs; none where no term acts, none for the base until one has."""
    rows, left = 0, False
    for k in range(steps):
        acting = [term for term in terms if term.acts(k)]
        rows += left + sum(len(term.told) for term in acting)
        left = left or bool(acting)
    return rows


def null(predictor: Predictor, inversion: Inversion) -> Latents:
    """The images drawn again with nothing changed: the reference of every edit.  Asks the network for nothing."""
    return edit(predictor, inversion, ()).latents


@torch.no_grad()
def edit(
    predictor: Predictor, inversion: Inversion, terms: Sequence[EditTerm], *, attention: AttentionMaps | None = None
) -> Edited:
    """Draw inverted images with terms added and removed: the noise is the inversion's, whatever the terms.

    One call to the network a step, the rows of the base first.  ``attention`` gives the cross-attention maps of that call.  Raises ValueError
    for conditioning or masks that do not fit the images.
    """
    for term in terms:
        check_term(term, inversion.start)
    grid, x, before, left, rows = inversion.grid, inversion.start, None, False, 0
    masks: list[list[Mask]] = [[] for _ in terms]
    for k, t in enumerate(grid.times):
        acting = [number for number, term in enumerate(terms) if term.acts(k)]
        told = ([inversion.source] if left else []) + [each for number in acting for each in terms[number].told]
        outputs = _asked(predictor, x, t, told)
        maps = list(attention().chunk(len(told))) if attention is not None and acting else []
        rows += len(told) * len(x)
        output = base = outputs[0] if left else inversion.predictions[:, k]
        place = int(left)
        for number in acting:
            term = terms[number]
            against = base if term.negative is None else outputs[place + 1]
            change = term.sign * term.scale * (outputs[place] - against)
            moved, mask = _masked(term, change, maps[place] if maps else None, noisy=t > _NOISY * grid.timesteps)
            output = output + moved
            masks[number].append(mask)
            place += len(term.told)
        now = predictor.estimate(x, output, grid.alpha_bars[k])
        x = inversion.rule.mean(grid, k, x, now, before) + inversion.residuals[:, k]
        before, left = now.clean, left or bool(acting)
    return Edited(x, tuple(mean_mask(each, inversion.start) for each in masks), rows)


def _masked(term: EditTerm, change: Latents, maps: Float[Tensor, "n tokens h w"] | None, *, noisy: bool) -> tuple[Latents, Mask]:
    """A change where it matters, and where that is: M1 by attention, M2 by the change itself, or both."""
    if term.user_mask is not None:
        change = change * term.user_mask[:, None]
    mask = torch.ones_like(change[:, 0]) if term.user_mask is None else term.user_mask.expand_as(change[:, 0])
    if maps is not None:
        mask = mask * token_mask(maps.to(change), term.tokens, term.threshold, (change.shape[2], change.shape[3]))
    if maps is None or not noisy:
        mask = mask * change_mask(change, term.threshold)
    return change * (mask > 0)[:, None], mask


def _asked(predictor: Predictor, x: Latents, t: int, told: Sequence[Conditioning]) -> list[Latents]:
    """One output for each thing the network is told, from a single call."""
    if not told:
        return []
    rows = [each if len(each) == len(x) else each.expand(len(x)) for each in told]
    return list(predictor.output(torch.cat([x] * len(rows)), t, Conditioning.cat(rows)).chunk(len(rows)))


def mean_mask(masks: Sequence[Mask], like: Latents) -> Mask:
    """Over steps; nothing where there were none."""
    return torch.stack(list(masks)).mean(0) if masks else torch.zeros_like(like[:, 0])


def check_term(term: EditTerm, latents: Latents) -> None:
    """Raise ValueError for conditioning or a mask that does not fit images (n c h w)."""
    fit, size = {1, len(latents)}, latents.shape[-2:]
    if any(len(each) not in fit for each in term.told):
        raise ValueError(f"a term needs one row of conditioning, or one for each of {len(latents)} images")
    if term.user_mask is not None and (len(term.user_mask) not in fit or term.user_mask.shape[1:] != size):
        raise ValueError(f"a user mask must be (1 or {len(latents)}, {size[0]}, {size[1]}), got {tuple(term.user_mask.shape)}")

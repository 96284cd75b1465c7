"""Edits with a flow and without inversion: FlowEdit (Kulikov et al. 2024).

The source's noised states z_s = (1 - s) x + s n and the edit's z_s + (Z - x) are moved along the difference of their velocities:
dZ/ds = v(z_s + Z - x; target) - v(z_s; source).  As long as nothing acts Z = x, so that the null edit is exact.  Ours: several terms, each
v_k - v(source) with the sign, the masks and the steps of :class:`engines.editing.edit.EditTerm`; a single plain term is the paper's.
A term's scale is the guidance towards its target, and thus not a strength that starts at none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.editing.edit import Edited, EditTerm, check_term, mean_mask
from engines.editing.masks import Map, change_mask
from engines.noise import step_noise
from engines.process import Velocity

Latents = Float[Tensor, "n c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowPath:
    """What the source's velocities are on the way, once for all edits; rows are images."""

    x_0: Latents
    velocities: Float[Tensor, "n k c h w"]
    """Of the source, guided, at every level but the last."""
    levels: tuple[float, ...]
    """Shares of noise, descending, the last one 0."""
    guidance: float
    """Towards the source."""
    source: Conditioning
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.x_0)

    def __getitem__(self, rows: slice) -> "FlowPath":
        """Some of the images."""
        return replace(self, x_0=self.x_0[rows], velocities=self.velocities[rows], source=self.source[rows], seeds=self.seeds[rows])

    def to(self, device: torch.device) -> "FlowPath":
        """The same elsewhere."""
        return replace(self, x_0=self.x_0.to(device), velocities=self.velocities.to(device), source=self.source.to(device))

    @classmethod
    def cat(cls, parts: Sequence["FlowPath"]) -> "FlowPath":
        """The images of all parts in order; every part has the same levels and guidance."""
        first = parts[0]
        if any((part.levels, part.guidance) != (first.levels, first.guidance) for part in parts):
            raise ValueError("paths over different levels or guidance cannot be joined; trace all images by one operator")
        return replace(
            first,
            x_0=torch.cat([part.x_0 for part in parts]),
            velocities=torch.cat([part.velocities for part in parts]),
            source=Conditioning.cat([part.source for part in parts]),
            seeds=tuple(seed for part in parts for seed in part.seeds),
        )

    def noised(self, k: int) -> Latents:
        """The source at level k, by the noise of each image's seed and of that level."""
        return torch.lerp(self.x_0, step_noise(self.seeds, k, self.x_0.shape[1:]).to(self.x_0), self.levels[k])


@torch.no_grad()
def trace(
    velocity: Velocity,
    x_0: Latents,
    seeds: Sequence[int],
    levels: Sequence[float],
    source: Conditioning,
    *,
    null: Conditioning | None = None,
    guidance: float = 3.5,
) -> FlowPath:
    """The source's side of every edit.  Costs a network row an image and step, and one more where it is guided.

    ``source`` has one row, or one an image; ``null`` is the row that guidance starts from, and needed unless it is 1.
    """
    if len(seeds) != len(x_0):
        raise ValueError(f"need one seed per image, got {len(x_0)} images and {len(seeds)} seeds")
    if len(levels) < 2 or levels[-1] != 0 or any(not 1 >= high > low for high, low in pairwise(levels)):
        raise ValueError(f"levels go down from at most 1 to 0, got {tuple(levels)}")
    _check_guidance(guidance, null)
    told = source if len(source) == len(x_0) else source.expand(len(x_0))
    empty = torch.empty((len(x_0), 0, *x_0.shape[1:])).to(x_0)
    path = FlowPath(x_0=x_0, velocities=empty, levels=tuple(levels), guidance=guidance, source=told, seeds=tuple(seeds))
    found = [_guided(velocity, path.noised(k), levels[k], [(told, guidance)], null)[0] for k in range(len(levels) - 1)]
    return replace(path, velocities=torch.stack(found, 1))


@torch.no_grad()
def flow_edit(velocity: Velocity, path: FlowPath, terms: Sequence[EditTerm], *, null: Conditioning | None = None) -> Edited:
    """Move images along differences of velocities; one call to the network a step.  Raises ValueError for terms that do not fit."""
    for term in terms:
        check_term(term, path.x_0)
        if term.negative is not None:
            raise ValueError("a term of a flow has no negative, since its source is what it differs from; leave it out")
        _check_guidance(term.scale or 1.0, null)
    z, left, rows = path.x_0, False, 0
    masks: list[list[Map]] = [[] for _ in terms]
    for k, (s, s_next) in enumerate(pairwise(path.levels)):
        acting = [number for number, term in enumerate(terms) if term.acts(k)]
        if not acting and not left:
            continue  # both states and both velocities are still the same
        state = path.noised(k) + (z - path.x_0)
        own = left and not _plain([terms[number] for number in acting])
        asked = [(path.source, path.guidance)] if own else []
        asked += [(terms[number].conditioning, terms[number].scale) for number in acting]
        rows += len(z) * _rows([strength for _, strength in asked])
        found = _guided(velocity, state, s, asked, null)
        source = path.velocities[:, k]  # where the edit has left it, only a stand-in that cancels
        if own:
            source = found.pop(0)
        change = source - path.velocities[:, k]
        for number, target in zip(acting, found, strict=True):
            moved, mask = _masked(terms[number], target - source)
            change = change + moved
            masks[number].append(mask)
        z = z + (s_next - s) * change
        left = True
    return Edited(z, tuple(mean_mask(each, path.x_0) for each in masks), rows)


def flow_rows_per_edit(terms: Sequence[EditTerm], steps: int, guidance: float = 3.5) -> int:
    """Network rows that one image's edit costs."""
    rows, left = 0, False
    for k in range(steps):
        acting = [term for term in terms if term.acts(k)]
        strengths = [term.scale for term in acting] + ([guidance] if left and not _plain(acting) else [])
        rows += _rows(strengths)
        left = left or bool(acting)
    return rows


def _masked(term: EditTerm, change: Latents) -> tuple[Latents, Map]:
    change = term.sign * change if term.user_mask is None else term.sign * change * term.user_mask[:, None]
    mask = change_mask(change, term.threshold) if term.threshold else torch.ones_like(change[:, 0])
    return change * mask[:, None], mask if term.user_mask is None else mask * term.user_mask


def _plain(acting: Sequence[EditTerm]) -> bool:
    """Whether the source's velocity at the edit's state cancels: FlowEdit as published."""
    return len(acting) == 1 and acting[0].sign == 1 and acting[0].threshold == 0 and acting[0].user_mask is None


def _rows(strengths: Sequence[float]) -> int:
    return len(strengths) + any(strength != 1.0 for strength in strengths)


def _guided(
    velocity: Velocity, x: Latents, s: float, asked: Sequence[tuple[Conditioning, float]], null: Conditioning | None
) -> list[Latents]:
    """Guided velocities for each thing asked, from a single call; the null row is shared."""
    told = [each if len(each) == len(x) else each.expand(len(x)) for each, _ in asked]
    guided = null is not None and any(strength != 1.0 for _, strength in asked)
    if null is not None and guided:
        told.append(null.expand(len(x)))
    found = list(velocity(torch.cat([x] * len(told)), x.new_full([len(told) * len(x)], s), Conditioning.cat(told)).chunk(len(told)))
    if not guided:
        return found
    base = found.pop()
    return [each if strength == 1.0 else torch.lerp(base, each, strength) for each, (_, strength) in zip(found, asked, strict=True)]


def _check_guidance(guidance: float, null: Conditioning | None) -> None:
    if guidance != 1.0 and null is None:
        raise ValueError(f"guidance of {guidance} needs a null condition to start from, and this model has none; use 1")

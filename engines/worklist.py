"""Many chains of steps as one list of work: each batch holds (item, step) pairs of whichever items are ready, at whatever step.

For loops inside loops, such as denoising to the end inside every step of an edit (DiME): run item by item they leave most of every
batch empty.  Those with the longest way to go come first, which takes the fewest batches that any order can (Hu 1961, for chains):
max(longest chain, total steps / rows), rounded up.
"""

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Chain(Generic[K]):
    """Steps of one item, to be taken one after the other."""

    item: K
    state: Tensor
    """One row, without a batch."""
    steps: Float[Tensor, "steps k"]
    """What each step is told, for instance rows of a step table, or timesteps (steps 1)."""
    later: int = 0
    """Steps of the item that will follow when this chain has ended, as far as is known; decides who comes first."""

    def __post_init__(self) -> None:
        if len(self.steps) == 0:
            raise ValueError(f"the chain of item {self.item!r} has no steps; leave it out")


Advance = Callable[[Sequence[K], Float[Tensor, "n ..."], Float[Tensor, "n k"]], Float[Tensor, "n ..."]]
"""(items, their states, what their steps are told) -> the next states; an item is at most once in a batch."""

Follow = Callable[[K, Tensor], Chain[K] | None]
"""(item, state at the end of its chain) -> its next chain, or None when the state is its result."""


@dataclass(eq=False)
class _Walk(Generic[K]):
    chain: Chain[K]
    state: Tensor
    taken: int = 0

    @property
    def left(self) -> int:
        return len(self.chain.steps) - self.taken + self.chain.later


def run_worklist(chains: Iterable[Chain[K]], advance: Advance[K], rows: int, follow: Follow[K] | None = None) -> dict[K, Tensor]:
    """Take every chain to its end, at most ``rows`` steps at once; returns the last state of each item.

    Raises ValueError for two chains of one item.
    """
    listed = list(chains)
    walks = {chain.item: _Walk(chain, chain.state) for chain in listed}
    if len(walks) != len(listed) or rows < 1:
        raise ValueError(f"a work list has one chain per item and batches of a row or more, got {len(listed)} chains, {rows} rows")
    done: dict[K, Tensor] = {}
    while walks:
        batch = heapq.nlargest(rows, walks.values(), key=lambda walk: walk.left)
        told = torch.stack([walk.chain.steps[walk.taken] for walk in batch])
        states = advance([walk.chain.item for walk in batch], torch.stack([walk.state for walk in batch]), told)
        for walk, state in zip(batch, states.unbind(), strict=True):
            walk.state, walk.taken = state, walk.taken + 1
            if walk.taken == len(walk.chain.steps):
                _end(walk, walks, done, follow)
    return done


def _end(walk: _Walk[K], walks: dict[K, _Walk[K]], done: dict[K, Tensor], follow: Follow[K] | None) -> None:
    item = walk.chain.item
    chain = follow(item, walk.state) if follow is not None else None
    del walks[item]
    if chain is None:
        done[item] = walk.state
    else:
        walks[chain.item] = _Walk(chain, chain.state)

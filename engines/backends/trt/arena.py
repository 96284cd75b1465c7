"""Activation memory, one block per stream for all engines: what is put on one stream runs there one after another."""

from dataclasses import dataclass
from functools import cache
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from engines.errors import OutOfMemoryError
from engines.memory import out_of_memory

ALIGNMENT = 256
"""TensorRT's, in bytes."""


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of device memory; whoever captured something with it holds it."""

    memory: Tensor
    size: int

    @property
    def address(self) -> int:
        """The first that is aligned."""
        return -(-self.memory.data_ptr() // ALIGNMENT) * ALIGNMENT


class Arena:
    """Blocks by stream.  Shared by the engines of a device, which therefore need the memory of the largest only.

    They own it together: a block goes with the last that uses it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blocks: WeakValueDictionary[int, Block] = WeakValueDictionary()

    def block(self, stream: int, size: int) -> Block:
        """The stream's block, grown when it is smaller.  Call it with the stream current: its memory is reused in its order."""
        known = self._blocks.get(stream)
        if known is None or known.size < size:
            known = self.temporary(size)
            self._blocks[stream] = known
        return known

    def temporary(self, size: int) -> Block:
        """A block for one use.  While a graph is captured, its memory is the graph's own."""
        try:
            return Block(torch.empty(max(size, 1) + ALIGNMENT, dtype=torch.uint8, device=self._device), max(size, 1))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"no {size / 2**20:.0f} MiB of activation memory left on {self._device}; use smaller batches"
            ) from error


@cache
def shared_arena(device: torch.device) -> Arena:
    """The one of a device in this process."""
    return Arena(device)

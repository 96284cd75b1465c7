"""Rows of a batch that come from many places and go back there, without the batch being assembled twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.spec import TORCH_TYPES, TensorSpec

Rows = Mapping[str, Tensor]
"""Named tensors with the same number of rows."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a batch, and where their results go; both are views."""

    feeds: Rows
    outs: Rows

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))

    def rows(self, start: int, stop: int) -> "Part":
        """Some of these rows."""
        return Part(part_of(self.feeds, start, stop), part_of(self.outs, start, stop))


def part_of(rows: Rows, start: int, stop: int) -> Rows:
    """Views of some rows."""
    return {name: value[start:stop] for name, value in rows.items()}


def grouped(parts: Sequence[Part], limit: int) -> list[list[Part]]:
    """The same rows in the same order, in groups of ``limit`` rows; the last may have fewer."""
    groups: list[list[Part]] = []
    room = 0
    for part in parts:
        start = 0
        while start < len(part):
            if room == 0:
                groups.append([])
                room = limit
            stop = min(start + room, len(part))
            groups[-1].append(part.rows(start, stop))
            room -= stop - start
            start = stop
    return groups


def empty_rows(specs: Sequence[TensorSpec], rows: int, device: torch.device) -> Rows:
    """Memory for so many rows of each tensor."""
    return {each.name: torch.empty(rows, *each.row, dtype=TORCH_TYPES[each.dtype], device=device) for each in specs}


def gather(parts: Sequence[Part], buffers: Rows, size: int) -> int:
    """Copy all rows to the start of the buffers and repeat row 0 up to ``size``; returns how many rows were repeated.

    Row 0 and not zeros: real numbers, of which no network makes anything strange.
    """
    rows = sum(len(part) for part in parts)
    for name, buffer in buffers.items():
        torch.cat([part.feeds[name] for part in parts], out=buffer[:rows])
        buffer[rows:size] = buffer[0]
    return size - rows


def scatter(buffers: Rows, parts: Sequence[Part]) -> None:
    """Copy results to where they go."""
    lengths = [len(part) for part in parts]
    for name, buffer in buffers.items():
        for part, value in zip(parts, torch.split(buffer[: sum(lengths)], lengths), strict=True):
            part.outs[name].copy_(value)

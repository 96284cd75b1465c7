"""What a network is told about each row besides its noise: named tensors with one row per item, whatever the family of pipelines.

| family | tensors |
| --- | --- |
| Stable Diffusion 1.x, 2.x | ``context`` (n l d) |
| Stable Diffusion XL | ``context`` (n l d), ``text_embeds`` (n p), ``time_ids`` (n 6) |
| Stable Diffusion 3 | ``context`` (n l d), ``pooled`` (n p) |
| networks with guidance distilled in | ``timestep_cond`` (n g) as well |
| class-conditional | ``class_label`` (n), int64 |
| unconditional | none |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor

Rows = slice | Tensor | Sequence[int]
"""A slice, a mask (n) of bool, or numbers of rows."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Rows of named tensors; the rows of all belong together."""

    tensors: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    rows: int = 0
    """Only needed where there are no tensors to tell it."""

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in self.tensors.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"conditioning tensors must have one number of rows, got {sizes}")
        object.__setattr__(self, "rows", next(iter(sizes.values()), self.rows))

    @classmethod
    def of(cls, **tensors: Tensor) -> Self:
        """From tensors by name."""
        return cls(tensors)

    @classmethod
    def cat(cls, parts: "Sequence[Conditioning]") -> "Conditioning":
        """The rows of all parts in order; every part has the same names."""
        names = set(parts[0].tensors)
        if any(set(part.tensors) != names for part in parts):
            raise ValueError(f"conditioning of different kinds cannot share a batch: {[sorted(part.tensors) for part in parts]}")
        tensors = {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
        return cls(tensors, sum(part.rows for part in parts))

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(value.nbytes for value in self.tensors.values())

    def __len__(self) -> int:
        """Number of rows."""
        return self.rows

    def __getitem__(self, rows: Rows) -> "Conditioning":
        """Some of the rows, always as a batch."""
        if not self.tensors:
            index = rows.cpu() if isinstance(rows, Tensor) else rows
            return Conditioning(rows=len(torch.arange(self.rows)[index]))
        return Conditioning({name: value[rows] for name, value in self.tensors.items()})

    def expand(self, rows: int) -> "Conditioning":
        """One row, repeated; no copy is made."""
        if self.rows != 1:
            raise ValueError(f"only one row can be expanded, got {self.rows}")
        return Conditioning({name: value.expand(rows, *value.shape[1:]) for name, value in self.tensors.items()}, rows)

    def to(self, device: torch.device) -> "Conditioning":
        """The same rows elsewhere."""
        return Conditioning({name: value.to(device) for name, value in self.tensors.items()}, self.rows)

    def joined(self, other: "Conditioning") -> "Conditioning":
        """The same rows, told what ``other`` says as well; its one row holds for all."""
        return Conditioning({**self.tensors, **other.expand(self.rows).tensors}, self.rows)

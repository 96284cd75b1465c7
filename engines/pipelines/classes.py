"""What class-conditional and unconditional networks are told."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engines.conditioning import Conditioning


@dataclass(frozen=True)
class Classes:
    """Classes by number."""

    count: int
    null_class: int | None = None
    """The class that stands for none, from which guidance starts; None where the network was trained without one."""

    @property
    def null(self) -> Conditioning | None:
        """One row of the null class."""
        return None if self.null_class is None else _labels([self.null_class])

    def check(self, wanted: Sequence[str] | Sequence[int] | None) -> None:
        """Raise ValueError for the first class that is not there."""
        self._numbers(wanted)

    def encode(self, wanted: Sequence[str] | Sequence[int] | None, rows: int) -> Conditioning:
        """One row per class."""
        return _labels(self._numbers(wanted))

    def examples(self, rows: int) -> Conditioning:
        """All classes in turn."""
        return _labels([i % self.count for i in range(rows)])

    def _numbers(self, wanted: Sequence[str] | Sequence[int] | None) -> list[int]:
        if wanted is None:
            raise ValueError(f"this pipeline draws classes 0 to {self.count - 1}; name one for each seed")
        for each in wanted:
            if isinstance(each, str) or not 0 <= each < self.count:
                raise ValueError(f"this pipeline draws classes 0 to {self.count - 1}, got {each!r}")
        return [int(each) for each in wanted]


@dataclass(frozen=True)
class Unconditional:
    """Nothing to tell."""

    null: Conditioning | None = None

    def check(self, wanted: Sequence[str] | Sequence[int] | None) -> None:
        """Raise ValueError when something in particular is asked for."""
        if wanted is not None:
            raise ValueError(
                "this pipeline draws whatever its data were, and can be asked neither for captions nor for classes; pass None"
            )

    def encode(self, wanted: Sequence[str] | Sequence[int] | None, rows: int) -> Conditioning:
        """Rows that say nothing."""
        self.check(wanted)
        return Conditioning(rows=rows)

    def examples(self, rows: int) -> Conditioning:
        """The same."""
        return Conditioning(rows=rows)


def _labels(numbers: Sequence[int]) -> Conditioning:
    return Conditioning.of(class_label=torch.tensor(list(numbers), dtype=torch.int64))

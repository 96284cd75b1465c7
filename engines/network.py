"""A network before anybody has built it: with everything that building, judging and timing it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from engines.parity import Feeds
from engines.spec import EngineSpec, Precision


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a pipeline, or one that stands for its kind."""

    module: nn.Module
    spec: EngineSpec
    batches: Callable[[], Sequence[Feeds]]
    """Inputs that its engines are compared with the reference on."""

    def at(self, precision: Precision) -> "Network":
        """The same network at another precision."""
        return replace(self, spec=self.spec.at(precision))

    def feeds(self, rows: int, device: torch.device) -> Feeds:
        """A batch of so many rows, repeated from the first one that is compared."""
        first = self.batches()[0]
        which = torch.arange(rows) % len(next(iter(first.values())))
        return {name: value[which].to(device) for name, value in first.items()}

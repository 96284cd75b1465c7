"""The seams of the engine layer.  Latents are float32 ``(n, c, h, w)``; images inside are float32 RGB in [-1, 1]."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from engines.capability import Capability
from engines.conditioning import Conditioning
from engines.spec import EngineSpec

if TYPE_CHECKING:
    from engines.engine import Engine

Stream = torch.cuda.Stream
Replay = Callable[[], None]
"""One launch on the current stream over the tensors that were bound."""


class Denoiser(Protocol):
    """The only thing a sampler knows: noisy data in, expected clean data out.

    Levels are those of the process: x = clean + sigma * noise for diffusion, x = (1 - s) * clean + s * noise for a flow.
    """

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """Clean estimate (n c h w) for x (n c h w), which is noisy at the levels sigma (n)."""
        ...


class ConditionalDenoiser(Protocol):
    """A denoiser that is told, row by row, what to draw."""

    def __call__(self, x: Tensor, sigma: Tensor, conditioning: Conditioning, /) -> Tensor:
        """Clean estimate (n c h w) for x (n c h w), sigma (n) and n rows of conditioning."""
        ...


class Codec(Protocol):
    """Between images in [-1, 1] and latents of about unit variance."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (n 3 h w) to latents (n c h' w'); the mean, so nothing random."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n c h' w') to images (n 3 h w), not clipped."""
        ...


class Prompts(Protocol):
    """Between what a user asks for (captions, classes, or nothing in particular) and what a conditional denoiser reads."""

    @property
    def null(self) -> Conditioning | None:
        """The one row that guidance starts from; None where the model has none."""
        ...

    def check(self, wanted: Sequence[str] | Sequence[int] | None) -> None:
        """Raise EngineError for the first one that cannot be drawn: a caption that would be cut, a class that is not there."""
        ...

    def encode(self, wanted: Sequence[str] | Sequence[int] | None, rows: int) -> Conditioning:
        """One row for each; ``rows`` of them are wanted."""
        ...

    def examples(self, rows: int) -> Conditioning:
        """Rows of different kinds, on which backends are compared."""
        ...


class Program(Protocol):
    """A network on one vendor's runtime: the least that an :class:`engines.engine.Engine` drives.

    It gets feeds that are as the spec says, with a batch that it takes; what its spec calls float32 is float32 on both sides,
    whatever it computes in.
    """

    @property
    def device(self) -> torch.device:
        """Where outputs lie; feeds may lie elsewhere and are copied."""
        ...

    @property
    def captures(self) -> int:
        """Graphs captured so far."""
        ...

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Enqueue on the stream (None: the current one) and return; with ``out`` every output is written there."""
        ...

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """Everything that can be settled once is settled: what is returned computes outs from feeds, in place."""
        ...

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """Replace parameters, named as in the module.  Raises NotRefittableError."""
        ...

    def close(self) -> None:
        """Give memory back.  Called once."""
        ...


class Backend(Protocol):
    """One way to run networks.  Asked first, with a reason when it declines."""

    @property
    def name(self) -> str:
        """As users write it and reports show it."""
        ...

    def probe(self) -> Capability:
        """What it can do on this machine; safe to ask where its libraries or its driver are missing."""
        ...

    def unusable(self, spec: EngineSpec) -> str | None:
        """Why this backend cannot run such a network here, or None."""
        ...

    def ready(self, spec: EngineSpec) -> bool:
        """Whether building such a network now takes no time to speak of."""
        ...

    def build(self, module: nn.Module, spec: EngineSpec) -> "Engine":
        """The network, ready to run; an artifact that is already in the cache is loaded, not made again.

        ``module`` takes the spec's inputs in order and returns its output, or a tuple of them in order.
        """
        ...

    def load(self, artifact: Path, spec: EngineSpec) -> "Engine":
        """An engine from an artifact's directory, without the module."""
        ...

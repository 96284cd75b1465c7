"""The seams of the engine layer.  Latents are float32 ``(n, c, h, w)``; images inside are float32 RGB in [-1, 1]."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from engines.spec import EngineSpec


class Denoiser(Protocol):
    """The only thing a sampler knows: noisy data in, expected clean data out."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """Clean estimate (n c h w) for x = clean + sigma * noise (n c h w), sigma (n)."""
        ...


class ConditionalDenoiser(Protocol):
    """A denoiser that is told, row by row, what to draw."""

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, /) -> Tensor:
        """Clean estimate (n c h w) for x (n c h w), sigma (n), context (n l d)."""
        ...


class Codec(Protocol):
    """Between images in [-1, 1] and latents of about unit variance."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (n 3 h w) to latents (n c h' w'); the mean, so nothing random."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n c h' w') to images (n 3 h w), not clipped."""
        ...


class TextEncoder(Protocol):
    """Between captions and what a conditional denoiser reads."""

    def check(self, captions: Sequence[str]) -> None:
        """Raise CaptionTooLongError for the first caption that would be cut."""
        ...

    def encode(self, captions: Sequence[str]) -> Tensor:
        """One context (l d) per caption, stacked (n l d)."""
        ...


class Engine(Protocol):
    """One built network on one backend.  Not thread safe."""

    @property
    def spec(self) -> EngineSpec:
        """What was built."""
        ...

    @property
    def backend(self) -> str:
        """Who runs it."""
        ...

    def run(self, feeds: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Named inputs to named outputs, as the spec says."""
        ...


class Backend(Protocol):
    """One way to run networks.  Asked first, with a reason when it declines."""

    @property
    def name(self) -> str:
        """As users write it and reports show it."""
        ...

    def unusable(self, spec: EngineSpec) -> str | None:
        """Why this backend cannot run such a network here, or None."""
        ...

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """The network, ready to run; an artifact that is already in the cache is loaded, not made again."""
        ...

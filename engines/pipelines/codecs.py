"""Between images and what is denoised: an autoencoder, or nothing at all where pixels themselves are denoised."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engines.engine import Engine
from engines.errors import UnsupportedPipelineError

Latents = Float[Tensor, "n c h w"]
Images = Float[Tensor, "n 3 h w"]


@dataclass(frozen=True, eq=False)
class KlCodec:
    """The autoencoder.  Decoding runs on an engine; encoding, which drawing never needs, on the module."""

    decoder: Engine
    encoder: nn.Module

    def encode(self, images: Images) -> Latents:
        """Images in [-1, 1] to the mean latents."""
        with torch.no_grad():
            device = next(self.encoder.parameters()).device
            latents: Tensor = self.encoder(images.to(device))
        return latents

    def decode(self, latents: Latents) -> Images:
        """Latents to images in [-1, 1], not clipped."""
        return self.decoder.run({"latents": latents})["images"]


@dataclass(frozen=True)
class PixelCodec:
    """Pixels are denoised as they are; one channel is grey, shown as three equal ones."""

    channels: int

    def __post_init__(self) -> None:
        if self.channels not in {1, 3}:
            raise UnsupportedPipelineError(f"a network in pixels draws grey or RGB images, this one has {self.channels} channels")

    def encode(self, images: Images) -> Latents:
        """Images in [-1, 1]; grey is the mean of the colours."""
        return images if self.channels == 3 else images.mean(1, keepdim=True)

    def decode(self, latents: Latents) -> Images:
        """Images in [-1, 1], not clipped."""
        return latents.expand(-1, 3, -1, -1)

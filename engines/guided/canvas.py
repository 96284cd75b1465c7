"""A loaded pipeline as guided edits need it: images in and out, nothing asked for in words, a decoder with gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.errors import UnsupportedPipelineError
from engines.guided.edits import Decode
from engines.networks import VaeDecode
from engines.pipeline import Pipeline
from engines.pipelines.codecs import KlCodec

Pictures = Float[np.ndarray, "n 3 h w"]


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pixels or latents of one pipeline.  Not thread safe, as the pipeline is not."""

    pipeline: Pipeline

    @property
    def latent(self) -> bool:
        """Whether what is denoised are latents."""
        return isinstance(self.pipeline.codec, KlCodec)

    @cached_property
    def decode(self) -> Decode | None:
        """The decoder in torch, for gradients; None over pixels.  Raises UnsupportedPipelineError where there is none."""
        codec = self.pipeline.codec
        if not isinstance(codec, KlCodec):
            return None
        vae = getattr(codec.encoder, "vae", None)
        if vae is None:
            raise UnsupportedPipelineError("this pipeline's autoencoder gives no gradients; guide without any (`method: ensemble`)")
        return VaeDecode(vae).requires_grad_(False)

    def encoded(self, images: Pictures) -> Tensor:
        """Images (RGB in [0, 1], of the pipeline's size) as what is denoised."""
        if images.shape[1:] != self.pipeline.image_shape:
            raise ValueError(f"need images (n, {', '.join(map(str, self.pipeline.image_shape))}), got {images.shape}")
        latents: Tensor = self.pipeline.codec.encode(2 * torch.from_numpy(np.ascontiguousarray(images, np.float32)) - 1)
        return latents.to(self.pipeline.device)

    def untold(self, rows: int) -> Conditioning:
        """Nothing in particular, for so many rows."""
        null = self.pipeline.null
        return self.pipeline.told(None, rows) if null is None else null.expand(rows)

    def named(self, captions: Sequence[str]) -> Conditioning | None:
        """What the network is told by captions; None where it takes none.  Raises CaptionTooLongError."""
        return None if self.pipeline.wording is None else self.pipeline.told(captions)

    def decoded(self, latents: Tensor) -> Tensor:
        """Latents as images in [-1, 1] by the decoder's engine, for methods without gradients."""
        with torch.no_grad():
            return torch.cat([self.pipeline.codec.decode(some) for some in latents.split(self.pipeline.batch)])  # type: ignore[no-untyped-call]


def whole_bytes(images: Pictures) -> Pictures:
    """Images in [0, 1] at multiples of 1/255, as they are stored and sent."""
    rounded: Pictures = np.rint(images * 255).astype(np.float32) / np.float32(255)
    return rounded

"""The three networks of a pipeline as plain modules, tensors in and one tensor out, with the spec of each.

Timesteps are one per row in every graph, so that images at different positions can share a batch.
"""

import hashlib
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engines.spec import BATCH, EngineSpec, Precision, Profile, TensorSpec


class UNetForward(nn.Module):
    """Noise prediction: (sample (n c h w), t (n), context (n l d)) -> (n c h w)."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Float[Tensor, "n c h w"], t: Float[Tensor, " n"], context: Float[Tensor, "n l d"]) -> Tensor:
        """One prediction per row."""
        return cast("Tensor", self.unet(sample, t, context, return_dict=False)[0])


class VaeDecode(nn.Module):
    """Latents as the sampler knows them (n c h w) -> images (n 3 H W) in [-1, 1], not clipped."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae, self.scale, self.shift = vae, *latent_affine(vae)

    def forward(self, latents: Float[Tensor, "n c h w"]) -> Tensor:
        """One image per row."""
        return cast("Tensor", self.vae.decode(latents / self.scale + self.shift, return_dict=False)[0])


class VaeEncode(nn.Module):
    """Images (n 3 H W) in [-1, 1] -> the mean latents (n c h w), scaled to about unit variance."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae, self.scale, self.shift = vae, *latent_affine(vae)

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Tensor:
        """One latent per row; nothing is drawn at random."""
        mean = self.vae.encode(images, return_dict=False)[0].mean
        return cast("Tensor", (mean - self.shift) * self.scale)


class TextForward(nn.Module):
    """Token numbers (n l) -> contexts (n l d)."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Int[Tensor, "n l"]) -> Tensor:
        """One context per row."""
        return cast("Tensor", self.encoder(tokens, return_dict=False)[0])


def latent_affine(vae: Any) -> tuple[float, float]:
    """Latents are (raw - shift) * scale."""
    return float(vae.config.scaling_factor), float(getattr(vae.config, "shift_factor", None) or 0.0)


def unet_spec(module: UNetForward, length: int, profile: Profile, precision: Precision = "fp32") -> EngineSpec:
    """Spec of the noise predictor at the resolution it was trained for."""
    config = module.unet.config
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    inputs = (
        TensorSpec("sample", "float32", (BATCH, config.in_channels, height, width)),
        TensorSpec("t", "float32", (BATCH,)),
        TensorSpec("context", "float32", (BATCH, length, config.cross_attention_dim)),
    )
    outputs = (TensorSpec("prediction", "float32", (BATCH, config.out_channels, height, width)),)
    return _spec("unet", module, (inputs, outputs), profile, precision)


def decoder_spec(module: VaeDecode, latent: tuple[int, int, int], profile: Profile, precision: Precision = "fp32") -> EngineSpec:
    """Spec of the decoder for latents of one shape."""
    factor = 2 ** (len(module.vae.config.block_out_channels) - 1)
    images = TensorSpec("images", "float32", (BATCH, module.vae.config.out_channels, latent[1] * factor, latent[2] * factor))
    return _spec("vae_decoder", module, ((TensorSpec("latents", "float32", (BATCH, *latent)),), (images,)), profile, precision)


def state_digest(module: nn.Module) -> str:
    """SHA-256 over the module's class, buffers and parameters: names, types, shapes, bytes."""
    total = hashlib.sha256(type(module).__name__.encode())
    for name, value in sorted(module.state_dict().items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _spec(
    name: str,
    module: nn.Module,
    tensors: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    profile: Profile,
    precision: Precision,
) -> EngineSpec:
    total = hashlib.sha256(state_digest(module).encode())
    for part in module.children():
        config = {key: value for key, value in dict(cast("Any", part).config).items() if not key.startswith("_")}
        total.update(str(sorted(config.items())).encode())
    return EngineSpec(
        name=name, inputs=tensors[0], outputs=tensors[1], profile=profile, precision=precision, model_hash=total.hexdigest()
    )

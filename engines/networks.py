"""The networks of a pipeline as plain modules, tensors in and one tensor out, with the spec of each.

Timesteps are one per row in every graph, so that images at different positions can share a batch.  What else a network is told are its
inputs after ``sample`` and ``t``, named as in ``engines.conditioning``; ``engines.pipelines.denoisers`` has the networks of all families.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engines.errors import UnsupportedPipelineError
from engines.spec import BATCH, Dtype, EngineSpec, Precision, Profile, TensorSpec


class UNetForward(nn.Module):
    """Stable Diffusion: the prediction for (sample (n c h w), t (n), context (n l d)), (n c h w)."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Float[Tensor, "n c h w"], t: Float[Tensor, " n"], context: Float[Tensor, "n l d"]) -> Tensor:
        """One prediction per row."""
        return mean_half(self.unet(sample, t, context, return_dict=False)[0], sample)


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


def mean_half(answer: Float[Tensor, "n k h w"], sample: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The prediction without the variance that some networks learned beside it (Nichol and Dhariwal 2021)."""
    channels = sample.shape[1]
    return answer if answer.shape[1] == channels else answer[:, :channels]


def latent_affine(vae: Any) -> tuple[float, float]:
    """Latents are (raw - shift) * scale."""
    return float(vae.config.scaling_factor), float(getattr(vae.config, "shift_factor", None) or 0.0)


def denoiser_spec(
    module: nn.Module, told: Mapping[str, Tensor], shape: tuple[int, int, int], profile: Profile, precision: Precision = "fp32"
) -> EngineSpec:
    """Spec of what denoises latents (or images) of one shape; ``told`` are conditioning tensors of any number of rows."""
    inputs = [TensorSpec("sample", "float32", (BATCH, *shape)), TensorSpec("t", "float32", (BATCH,))]
    inputs += [TensorSpec(name, _DTYPES[value.dtype], (BATCH, *value.shape[1:])) for name, value in told.items()]
    outputs = (TensorSpec("prediction", "float32", (BATCH, *shape)),)
    (name,) = dict(module.named_children())
    return _spec(name, module, (tuple(inputs), outputs), profile, precision)


_DTYPES: Mapping[torch.dtype, Dtype] = {torch.float32: "float32", torch.int64: "int64"}


def decoder_spec(module: VaeDecode, latent: tuple[int, int, int], profile: Profile, precision: Precision = "fp32") -> EngineSpec:
    """Spec of the decoder for latents of one shape."""
    factor = 2 ** (len(module.vae.config.block_out_channels) - 1)
    images = TensorSpec("images", "float32", (BATCH, module.vae.config.out_channels, latent[1] * factor, latent[2] * factor))
    return _spec("vae_decoder", module, ((TensorSpec("latents", "float32", (BATCH, *latent)),), (images,)), profile, precision)


def network_shape(network: Any) -> tuple[int, int, int]:
    """Channels, height and width of what a network denoises, at the resolution it was trained for."""
    size = network.config.sample_size
    if size is None:
        raise UnsupportedPipelineError("the network's config.json names no sample_size, so that it is not known how large it draws")
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return int(network.config.in_channels), int(height), int(width)


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

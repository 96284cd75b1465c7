"""The networks that audits run, with random weights, and small ones of the same classes for machines without a GPU."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engines.graphs.gradients import Vjp
from engines.network import Network
from engines.networks import UNetForward, VaeDecode
from engines.pipelines.denoisers import PlainUNetForward, XlUNetForward
from engines.spec import BATCH, EngineSpec, Kind, Profile, TensorSpec, digest

Row = tuple[int, ...]


def sd15_unet(rows: int, *, small: bool) -> Network:
    """Stable Diffusion 1.5 at 512 pixels."""
    module, inputs = _sd15(small=small)
    return _network("sd15_unet", module, rows, inputs, {"prediction": inputs["sample"]}, small=small)


def sd15_vjp(rows: int, *, small: bool) -> Network:
    """The same with its gradient in the latents, which is what a guided step waits for."""
    module, inputs = _sd15(small=small)
    latents = inputs.pop("sample")
    told = {"x": latents, "cotangent": latents, **inputs}
    return _network("sd15_vjp", Vjp(module), rows, told, {"y": latents, "gradient": latents}, small=small, kind="vjp")


def sdxl_unet(rows: int, *, small: bool) -> Network:
    """Stable Diffusion XL at 1024 pixels."""
    from diffusers import UNet2DConditionModel

    channels, heads, width, side = ((16, 16, 32), (2, 2, 4), 32, 8) if small else ((320, 640, 1280), (5, 10, 20), 2048, 128)
    pooled, embedded = (16, 8) if small else (1280, 256)
    unet = _seeded(
        UNet2DConditionModel, sample_size=side, block_out_channels=channels, attention_head_dim=heads, cross_attention_dim=width,
        transformer_layers_per_block=(1, 1, 2) if small else (1, 2, 10), use_linear_projection=True, norm_num_groups=8 if small else 32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=embedded, projection_class_embeddings_input_dim=pooled + 6 * embedded,
    )  # fmt: skip
    sample = (4, side, side)
    inputs = {"sample": sample, "t": (), "context": (77, width), "text_embeds": (pooled,), "time_ids": (6,)}
    return _network("sdxl_unet", XlUNetForward(unet), rows, inputs, {"prediction": sample}, small=small)


def ddpm_cifar(rows: int, *, small: bool) -> Network:
    """DDPM of Ho et al. 2020 on CIFAR-10."""
    from diffusers import UNet2DModel

    unet = _seeded(
        UNet2DModel, sample_size=8 if small else 32, block_out_channels=(16, 32, 32, 32) if small else (128, 256, 256, 256),
        norm_num_groups=8 if small else 32, layers_per_block=1 if small else 2, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
        norm_eps=1e-6, down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    sample = (3, unet.config["sample_size"], unet.config["sample_size"])
    return _network("ddpm_cifar", PlainUNetForward(unet), rows, {"sample": sample, "t": ()}, {"prediction": sample}, small=small)


def tiny_unet(rows: int, *, small: bool) -> Network:
    """As miniature generators have: 32, 64 and 64 channels at 32 x 32 latents."""
    from diffusers import UNet2DConditionModel

    side = 8 if small else 32
    unet = _seeded(
        UNet2DConditionModel, sample_size=side, block_out_channels=(32, 64, 64), cross_attention_dim=64, attention_head_dim=4,
        layers_per_block=1, norm_num_groups=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    sample = (4, side, side)
    inputs = {"sample": sample, "t": (), "context": (16, 64)}
    return _network("tiny_unet", UNetForward(unet), rows, inputs, {"prediction": sample}, small=small)


def vae_decoder(rows: int, *, small: bool) -> Network:
    """Stable Diffusion's decoder to 512 pixels."""
    from diffusers import AutoencoderKL

    vae = _seeded(
        AutoencoderKL, block_out_channels=(16, 16, 32, 32) if small else (128, 256, 512, 512), layers_per_block=1 if small else 2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=8 if small else 32,
        latent_channels=4, sample_size=64 if small else 512,
    )  # fmt: skip
    side = vae.config["sample_size"]
    inputs, outputs = {"latents": (4, side // 8, side // 8)}, {"images": (3, side, side)}
    return _network("vae_decoder", VaeDecode(vae), rows, inputs, outputs, small=small)


def _sd15(*, small: bool) -> tuple[nn.Module, dict[str, Row]]:
    from diffusers import UNet2DConditionModel

    sizes = {"block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "layers_per_block": 1} if small else {}
    width, side = (32, 8) if small else (768, 64)
    unet = _seeded(UNet2DConditionModel, sample_size=side, cross_attention_dim=width, attention_head_dim=4 if small else 8, **sizes)
    return UNetForward(unet), {"sample": (4, side, side), "t": (), "context": (77, width)}


def _seeded(model: type, **config: object) -> nn.Module:
    """The same random weights everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: nn.Module = model(**config).eval().requires_grad_(requires_grad=False)
    return made


def _network(
    name: str, module: nn.Module, rows: int, inputs: Mapping[str, Row], outputs: Mapping[str, Row], *, small: bool, kind: Kind = "forward"
) -> Network:  # fmt: skip
    spec = EngineSpec(
        name=name,
        kind=kind,
        inputs=tuple(TensorSpec(each, "float32", (BATCH, *row)) for each, row in inputs.items()),
        outputs=tuple(TensorSpec(each, "float32", (BATCH, *row)) for each, row in outputs.items()),
        gradients=("gradient",) if kind == "vjp" else (),
        profile=Profile(rows, rows, rows),  # static, so that every backend may capture it
        model_hash=digest({"name": name, "small": small}),
    )
    return Network(module, spec, lambda: [_feeds(spec, rows)])


def _feeds(spec: EngineSpec, rows: int) -> dict[str, Tensor]:
    """Normal numbers, timesteps spread over the schedule, and sizes in pixels."""
    chance = torch.Generator().manual_seed(0)
    feeds = {each.name: torch.randn(rows, *each.row, generator=chance) for each in spec.inputs}
    known = {"t": torch.linspace(1, 999, rows).round(), "time_ids": torch.full((rows, 6), 1024.0)}
    return feeds | {name: value for name, value in known.items() if name in feeds}

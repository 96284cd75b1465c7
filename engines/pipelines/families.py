"""Which family a diffusers directory belongs to, told from model_index.json; everything else is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.errors import UnsupportedPipelineError

Index = Mapping[str, object]
"""The content of model_index.json."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of pipeline: its components with weights, and the classes each may have."""

    name: str
    models: Mapping[str, tuple[str, ...]]
    tokenizers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Components that a directory may leave out (null)."""

    @property
    def network(self) -> str:
        """The component that denoises."""
        return next(name for name in ("transformer", "unet", "denoiser") if name in self.models)

    @property
    def latent(self) -> bool:
        """Whether an autoencoder stands between images and what is denoised."""
        return "vae" in self.models

    @property
    def by_text(self) -> bool:
        """Whether it draws captions."""
        return bool(self.tokenizers)


_KL = ("AutoencoderKL",)
_PROJECTED = ("CLIPTextModelWithProjection",)

STABLE_DIFFUSION = Family(
    name="stable-diffusion",
    models={"unet": ("UNet2DConditionModel",), "vae": _KL, "text_encoder": ("CLIPTextModel",)},
    tokenizers=("tokenizer",),
)
STABLE_DIFFUSION_XL = Family(
    name="stable-diffusion-xl",
    models={
        "unet": ("UNet2DConditionModel",),
        "vae": _KL,
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": _PROJECTED,
    },
    tokenizers=("tokenizer", "tokenizer_2"),
)
STABLE_DIFFUSION_3 = Family(
    name="stable-diffusion-3",
    models={
        "transformer": ("SD3Transformer2DModel",),
        "vae": _KL,
        "text_encoder": _PROJECTED,
        "text_encoder_2": _PROJECTED,
        "text_encoder_3": ("T5EncoderModel",),
    },
    tokenizers=("tokenizer", "tokenizer_2", "tokenizer_3"),
    optional=("text_encoder_3", "tokenizer_3"),
)
DIT = Family(name="dit", models={"transformer": ("DiTTransformer2DModel", "Transformer2DModel"), "vae": _KL})
DDPM = Family(name="ddpm", models={"unet": ("UNet2DModel",)})
EXPORTED = Family(name="exported", models={"denoiser": ("ONNX",)})
"""No diffusers directory: :mod:`engines.pipelines.exported`."""

_REFUSED = {
    "ControlNet": "a ControlNet is steered by a control image",
    "Adapter": "an adapter is steered by a control image",
    "Inpaint": "an inpainting pipeline is told by a masked image what to keep",
    "InstructPix2Pix": "an editing pipeline starts from an image",
    "Upscale": "an upscaler starts from a small image",
    "Depth2Img": "a depth pipeline is told a depth map",
    "GLIGEN": "a grounded pipeline is told boxes",
    "Video": "a video pipeline draws many frames",
    "AnimateDiff": "a video pipeline draws many frames",
    "Img2ImgPipeline": "an image-to-image pipeline (such as a refiner) starts from an image",
}
"""Parts of the names of pipeline classes, and why such a pipeline cannot draw from a caption or a class alone."""

_NOT_DRAWN_WITH = ("scheduler", "safety_checker", "feature_extractor", "image_encoder", "watermark")
"""Components that do not change what is drawn from a caption; the scheduler is read elsewhere."""


def family_of(index: Index) -> Family:
    """The family, all components checked.  Raises UnsupportedPipelineError."""
    kind = str(index.get("_class_name", ""))
    for part, why in _REFUSED.items():
        if part in kind:
            raise UnsupportedPipelineError(
                f"{kind} is not supported: {why}; use a pipeline that draws from captions or classes alone"
            )
    found = components(index)
    family = _guess(found)
    for part, allowed in family.models.items():
        if found.get(part) not in allowed and not (part in family.optional and found.get(part) is None):
            raise UnsupportedPipelineError(
                f"{part} is {found.get(part)!r}, supported is {' or '.join(allowed)}; use a pipeline of {FAMILIES_IN_WORDS}"
            )
    strange = set(found) - set(family.models) - set(family.tokenizers)
    if strange:
        raise UnsupportedPipelineError(f"component {min(strange)!r} of {kind or 'the pipeline'} is not supported by {family.name}")
    return family


FAMILIES_IN_WORDS = "the Stable Diffusion 1.x, 2.x, XL or 3 class, DiT, or a DDPM (UNet2DModel)"


def components(index: Index) -> dict[str, str]:
    """Class of each component that is there and matters to what is drawn."""
    parts = {name: value[-1] for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {name: str(value) for name, value in parts.items() if value is not None and name not in _NOT_DRAWN_WITH}


def _guess(found: Mapping[str, str]) -> Family:
    transformer = found.get("transformer")
    if transformer is not None:
        return DIT if transformer in DIT.models["transformer"] else STABLE_DIFFUSION_3
    if found.get("unet") == "UNet2DModel":
        return DDPM
    return STABLE_DIFFUSION_XL if "text_encoder_2" in found else STABLE_DIFFUSION


def check_network(family: Family, config: Mapping[str, Any], latent_channels: int | None) -> None:
    """Refuse networks that read more than noise, timestep and what the family tells them."""
    channels = int(config["in_channels"])
    if latent_channels is not None and channels != latent_channels:
        why = {9: "inpainting: it reads a mask as well", 8: "editing: it reads an image as well"}.get(channels, "another purpose")
        raise UnsupportedPipelineError(
            f"the {family.network} reads {channels} channels, the autoencoder makes {latent_channels}; it is made for {why}"
        )
    if config.get("out_channels") not in {channels, 2 * channels, None}:
        raise UnsupportedPipelineError(
            f"the {family.network} makes {config['out_channels']} channels of {channels}; supported are as many, or twice as many"
        )
    for key, allowed in _SETTINGS[family.name].items():
        value = config.get(key, allowed[0])
        if value not in allowed:
            raise UnsupportedPipelineError(
                f"the {family.network} of a {family.name} pipeline sets {key} to {value!r}; supported is {' or '.join(map(repr, allowed))}"
            )


def check_autoencoder(config: Mapping[str, Any]) -> None:
    """Refuse latents that are scaled channel by channel."""
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise UnsupportedPipelineError(
            "the autoencoder scales latents channel by channel (latents_mean, latents_std); supported are one scaling_factor and shift_factor"
        )


_CONDITIONED: Mapping[str, tuple[Any, ...]] = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None,),
    "attention_type": ("default",),
    "time_embedding_type": ("positional",),
    "quantization_config": (None,),
}
_SETTINGS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    STABLE_DIFFUSION.name: {**_CONDITIONED, "addition_embed_type": (None,)},
    STABLE_DIFFUSION_XL.name: {**_CONDITIONED, "addition_embed_type": ("text_time",)},
    STABLE_DIFFUSION_3.name: {"quantization_config": (None,)},
    DIT.name: {"norm_type": ("ada_norm_zero",), "quantization_config": (None,)},
    DDPM.name: {"class_embed_type": (None,), "time_embedding_type": ("positional",), "quantization_config": (None,)},
}
"""What a network's configuration may say; first what its class assumes."""

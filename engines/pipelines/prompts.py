"""What can be asked of a directory: captions, read by one to three text encoders, or classes, or nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from engines.conditioning import Conditioning
from engines.directory import Parts
from engines.errors import PipelineError, UnsupportedPipelineError
from engines.networks import TextForward
from engines.pipelines.classes import Classes, Unconditional
from engines.pipelines.families import DDPM, DIT, EXPORTED, STABLE_DIFFUSION, STABLE_DIFFUSION_3, STABLE_DIFFUSION_XL
from engines.protocols import Prompts
from engines.text import Captions, EncodeTokens, Reader

T5_TOKENS = 256
"""Tokens that Stable Diffusion 3 was trained to read with its third text encoder."""


def prompts_of(parts: Parts, image: tuple[int, int, int], strength: float, null_class: int | None) -> Prompts:
    """Captions, classes or nothing, by family.

    ``image`` is channels, height, width of what will be drawn; ``strength`` the plan's guidance, which networks with guidance distilled in
    are told; ``null_class`` which class of a class-conditional UNet2DModel stands for none.
    """
    config = parts.network.config
    if parts.family is DIT:
        return Classes(int(config.num_embeds_ada_norm) + 1, int(config.num_embeds_ada_norm))
    if parts.family is EXPORTED:
        return Unconditional()
    if parts.family is DDPM:
        return _classes(config.num_class_embeds, null_class)
    captions = Captions(
        readers_of(parts),
        torch.no_grad()(encoder_of(parts)),
        constant=constant_of(parts, image, strength),
        zero_null=zero_null(parts),
    )
    _check_widths(parts, captions.null)
    return captions


def encoder_of(parts: Parts) -> EncodeTokens:
    """Token numbers for each text encoder to what they tell the network, with gradients.  For families that draw captions."""
    return _ENCODERS[parts.family.name](parts)


def zero_null(parts: Parts) -> bool:
    """Whether guidance starts from zeros, not from the empty caption."""
    return bool(parts.settings.get("force_zeros_for_empty_prompt", parts.family is STABLE_DIFFUSION_XL))


def guidance_embedding(strength: float, width: int) -> Float[Tensor, "1 d"]:
    """How strongly a network with guidance distilled in should follow its caption: sines and cosines of 1000 (strength - 1).

    The embedding of timesteps of Vaswani et al. 2017, as Meng et al. 2023 ("On distillation of guided diffusion models") use it; float32,
    in diffusers' order of operations, since the sines of thousands of radians depend on rounding.
    """
    half = width // 2
    step = torch.log(torch.tensor(10000.0)) / (half - 1)
    angles = torch.tensor([strength - 1.0])[:, None] * 1000.0 * torch.exp(torch.arange(half) * -step)[None]
    return pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def _classes(count: int | None, null_class: int | None) -> Prompts:
    if count is None:
        return Unconditional()
    if null_class is not None and not 0 <= null_class < count:
        raise PipelineError(f"null_class {null_class} is not among the classes 0 to {count - 1} of this network")
    return Classes(int(count), null_class)


def _stable_diffusion(parts: Parts) -> Callable[[Sequence[Int[Tensor, "n l"]]], Conditioning]:
    text = TextForward(parts.text_encoder)
    return lambda tokens: Conditioning.of(context=text(tokens[0]))


def _stable_diffusion_xl(parts: Parts) -> Callable[[Sequence[Int[Tensor, "n l"]]], Conditioning]:
    """Both encoders' last layer but one, side by side; the second one's pooled caption."""
    encoders = _text_encoders(parts)

    def encode(tokens: Sequence[Int[Tensor, "n l"]]) -> Conditioning:
        first, second = (encoder(each, output_hidden_states=True) for encoder, each in zip(encoders, tokens, strict=True))
        context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        return Conditioning.of(context=context, text_embeds=second.text_embeds)

    return encode


def _stable_diffusion_3(parts: Parts) -> Callable[[Sequence[Int[Tensor, "n l"]]], Conditioning]:
    """Two encoders as in XL, filled up with zeros to the width of T5, then T5 (or zeros, where it was left out) behind them."""
    clips, last = _text_encoders(parts)[:2], parts.models.get("text_encoder_3")
    width = int(parts.network.config.joint_attention_dim)

    def encode(tokens: Sequence[Int[Tensor, "n l"]]) -> Conditioning:
        answers = [encoder(each, output_hidden_states=True) for encoder, each in zip(clips, tokens, strict=False)]
        beside = torch.cat([answer.hidden_states[-2] for answer in answers], -1)
        behind = torch.zeros(len(beside), T5_TOKENS, width) if last is None else last(tokens[-1])[0]
        context = torch.cat([pad(beside, (0, width - beside.shape[-1])), behind], -2)
        return Conditioning.of(context=context, pooled=torch.cat([answer.text_embeds for answer in answers], -1))

    return encode


_ENCODERS: Mapping[str, Callable[[Parts], Callable[[Sequence[Int[Tensor, "n l"]]], Conditioning]]] = {
    STABLE_DIFFUSION.name: _stable_diffusion,
    STABLE_DIFFUSION_XL.name: _stable_diffusion_xl,
    STABLE_DIFFUSION_3.name: _stable_diffusion_3,
}


def _text_encoders(parts: Parts) -> list[Any]:
    return [parts.models[name] for name in ("text_encoder", "text_encoder_2", "text_encoder_3") if name in parts.models]


def readers_of(parts: Parts) -> list[Reader]:
    """One for each text encoder.

    CLIP reads as many tokens as it has positions, and two of them, side by side, as many as the shorter; T5 has no positions, and reads as
    many as it was trained with.
    """
    both = list(zip(_text_encoders(parts), parts.tokenizers.values(), strict=True))
    limits = [
        min(int(getattr(encoder.config, "max_position_embeddings", T5_TOKENS)), words.model_max_length) for encoder, words in both
    ]
    return [Reader(words, min(limits[:2]) if place < 2 else limits[place]) for place, (_, words) in enumerate(both)]


def constant_of(parts: Parts, image: tuple[int, int, int], strength: float) -> Conditioning:
    """One row that does not depend on the caption.

    Stable Diffusion XL is told that the picture was as large as it is drawn, and not cropped: original size, crop from top and left, target
    size, all in pixels, height first.
    """
    _, height, width = image
    told: dict[str, Tensor] = {}
    if parts.family is STABLE_DIFFUSION_XL:
        told["time_ids"] = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)
    embedding = parts.network.config.get("time_cond_proj_dim")
    if embedding is not None:
        told["timestep_cond"] = guidance_embedding(strength, int(embedding))
    return Conditioning(told, 1)


def _check_widths(parts: Parts, told: Conditioning) -> None:
    """Raise where encoders and network come from different pipelines."""
    config, widths = parts.network.config, {name: value.shape[-1] for name, value in told.tensors.items()}
    expected = {"context": config.get("cross_attention_dim") or config.get("joint_attention_dim")}
    if parts.family is STABLE_DIFFUSION_XL:
        expected["text_embeds"] = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    if parts.family is STABLE_DIFFUSION_3:
        expected["pooled"] = config.pooled_projection_dim
    for name, width in expected.items():
        if widths[name] != width:
            raise UnsupportedPipelineError(
                f"the text encoders make {widths[name]} numbers for {name}, the network reads {width}; the parts do not fit"
            )

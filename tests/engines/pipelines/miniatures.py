"""Miniature diffusers directories with random weights, one per family, written by the real configuration classes."""

import warnings

import torch

WORDS = ("a", "photo", "of", "red", "green", "blue", "circle", "square", "on", "in", "the", "large", "small", "background")
LENGTH = 12
UNET = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (16, 32), "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
}  # fmt: skip
PIXELS = {
    "sample_size": 8, "layers_per_block": 1, "block_out_channels": (16, 32), "norm_num_groups": 8, "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
}  # fmt: skip
ONE_BLOCK = {
    "block_out_channels": (16,), "mid_block_type": None, "down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("UpBlock2D",),
}  # fmt: skip
"""Changes of UNET that leave a third of it to export: for what is peculiar to a family, since whole ones are exported elsewhere."""
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def build_tokenizer(pad="<|endoftext|>", *, start=True):
    """Words, with a start and an end; ``pad`` fills, and is token 0 when it is "!"."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    first, last = "<|startoftext|>", "<|endoftext|>"
    tokens = [*(["!"] if pad == "!" else []), first, last, "<unk>", *WORDS]
    vocabulary = {word: number for number, word in enumerate(tokens)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    special = [(each, vocabulary[each]) for each in (first, last)]
    words.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}" if start else f"$A {last}", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=first, eos_token=last, unk_token="<unk>", pad_token=pad, model_max_length=LENGTH
    )


def clip(tokenizer, width, projection=None, act="quick_gelu"):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, projection_dim=projection or width, hidden_act=act,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def autoencoder(**settings):
    """The same weights in every family, so that tests export it once."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return AutoencoderKL(
            **{
                "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (8, 16), "norm_num_groups": 4,
                "sample_size": 16, "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
                "scaling_factor": 0.5, "layers_per_block": 1, **settings,
            }
        )  # fmt: skip


def stable_diffusion(**unet):
    """The 1.x class."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    tokenizer = build_tokenizer()
    scheduler = DDIMScheduler(**STABLE, clip_sample=False, timestep_spacing="trailing", steps_offset=1)
    return StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=clip(tokenizer, 32), tokenizer=tokenizer, scheduler=scheduler, safety_checker=None,
        unet=UNet2DConditionModel(**{**UNET, "cross_attention_dim": 32, "attention_head_dim": 2, **unet}), feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_2():
    """OpenCLIP's activation and padding, one number of heads per block, linear projections, v-prediction, DDIM as it was shipped."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    tokenizer = build_tokenizer("!")
    scheduler = DDIMScheduler(**STABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction")
    unet = UNet2DConditionModel(**UNET, cross_attention_dim=24, attention_head_dim=[2, 4], use_linear_projection=True)
    return StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=clip(tokenizer, 24, act="gelu"), tokenizer=tokenizer, scheduler=scheduler, unet=unet,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(**unet):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    first, second = build_tokenizer(), build_tokenizer("!")
    network = UNet2DConditionModel(
        **{
            **UNET, "cross_attention_dim": 56, "attention_head_dim": [2, 4], "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 20 + 6 * 8,
            "transformer_layers_per_block": (1, 1), **unet,
        }
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=clip(first, 32), text_encoder_2=clip(second, 24, 20, "gelu"), tokenizer=first,
        tokenizer_2=second, unet=network, scheduler=EulerDiscreteScheduler(**STABLE, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )  # fmt: skip


def latent_consistency(**unet):
    """Guidance distilled in."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    parts = stable_diffusion(time_cond_proj_dim=14, **unet).components
    return LatentConsistencyModelPipeline(**{**parts, "scheduler": LCMScheduler()}, requires_safety_checker=False)


def stable_diffusion_3(*, t5=True):
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import T5Config, T5EncoderModel

    first, second, third = build_tokenizer(), build_tokenizer("!"), build_tokenizer(start=False)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=64, caption_projection_dim=16, pooled_projection_dim=36, pos_embed_max_size=8, qk_norm="rms_norm",
    )  # fmt: skip
    last = T5EncoderModel(
        T5Config(vocab_size=len(third), d_model=64, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    )
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), text_encoder=clip(first, 32, 16),
        vae=autoencoder(shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False), text_encoder_2=clip(second, 24, 20, "gelu"),
        tokenizer=first, tokenizer_2=second, tokenizer_3=third if t5 else None, text_encoder_3=last if t5 else None,
    )  # fmt: skip


def dit(layers=2):
    """Class-conditional, class 1000 being none, with a learned variance."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=8, num_layers=layers, attention_head_dim=8, num_attention_heads=2,
        num_embeds_ada_norm=1000,
    )  # fmt: skip
    return DiTPipeline(transformer=transformer, vae=autoencoder(), scheduler=DDIMScheduler(clip_sample=False))


def ddpm(scheduler=None, **unet):
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

    scheduler = scheduler or DDPMScheduler()
    kind = DDIMPipeline if isinstance(scheduler, DDIMScheduler) else DDPMPipeline
    return kind(unet=UNet2DModel(**{**PIXELS, **unet}), scheduler=scheduler)


def save(make, directory, **options):
    """Write a miniature; the weights follow from the family alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        make(**options).save_pretrained(directory, safe_serialization=True)
    return directory

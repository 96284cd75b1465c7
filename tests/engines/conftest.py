"""A miniature Stable Diffusion directory with random weights, written by the real configuration classes."""

import json
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.engines.pipelines.miniatures import LENGTH, build_tokenizer
from tests.fixtures.workers import across_workers


@pytest.fixture(autouse=True, scope="session")
def operators_once():
    """The exporter makes its table of operators anew for every network, in more time than a small one takes to export."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


def write_pipeline(directory: Path) -> Path:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=32,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8,
        cross_attention_dim=32, attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 16), norm_num_groups=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.5,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=True,
        timestep_spacing="trailing", steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture(scope="session")
def pipeline_directory(tmp_path_factory):
    """Read only: tests that change a file copy it first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def pipeline_copy(pipeline_directory, tmp_path):
    import shutil

    return Path(shutil.copytree(pipeline_directory, tmp_path / "pipeline"))


@pytest.fixture
def edit_json():
    def edit(path: Path, **changes):
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


@pytest.fixture(scope="session")
def graphs(tmp_path_factory):
    """One build cache for all tests of all workers, since exports take seconds; what is built is named by its content."""
    return across_workers(tmp_path_factory) / "graphs"

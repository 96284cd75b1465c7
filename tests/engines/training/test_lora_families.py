"""Fine-tunes of other families than Stable Diffusion 1.x, on small pipelines with random weights."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engines.conditioning import Conditioning
from engines.directory import read_parts
from engines.errors import UnsupportedPipelineError
from engines.pipeline import load_pipeline
from engines.pipelines.prompts import prompts_of
from engines.training import CaptionedImages, LoraRecipe, train_lora
from engines.training.vendor import quiet
from engines.training.words import teller, told_once, words_of
from tests.engines.pipelines import miniatures


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Directory of a miniature by the name of its maker: read only."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = miniatures.save(getattr(miniatures, name), tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8)
    return CaptionedImages(images, [["a red circle"], ["a blue square"], [""], ["a photo"]])


def tune(data, base, root, **changes):
    settings = {"rank": 2, "steps": 4, "batch": 4, "learning_rate": 0.1, "caption_dropout": 0.5} | changes
    return train_lora(data, base, LoraRecipe(**settings), root / "out", work=root / "work")


def weights(out, part):
    return {name: value for path in (out / part).glob("*.safetensors") for name, value in load_file(path).items()}


def changed(base, out):
    """Parts with a weight that is not the base's."""
    parts = [folder.name for folder in base.iterdir() if list(folder.glob("*.safetensors"))]
    return {part for part in parts if any(not torch.equal(v, weights(out, part)[name]) for name, v in weights(base, part).items())}


def drawn_by_diffusers(directory, adapter=None):
    from diffusers import DiffusionPipeline

    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(directory, local_files_only=True)
        if adapter:
            pipeline.load_lora_weights(adapter)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline("a red square", num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np").images


@pytest.mark.parametrize("family", ["stable_diffusion_2", "stable_diffusion_xl"])
def test_merged_and_adapted_draw_the_same_in_diffusers(data, base, tmp_path, family):
    """By its own pipeline of the family, with the UNet and all text encoders adapted."""
    tune(data, base(family), tmp_path, text_encoder=True)
    assert changed(base(family), tmp_path / "out") == {"unet"} | {path.name for path in base(family).glob("text_*")}
    merged = drawn_by_diffusers(tmp_path / "out")
    np.testing.assert_allclose(merged, drawn_by_diffusers(base(family), tmp_path / "out" / "adapter"), atol=1e-4)
    assert np.abs(merged - drawn_by_diffusers(base(family))).max() > 1e-2


def test_a_merged_xl_is_a_pipeline_of_its_own(data, base, tmp_path, graphs):
    """Read by the loader that reads the base; only the UNet was adapted."""
    plain = base("stable_diffusion_xl")
    tune(data, plain, tmp_path)
    assert changed(plain, tmp_path / "out") == {"unet"}
    ours, theirs = (load_pipeline(path, backend="torch", steps=1, cache=graphs) for path in (tmp_path / "out", plain))
    assert ours.fingerprint != theirs.fingerprint
    assert ours.generate(["a red square"], [1]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_training_tells_the_network_what_drawing_does(base, family):
    """Captions row by row, and what guidance starts from: zeros for XL, the empty caption else."""
    with quiet():
        parts = read_parts(base(family))
    prompts, cpu = prompts_of(parts, (3, 16, 16), 1.0, None), torch.device("cpu")
    words = words_of(parts, [["a red circle", "a photo"], ["a photo"]], cpu)
    assert words.rows.tolist() == [[0, 1], [1, 1]]
    told = told_once(teller(parts, words, 16, cpu), words)(torch.tensor([1, 0, words.null]))
    wanted = Conditioning.cat([prompts.encode(["a photo", "a red circle"], 2), prompts.null])
    assert list(told.tensors) == list(wanted.tensors)
    for name, value in wanted.tensors.items():
        torch.testing.assert_close(told.tensors[name], value, atol=1e-5, rtol=1e-5)


def test_sharded_weights_stay_sharded(data, pipeline_copy, tmp_path, graphs):
    """As large pipelines are stored: each shard is merged by itself."""
    from diffusers import UNet2DConditionModel

    with quiet():
        unet = UNet2DConditionModel.from_pretrained(pipeline_copy / "unet")
        shutil.rmtree(pipeline_copy / "unet")
        unet.save_pretrained(pipeline_copy / "unet", max_shard_size="200KB")
    shards = {path.name for path in (pipeline_copy / "unet").glob("*.safetensors")}
    tune(data, pipeline_copy, tmp_path)
    assert len(shards) > 1
    assert {path.name for path in (tmp_path / "out" / "unet").glob("*.safetensors")} == shards
    ends = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
    base, merged = weights(pipeline_copy, "unet"), weights(tmp_path / "out", "unet")
    assert {name for name in base if not torch.equal(base[name], merged[name])} == {name for name in base if name.endswith(ends)}
    assert load_pipeline(tmp_path / "out", backend="torch", steps=1, cache=graphs).fingerprint


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("latent_consistency", "fine-tune the model that it was distilled from"),
        ("stable_diffusion_3", "a stable-diffusion-3 pipeline cannot be fine-tuned here; use one of the Stable"),
        ("dit", "a dit pipeline cannot be fine-tuned here"),
        ("ddpm", "a ddpm pipeline cannot be fine-tuned here"),
    ],
)
def test_families_whose_objective_is_another_are_refused(data, base, tmp_path, family, said):
    """The message names what to use."""
    with pytest.raises(UnsupportedPipelineError, match=said):
        tune(data, base(family), tmp_path)

import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.errors import CaptionTooLongError, MissingFileError, PipelineError, UnsafeWeightsError, UnsupportedPipelineError
from engines.pipeline import load_pipeline

CAPTIONS = ["a red circle", "a blue square on the green background", "a photo"]
SEEDS = [5, 2**63 + 1, 7]


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "steps": 4, "guidance": 3.0, "batch": 4, **options})


@pytest.fixture(scope="module")
def reference(pipeline_directory):
    return load(pipeline_directory)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("steps", [1, 5])
def test_latents_and_images_are_those_of_diffusers(pipeline_directory, steps, guidance):
    """Its own pipeline and scheduler, from the same noise at the same timesteps."""
    assert_like_diffusers(pipeline_directory, steps, guidance, 1e-4)


def test_zero_terminal_snr_is_that_of_diffusers(pipeline_copy, edit_json):
    """There sigma is infinite for diffusers, 4096 for us."""
    edit_json(pipeline_copy / "scheduler/scheduler_config.json", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert_like_diffusers(pipeline_copy, 4, 3.0, 2e-3)


def assert_like_diffusers(directory, steps, guidance, tolerance):
    from diffusers import StableDiffusionPipeline

    ours = load(directory, steps=steps, guidance=guidance, sampler="ddim")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = StableDiffusionPipeline.from_pretrained(directory, safety_checker=None, local_files_only=True)
    theirs.set_progress_bar_config(disable=True)
    start = ours.start(SEEDS) / np.hypot(1.0, ours.sigmas[0])
    options = {"latents": start, "num_inference_steps": steps, "guidance_scale": guidance}
    latents = theirs(CAPTIONS, output_type="latent", **options).images
    torch.testing.assert_close(ours.draw(CAPTIONS, SEEDS), latents, atol=tolerance * float(latents.abs().max()), rtol=0)
    images = theirs(CAPTIONS, output_type="np", **options).images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours.generate(CAPTIONS, SEEDS), images, atol=tolerance)


def test_an_image_does_not_depend_on_its_batch(reference):
    """Alone, in another order, in a longer list cut elsewhere."""
    together = reference.generate(CAPTIONS * 3, [*SEEDS, *range(6)])
    alone = np.concatenate([reference.generate([caption], [seed]) for caption, seed in zip(CAPTIONS, SEEDS, strict=True)])
    np.testing.assert_allclose(alone, together[:3], atol=1e-5)
    np.testing.assert_array_equal(reference.generate(CAPTIONS, SEEDS), reference.generate(CAPTIONS, SEEDS))


def test_images_are_what_the_contract_says(reference):
    """float32 RGB in [0, 1], and a caption or a seed changes them."""
    images = reference.generate(["a red circle", "a red circle", "a photo"], [1, 2, 1])
    assert (images.dtype, images.shape) == (np.float32, (3, 3, 16, 16))
    assert images.min() >= 0
    assert images.max() <= 1
    assert np.abs(images[0] - images[1]).max() > 0.01
    assert np.abs(images[0] - images[2]).max() > 1e-4


def test_nothing_asked_nothing_drawn(reference):
    assert reference.generate([], []).shape == (0, 3, 16, 16)


def test_evaluations_are_counted(pipeline_directory):
    """As predicted, guidance only in its interval."""
    pipeline = load(pipeline_directory, guidance_interval=(0.5, 5.0))
    guided = sum(0.5 <= sigma <= 5.0 for sigma in pipeline.sigmas)
    assert 0 < guided < 4
    pipeline.generate(CAPTIONS * 2, range(6))
    assert pipeline.evaluations == 6 * pipeline.evaluations_per_image == 6 * (4 + guided)


def test_a_caption_that_would_be_cut_is_refused(reference):
    """Before anything is drawn."""
    spent = reference.evaluations
    with pytest.raises(CaptionTooLongError, match="13 tokens") as caught:
        reference.generate(["a photo", "a photo of a large red circle on the green background"], [1, 2])
    assert (caught.value.tokens, caught.value.limit) == (13, 12)
    assert reference.evaluations == spent
    reference.generate(["a photo of a red circle on the green background"], [1])


def test_seeds_and_captions_must_match(reference):
    with pytest.raises(ValueError, match="one seed per caption"):
        reference.generate(["a photo"], [1, 2])


@pytest.mark.parametrize(
    "change", [{"steps": 5}, {"sampler": "ddim"}, {"guidance": 2.0}, {"schedule": "karras"}, {"guidance_interval": (0.0, 1.0)}]
)
def test_the_fingerprint_follows_the_plan(reference, pipeline_directory, change):
    assert load(pipeline_directory, **change).fingerprint != reference.fingerprint


def test_the_fingerprint_follows_the_weights(reference, pipeline_copy):
    """One number of one component is enough; the place of the directory does not matter."""
    assert load(pipeline_copy, batch=2, threads=1).fingerprint == reference.fingerprint
    path = pipeline_copy / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})
    assert load(pipeline_copy).fingerprint != reference.fingerprint


def test_recommended_settings_are_defaults(pipeline_copy, edit_json):
    """The caller's word goes before the directory's."""
    (pipeline_copy / "audit.json").write_text("{}")
    edit_json(pipeline_copy / "audit.json", steps=3, sampler="ddim", guidance=2.0, guidance_interval=[0.5, 4.0])
    plan = load_pipeline(pipeline_copy, backend="torch", steps=2).plan
    assert (plan.steps, plan.sampler, plan.guidance, plan.guidance_interval) == (2, "ddim", 2.0, (0.5, 4.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepps": 3}, "stepps"),
        ({"sampler": "heun"}, "ddim"),
        ({"steps": 0}, "at least one step"),
        ({"guidance_interval": [4, 1]}, "low <= high"),
    ],
)
def test_broken_recommendations_are_named(pipeline_copy, edit_json, settings, message):
    (pipeline_copy / "audit.json").write_text("{}")
    edit_json(pipeline_copy / "audit.json", **settings)
    with pytest.raises(PipelineError, match=message):
        load_pipeline(pipeline_copy, backend="torch")


def test_half_precision_weights_are_drawn_in_full(reference, pipeline_copy):
    """Stored as fp16, computed in fp32: close to the original."""
    for path in pipeline_copy.glob("*/*.safetensors"):
        save_file({name: value.half() for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    images = load(pipeline_copy).generate(CAPTIONS, SEEDS)
    np.testing.assert_allclose(images, reference.generate(CAPTIONS, SEEDS), atol=0.02)


def test_the_names_of_other_releases_are_read(reference, pipeline_copy):
    """fp16 variants, and text encoders written with a prefix and position numbers."""
    for part in ("unet", "vae"):
        path = pipeline_copy / part / "diffusion_pytorch_model.safetensors"
        path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    path = pipeline_copy / "text_encoder/model.safetensors"
    stored = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(path).items()}
    save_file({**stored, "text_model.embeddings.position_ids": torch.arange(12)[None]}, path, metadata={"format": "pt"})
    np.testing.assert_array_equal(load(pipeline_copy).generate(CAPTIONS, SEEDS), reference.generate(CAPTIONS, SEEDS))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("ending", [".bin", ".ckpt"])
def test_pickles_are_refused(pipeline_copy, part, ending):
    """They are never opened: this one is not even a pickle."""
    (path,) = (pipeline_copy / part).glob("*.safetensors")
    path.with_suffix(ending).write_bytes(b"")
    path.unlink()
    with pytest.raises(UnsafeWeightsError, match="safetensors"):
        load(pipeline_copy)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json", "text_encoder/config.json",
        "tokenizer/tokenizer_config.json", "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
    ],
)  # fmt: skip
def test_a_missing_file_is_named(pipeline_copy, name):
    (pipeline_copy / name).unlink()
    with pytest.raises(MissingFileError, match=name.split("/")[0]):
        load(pipeline_copy)


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/tokenizer.json"]
)
def test_a_truncated_file_is_ours_to_report(pipeline_copy, name):
    path = pipeline_copy / name
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PipelineError, match=name.split("/")[0]):
        load(pipeline_copy)


def test_broken_json_is_named(pipeline_copy):
    (pipeline_copy / "model_index.json").write_text("{")
    with pytest.raises(PipelineError, match=r"model_index\.json"):
        load(pipeline_copy)


def test_weights_of_another_text_encoder_are_refused(pipeline_copy, edit_json):
    edit_json(pipeline_copy / "text_encoder/config.json", num_hidden_layers=3)
    with pytest.raises(PipelineError, match="do not belong"):
        load(pipeline_copy)


def test_another_kind_of_pipeline_is_refused(pipeline_copy, edit_json):
    edit_json(pipeline_copy / "model_index.json", unet=["diffusers", "SD3Transformer2DModel"])
    with pytest.raises(UnsupportedPipelineError, match="SD3Transformer2DModel"):
        load(pipeline_copy)


def test_the_codec_is_scaled_both_ways(pipeline_directory, reference):
    """Encoding is what diffusers' own autoencoder says, times the scaling factor."""
    from diffusers import AutoencoderKL

    images = torch.rand(2, 3, 16, 16) * 2 - 1
    vae = AutoencoderKL.from_pretrained(pipeline_directory / "vae", low_cpu_mem_usage=False)
    with torch.no_grad():
        torch.testing.assert_close(reference.codec.encode(images), vae.encode(images).latent_dist.mean * 0.5)


def test_contexts_are_remembered_within_bounds(pipeline_directory):
    """The oldest goes first; a forgotten caption is encoded again to the same numbers."""
    text = load(pipeline_directory).text
    text._keep_bytes = 3 * 12 * 32 * 4
    first = text.encode(["red", "green", "blue", "circle", "square"], 5).tensors["context"]
    assert len(text._known) == 3
    torch.testing.assert_close(text.encode(["red", "square"], 2).tensors["context"], first[[0, 4]], rtol=0, atol=0)

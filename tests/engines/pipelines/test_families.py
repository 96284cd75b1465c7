"""Every family draws what diffusers' own pipeline draws from the same noise, latents and images."""

import sys
import warnings

import numpy as np
import pytest
import torch

from engines.noise import start_noise, step_noise
from engines.pipeline import load_pipeline
from tests.engines.pipelines.miniatures import LENGTH

CAPTIONS = ["a red circle", "a blue square on the green background"]
SEEDS = [5, 2**63 + 1]
TURBO = {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "batch": 4, **options})


def diffusers_pipeline(directory, **absent):
    from diffusers import DiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = DiffusionPipeline.from_pretrained(directory, local_files_only=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def give_noise(monkeypatch, ours, steps, *, pipeline=None):
    """The noise that we would use, wherever theirs draws any: at the start where it takes no latents, then step by step."""
    step = iter(range(steps))
    scheduler = sys.modules[f"diffusers.schedulers.{MODULES[ours.course.scheduler.name]}"]
    monkeypatch.setattr(scheduler, "randn_tensor", lambda *_, **__: step_noise(SEEDS, next(step), ours.latent_shape), raising=False)
    if pipeline is not None:
        monkeypatch.setattr(
            sys.modules[type(pipeline).__module__], "randn_tensor", lambda *_, **__: start_noise(SEEDS, ours.latent_shape)
        )


MODULES = {
    "DDIMScheduler": "scheduling_ddim", "DDPMScheduler": "scheduling_ddpm", "LCMScheduler": "scheduling_lcm",
    "EulerDiscreteScheduler": "scheduling_euler_discrete", "FlowMatchEulerDiscreteScheduler": "scheduling_flow_match_euler_discrete",
    "EulerAncestralDiscreteScheduler": "scheduling_euler_ancestral_discrete",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
@pytest.mark.parametrize(
    ("name", "steps", "guidance"),
    [
        ("stable_diffusion_2", 5, 4.0),
        ("stable_diffusion_2", 2, 1.0),
        ("stable_diffusion_xl", 4, 4.0),
        ("stable_diffusion_xl", 1, 1.0),
        ("latent_consistency", 4, 8.5),
        ("latent_consistency", 1, 3.0),
        ("stable_diffusion_3", 4, 4.0),
        ("stable_diffusion_3", 2, 1.0),
    ],
)
def test_captions_are_drawn_as_by_diffusers(family_directory, monkeypatch, name, steps, guidance):
    """Its pipeline, its scheduler, its text encoding."""
    own = {"sampler": "ddim", "schedule": "native"} if name == "stable_diffusion_2" else {}
    ours, theirs = load(family_directory(name), steps=steps, guidance=guidance, **own), diffusers_pipeline(family_directory(name))
    extra = {"max_sequence_length": LENGTH} if name == "stable_diffusion_3" else {}
    assert_same_captions(ours, theirs, monkeypatch, steps, guidance_scale=guidance, **extra)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_turbo_is_drawn_as_by_diffusers(family_directory, pipeline_like, monkeypatch):
    """The ancestral scheduler that few-step models ship with, without guidance."""
    directory = pipeline_like(family_directory("stable_diffusion_xl"), **TURBO)
    ours = load(directory, steps=2, guidance=1.0)
    assert (ours.plan.sampler, ours.evaluations_per_image) == ("euler_ancestral", 2)
    assert_same_captions(ours, diffusers_pipeline(directory), monkeypatch, 2, guidance_scale=0.0)


def test_without_t5_stable_diffusion_3_reads_two_encoders(family_directory, monkeypatch):
    """The third one's tokens are zeros, in number as with it."""
    directory = family_directory("stable_diffusion_3", t5=False)
    ours, theirs = load(directory, steps=2, guidance=3.0), diffusers_pipeline(directory, text_encoder_3=None, tokenizer_3=None)
    assert_same_captions(ours, theirs, monkeypatch, 2, guidance_scale=3.0)


def assert_same_captions(ours, theirs, monkeypatch, steps, **options):
    options |= {"num_inference_steps": steps, "latents": start_noise(SEEDS, ours.latent_shape)}
    give_noise(monkeypatch, ours, steps)
    latents = theirs(CAPTIONS, output_type="latent", **options).images
    torch.testing.assert_close(ours.draw(CAPTIONS, SEEDS), latents, atol=1e-4 * float(latents.abs().max()), rtol=0)
    give_noise(monkeypatch, ours, steps)
    images = theirs(CAPTIONS, output_type="np", **options).images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours.generate(CAPTIONS, SEEDS), images, atol=1e-4)
    assert ours.evaluations == 2 * 2 * ours.evaluations_per_image


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [(None, {}), ("DDIMScheduler", {"use_clipped_model_output": True})],
    ids=["ddpm", "ddim"],
)
def test_unconditional_pixels_are_drawn_as_by_diffusers(family_directory, pipeline_like, monkeypatch, scheduler, options):
    """Clean estimates are clipped, and for DDIM the noise follows from the clipped ones, as in the original code."""
    directory = family_directory("ddpm")
    if scheduler:
        directory = pipeline_like(directory, index={"_class_name": "DDIMPipeline"}, _class_name=scheduler)
    ours, theirs = load(directory, steps=10), diffusers_pipeline(directory)
    give_noise(monkeypatch, ours, 10, pipeline=theirs)
    images = theirs(batch_size=2, num_inference_steps=10, output_type="np", **options).images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours.generate(None, SEEDS), images, atol=1e-4)
    assert ours.evaluations == 2 * 10


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_dit_is_drawn_as_by_diffusers(family_directory, monkeypatch, guidance):
    """Classes, guided from class 1000; only the mean of what it learned is used."""
    ours, theirs = load(family_directory("dit"), steps=5, guidance=guidance), diffusers_pipeline(family_directory("dit"))
    give_noise(monkeypatch, ours, 5, pipeline=theirs)
    images = theirs([3, 999], guidance_scale=guidance, num_inference_steps=5, output_type="np").images.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours.generate([3, 999], SEEDS), images, atol=1e-4)


@pytest.mark.parametrize(("guidance", "null_class"), [(1.0, None), (3.0, 4)])
def test_classes_in_pixels_follow_their_own_loop(family_directory, guidance, null_class):
    """Diffusers has no pipeline for them: its network and its scheduler, guided by hand; twice the channels, the first half counts."""
    from diffusers import DDIMScheduler, UNet2DModel

    directory = family_directory("ddpm", num_class_embeds=5, out_channels=6)
    ours = load(directory, steps=5, guidance=guidance, null_class=null_class, sampler="ddim", schedule="native")
    unet = UNet2DModel.from_pretrained(directory / "unet", low_cpu_mem_usage=False).eval()
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(5)
    x, labels, none = start_noise(SEEDS, (3, 8, 8)), torch.tensor([0, 3]), torch.tensor([4, 4])
    for t in scheduler.timesteps:
        with torch.no_grad():
            told, untold = (unet(x, t, each).sample[:, :3] for each in (labels, none))
        x = scheduler.step(untold + guidance * (told - untold), t, x, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(ours.draw([0, 3], SEEDS), x, atol=2e-4, rtol=0)
    assert ours.evaluations == 2 * ours.evaluations_per_image == 2 * 5 * (2 if null_class else 1)

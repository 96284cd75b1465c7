"""The networks of every family on engines: exported graphs, certificates, batches, fingerprints."""

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from engines.directory import directory_digest, read_parts
from engines.errors import DigestError
from engines.pipeline import load_pipeline
from engines.pipelines.building import decoder_precision
from tests.engines.pipelines.miniatures import ONE_BLOCK

CAPTIONS = ["a red circle", "a blue square", "a photo"]
ASKED = {
    "stable_diffusion_2": CAPTIONS,
    "stable_diffusion_xl": CAPTIONS,
    "latent_consistency": CAPTIONS,
    "stable_diffusion_3": CAPTIONS,
    "dit": [1, 500, 999],
    "ddpm": None,
    "exported": None,
}
SEEDS = [5, 2**63 + 1, 7]


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "steps": 2, "batch": 4, "threads": 1, **options})


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("stable_diffusion_xl", {**ONE_BLOCK, "attention_head_dim": [2], "transformer_layers_per_block": (1,)}),
        ("latent_consistency", ONE_BLOCK),
        ("stable_diffusion_3", {}),
        ("dit", {"layers": 1}),
        ("ddpm", {**ONE_BLOCK, "down_block_types": ("AttnDownBlock2D",)}),
        ("exported", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_exported_graphs_draw_what_torch_draws(family_directory, graphs, name, small):
    """Denoiser and decoder are exported, certified, and cannot be told from the modules in the picture.

    Stable Diffusion 2 has the network of Stable Diffusion 1, which all backends draw with elsewhere, whole; of other U-Nets one block
    with what is peculiar to them, and of transformers one family whole.  What is chosen by itself is asked of a U-Net and of a transformer; choosing has tests of its own.
    """
    directory = family_directory(name, **small)
    plain, exported = (load(directory, backend=each, cache=graphs) for each in ("torch", "ort"))
    assert {choice.name for choice in exported.choices.values()} == {"ort"}
    images = plain.generate(ASKED[name], SEEDS)
    others = [exported, *([load(directory, backend="auto", cache=graphs)] if name in {"dit", "ddpm"} else [])]
    for other in others:
        assert plain.fingerprint == other.fingerprint
        assert all(choice.reason for choice in other.choices.values())
        np.testing.assert_allclose(other.generate(ASKED[name], SEEDS), images, atol=5e-5)


@pytest.mark.parametrize("name", ASKED)
def test_a_picture_does_not_depend_on_its_batch(family_directory, name):
    """Alone, and in a list that is cut elsewhere; the noise of stochastic samplers too."""
    pipeline, asked = load(family_directory(name)), ASKED[name]
    together = pipeline.generate(asked and asked * 2, [*SEEDS, 1, 2, 3])
    alone = [pipeline.generate(asked and asked[i : i + 1], SEEDS[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), together[:3], atol=1e-5)
    assert np.abs(together[0] - together[3]).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("stable_diffusion_xl", part) for part in ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer_2", "scheduler")),
        *(("stable_diffusion_3", part) for part in ("transformer", "text_encoder_3", "tokenizer_3")),
        ("ddpm", "unet"),
    ],
)
def test_the_fingerprint_follows_every_component(family_directory, pipeline_like, name, part):
    """One number of one file is enough, and the pin no longer fits."""
    before, copy = load(family_directory(name)), pipeline_like(family_directory(name))
    assert load(copy, pin=before.digest).fingerprint == before.fingerprint
    change(copy / part)
    after = load(copy)
    assert before.fingerprint != after.fingerprint
    assert directory_digest(copy) == after.digest != before.digest
    with pytest.raises(DigestError, match=after.digest):
        load(copy, pin=f"sha256:{before.digest}")


def change(folder):
    """The first number of the weights, or the end of a text file."""
    weights = next(folder.glob("*.safetensors"), None)
    if weights is None:
        path = next(iter(sorted(folder.glob("*.json"))))
        path.write_text(path.read_text() + "\n")
        return
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})


def test_guidance_that_is_told_to_the_network_changes_the_picture(family_directory):
    """A latent consistency model is evaluated once a step, however strongly it is guided."""
    weak, strong = (load(family_directory("latent_consistency"), guidance=guidance) for guidance in (2.0, 9.0))
    assert weak.evaluations_per_image == strong.evaluations_per_image == 2
    assert weak.fingerprint != strong.fingerprint
    assert np.abs(weak.generate(CAPTIONS, SEEDS) - strong.generate(CAPTIONS, SEEDS)).max() > 1e-4


def test_grey_pixels_are_shown_as_three_equal_ones(family_directory):
    pipeline = load(family_directory("ddpm", in_channels=1, out_channels=1))
    images = pipeline.generate(None, SEEDS)
    assert images.shape == (3, 3, 8, 8)
    np.testing.assert_array_equal(images[:, 0], images[:, 2])
    assert pipeline.codec.encode(pipeline.codec.decode(pipeline.draw(None, SEEDS))).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("ddpm", CAPTIONS, "pass None"),
        ("dit", None, "0 to 1000"),
        ("dit", [1, 2, 1001], "got 1001"),
        ("dit", CAPTIONS, "got 'a red circle'"),
        ("stable_diffusion_2", None, "draws captions"),
        ("stable_diffusion_2", [1, 2, 3], "draws captions"),
    ],
)
def test_what_a_family_cannot_be_asked_is_said_before_drawing(family_directory, name, asked, message):
    pipeline = load(family_directory(name))
    with pytest.raises(ValueError, match=message):
        pipeline.generate(asked, SEEDS)
    assert pipeline.evaluations == 0


def test_the_null_class_may_be_recommended(family_directory, pipeline_like):
    """By the directory's audit.json; it changes the picture, so also the fingerprint."""
    directory = pipeline_like(family_directory("ddpm", num_class_embeds=5, out_channels=6))
    (directory / "audit.json").write_text('{"null_class": 4, "guidance": 3.0, "steps": 2}')
    recommended, other = load(directory), load(directory, null_class=3)
    assert recommended.evaluations_per_image == 4
    assert recommended.fingerprint != other.fingerprint
    assert np.abs(recommended.generate([1], [1]) - other.generate([1], [1])).max() > 1e-4


@pytest.mark.parametrize(("name", "used"), [("stable_diffusion_xl", "fp32"), ("stable_diffusion_2", "fp16")])
def test_an_autoencoder_that_overflows_in_half_precision_is_run_in_full(family_directory, name, used):
    """XL's first one says so of itself; others carry the same setting because their class assumes it."""
    parts = read_parts(family_directory(name))
    assert parts.vae.config.force_upcast
    assert (decoder_precision(parts, "fp16"), decoder_precision(parts, "bf16")) == (used, "bf16")

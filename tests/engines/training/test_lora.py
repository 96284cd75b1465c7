"""A whole fine-tune of a small pipeline: only adapters move, it learns, survives kills, and what it leaves draws the same everywhere."""

import hashlib
import json
import resource
import shutil
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from engines.directory import read_parts
from engines.errors import CaptionTooLongError, UnsupportedPipelineError
from engines.pipeline import load_pipeline
from engines.training import (
    CaptionedImages,
    LoraRecipe,
    LoraReport,
    TrainingDataError,
    TrainingError,
    lora_delta,
    read_adapter,
    read_folder,
    train_lora,
)
from engines.training.vendor import quiet

TINY = {"rank": 4, "alpha": 8.0, "batch": 4, "steps": 52, "learning_rate": 4e-3, "ema_decay": 0.5, "seed": 3}


class Tuned(NamedTuple):
    out: Path
    work: Path
    report: LoraReport
    said: list


def tune(data, base, root, report=lambda *_: None, **changes):
    return train_lora(data, base, LoraRecipe(**(TINY | changes)), root / "out", work=root / "work", report=report)


def weights(out):
    return {
        f"{path.parent.name}.{name}": value
        for path in sorted(out.rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def digests(folder):
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def drawn_by_diffusers(directory, adapter=None):
    """Two steps of diffusers' own pipeline, with its own loader of adapters."""
    from diffusers import StableDiffusionPipeline

    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(directory, local_files_only=True)
        if adapter:
            pipeline.load_lora_weights(adapter)
        pipeline.set_progress_bar_config(disable=True)
        seed = torch.Generator().manual_seed(0)
        return pipeline("a red square", num_inference_steps=2, generator=seed, output_type="np").images


@pytest.fixture(scope="module")
def data():
    """Red and blue squares, in words that the pipeline's tokenizer knows."""
    rng = np.random.default_rng(0)
    images = np.full((16, 16, 16, 3), 60) + rng.normal(0, 4, (16, 16, 16, 3))
    images[::2, 4:12, 4:12], images[1::2, 4:12, 4:12] = (200, 20, 20), (20, 20, 200)
    captions = [[f"a {colour} square", f"a photo of a {colour} square"] for colour in ("red", "blue")] * 8
    return CaptionedImages(np.clip(images, 0, 255).astype(np.uint8), captions)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, data, pipeline_directory):
    root, said, before = tmp_path_factory.mktemp("tuned"), [], digests(pipeline_directory)
    report = tune(data, pipeline_directory, root, report=lambda *args: said.append(args))
    assert digests(pipeline_directory) == before
    return Tuned(root / "out", root / "work", report, said)


def test_only_attention_projections_change(tuned, pipeline_directory):
    """All else is the base's, to the last bit, and so are the files that hold no weights."""
    base, merged = weights(pipeline_directory), weights(tuned.out)
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    wanted = tuple(f".{layer}.weight" for layer in ("to_q", "to_k", "to_v", "to_out.0"))
    assert changed == {name for name in base if name.startswith("unet.") and name.endswith(wanted)}
    files, copies = digests(pipeline_directory), digests(tuned.out)
    assert {str(path) for path in files if files[path] != copies[path]} <= {
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
    }


def test_the_delta_is_merged_less_base(tuned, pipeline_directory):
    """Name by name, nothing left over."""
    base, merged = weights(pipeline_directory), weights(tuned.out)
    delta = lora_delta(read_adapter(tuned.out / "adapter"), base)
    for name, value in base.items():
        assert torch.equal(merged[name], value + delta[name] if name in delta else value)


def test_the_loss_on_the_pictures_goes_down(tuned, data, pipeline_directory):
    """Measured with diffusers' scheduler, on equal noise for both."""
    from diffusers import DDPMScheduler

    def loss(directory):
        with quiet(), torch.no_grad():
            parts = read_parts(directory)
            schedule = DDPMScheduler.from_config(dict(parts.scheduler))
            torch.manual_seed(0)
            x = torch.from_numpy(data.images).permute(0, 3, 1, 2).repeat(8, 1, 1, 1) / 127.5 - 1
            x0 = parts.vae.encode(x).latent_dist.mean * parts.vae.config.scaling_factor
            noise, t = torch.randn_like(x0), torch.arange(128) * 1000 // 128
            tokens = parts.tokenizer(
                [c[0] for c in data.captions] * 8, padding="max_length", max_length=12, return_tensors="pt"
            ).input_ids
            context = parts.text_encoder(tokens)[0]
            return float((parts.unet(schedule.add_noise(x0, noise, t), t, context).sample - noise).square().mean())

    assert loss(tuned.out) < 0.97 * loss(pipeline_directory)


def test_merged_and_adapted_draw_the_same_in_diffusers(tuned, pipeline_directory):
    """The merged directory, and the base with the adapter file; alpha is not the rank here."""
    merged = drawn_by_diffusers(tuned.out)
    np.testing.assert_allclose(merged, drawn_by_diffusers(pipeline_directory, tuned.out / "adapter"), atol=1e-4)
    assert np.abs(merged - drawn_by_diffusers(pipeline_directory)).max() > 1e-2


def test_the_merged_directory_is_a_pipeline_of_its_own(tuned, pipeline_directory, graphs):
    """Loaded as it is; its fingerprint is not the base's."""
    ours, base = (load_pipeline(path, backend="torch", steps=1, cache=graphs) for path in (tuned.out, pipeline_directory))
    assert ours.fingerprint != base.fingerprint
    assert ours.generate(["a red square"], [1]).shape == (1, 3, 16, 16)


def test_the_record_says_what_was_done(tuned, pipeline_directory):
    """In JSON for programs and in words for people; files are for everyone to read."""
    card, words = json.loads((tuned.out / "training.json").read_text()), (tuned.out / "README.md").read_text()
    assert card["base"] == {"name": pipeline_directory.name, "digest": read_parts(pipeline_directory).digest}
    assert (card["method"], card["images"], card["captions"], card["image_size"]) == ("lora", 16, 4, 16)
    assert (card["recipe"]["rank"], card["recipe"]["seconds"], card["spent"]["steps"]) == (4, None, 52)
    assert f"{tuned.report.trained_numbers:,} parameters" in words
    assert all(path.stat().st_mode & stat.S_IROTH for path in tuned.out.rglob("*") if path.is_file())


def test_progress_is_told_to_the_end(tuned):
    """Latents first, then steps."""
    assert [(done, total, what.split(",")[0]) for done, total, what in tuned.said] == [
        *((done, 16, "latents") for done in (4, 8, 12, 16)),
        (50, 52, "lora"),
        (52, 52, "lora"),
    ]


def test_a_run_that_dies_ends_where_an_uninterrupted_one_does(tuned, data, pipeline_directory, tmp_path):
    """After a checkpoint; weights are equal to the last bit, and latents are not computed again."""

    class DeathError(BaseException):
        """Caught by nobody, so that no more is saved than by a kill."""

    def die(done, _total, what):
        if what.startswith("lora") and done == 50:
            raise DeathError

    with pytest.raises(DeathError):
        tune(data, pipeline_directory, tmp_path, report=die, checkpoint_seconds=0.2)
    assert (tmp_path / "work" / "lora.safetensors").is_file()
    assert not (tmp_path / "out").exists()
    torch.manual_seed(99)
    said = []
    report = tune(data, pipeline_directory, tmp_path, report=lambda *args: said.append(args[2].split(",")[0]))
    assert (report.spent.steps, set(said)) == (52, {"lora"})
    assert equal(weights(tmp_path / "out"), weights(tuned.out))


def test_text_encoders_can_be_adapted_too(data, pipeline_directory, tmp_path):
    """Their projections change as well, and diffusers reads their part of the file."""
    tune(data, pipeline_directory, tmp_path, text_encoder=True, steps=3, mirror=True, min_snr_gamma=None, learning_rate=0.1)
    base, merged = weights(pipeline_directory), weights(tmp_path / "out")
    parts = {name.split(".")[0] for name in base if not torch.equal(base[name], merged[name])}
    assert parts == {"unet", "text_encoder"}
    adapted = drawn_by_diffusers(pipeline_directory, tmp_path / "out" / "adapter")
    np.testing.assert_allclose(drawn_by_diffusers(tmp_path / "out"), adapted, atol=1e-4)


def test_other_layers_and_ranks_can_be_chosen(data, pipeline_directory, tmp_path):
    """Convolutions too."""
    report = tune(data, pipeline_directory, tmp_path, targets=("conv1", "to_q"), rank=2, steps=1)
    adapter = read_adapter(tmp_path / "out" / "adapter")
    assert {name.rsplit(".", 3)[1] for name in adapter} == {"conv1", "to_q"}
    assert {min(value.shape[:2]) for value in adapter.values()} == {2}
    assert report.trained_numbers == sum(value.numel() for value in adapter.values())


def test_checkpointed_gradients_are_the_same(data, pipeline_directory, tmp_path):
    """They save memory and cost time, nothing else; a run may be taken up with or without."""
    for place, on in ((tmp_path / "on", True), (tmp_path / "off", False)):
        tune(data, pipeline_directory, place, steps=2, gradient_checkpointing=on)
    assert equal(weights(tmp_path / "on" / "out"), weights(tmp_path / "off" / "out"))


def test_half_precision_arithmetic_trains_single_precision_adapters(data, pipeline_directory, tmp_path):
    """Frozen weights and activations in bf16; what is stored is the base's precision, near what float32 gives."""
    for place, precision in ((tmp_path / "half", "bf16"), (tmp_path / "full", "fp32")):
        tune(data, pipeline_directory, place, steps=5, precision=precision)
    half, full = weights(tmp_path / "half" / "out"), weights(tmp_path / "full" / "out")
    assert {value.dtype for value in half.values()} == {torch.float32}
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    change = full[name] - weights(pipeline_directory)[name]
    assert (half[name] - full[name]).norm() < 0.3 * change.norm()


@pytest.fixture
def retuned(tuned, data):
    """Take a finished run up again: nothing is trained, all is written."""

    def again(out, base=None, **changes):
        return train_lora(data, base, LoraRecipe(**(TINY | changes)), out, work=tuned.work)

    return again


def test_a_finished_run_is_written_again_without_training(retuned, tuned, pipeline_directory, tmp_path, capfd):
    """In silence; over the old directory too."""
    (tmp_path / "out").mkdir()
    assert retuned(tmp_path / "out", pipeline_directory).spent.loss == tuned.report.spent.loss
    retuned(tmp_path / "out", pipeline_directory)
    assert equal(weights(tmp_path / "out"), weights(tuned.out))
    assert capfd.readouterr() == ("", "")


def test_what_nobody_reads_stays_behind(data, pipeline_copy, tmp_path, edit_json):
    """Pickles, a checker that has only those, single-file checkpoints, notes; recommended settings come along."""
    (pipeline_copy / "safety_checker").mkdir()
    for name in ("safety_checker/pytorch_model.bin", "unet/old.ckpt", "whole.safetensors", "notes.txt"):
        (pipeline_copy / name).write_bytes(b"x")
    (pipeline_copy / "audit.json").write_text('{"steps": 2}')
    edit_json(pipeline_copy / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    tune(data, pipeline_copy, tmp_path, steps=1)
    left = {str(path) for path in digests(pipeline_copy).keys() - digests(tmp_path / "out").keys()}
    assert left == {"safety_checker/pytorch_model.bin", "unet/old.ckpt", "whole.safetensors", "notes.txt"}
    assert json.loads((tmp_path / "out" / "model_index.json").read_text())["safety_checker"] == [None, None]


def test_a_base_in_half_precision_stays_in_half(data, pipeline_copy, tmp_path):
    """Also where files are named as diffusers names such variants."""
    path = pipeline_copy / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(
        {name: value.half() for name, value in load_file(path).items()}, path.with_suffix(".fp16.safetensors"), {"format": "pt"}
    )
    path.unlink()
    tune(data, pipeline_copy, tmp_path, steps=1)
    merged = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert {value.dtype for value in merged.values()} == {torch.float16}


def test_a_full_disk_leaves_nothing_behind(retuned, pipeline_directory, tmp_path):
    """The system refuses to write more than 8 kB to a file; an older directory is not touched."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "training.json").write_text("{}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(TrainingError, match=r"out cannot be written .*; free space there and run again"):
            retuned(tmp_path / "out", pipeline_directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "training.json"]


def test_too_little_room_is_said_before_training(data, pipeline_directory, tmp_path, monkeypatch):
    """With what is needed and what is free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    with pytest.raises(TrainingError, match=r"out needs 0.0 GB, 0.0 GB are free there; free space"):
        tune(data, pipeline_directory, tmp_path)
    assert not (tmp_path / "work").exists()


def test_a_loss_that_is_no_number_ends_the_run(data, pipeline_directory, tmp_path):
    """Nothing is written."""
    with pytest.raises(TrainingError, match=r"lora: the loss is not finite at step .*; lower the learning rate"):
        tune(data, pipeline_directory, tmp_path, learning_rate=1e30, steps=5)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["latents.safetensors"]


def test_the_base_is_never_overwritten(data, pipeline_copy):
    """Not even a base that was itself trained here; nor is anybody else's directory."""
    with pytest.raises(TrainingError, match="not a pipeline that was trained here"):
        train_lora(data, pipeline_copy, LoraRecipe(), pipeline_copy, work=pipeline_copy.parent / "work")
    (pipeline_copy / "training.json").write_text("{}")
    (pipeline_copy.parent / "training.json").write_text("{}")
    for out in (pipeline_copy, pipeline_copy.parent):
        with pytest.raises(TrainingError, match="is or holds the base"):
            train_lora(data, pipeline_copy, LoraRecipe(), out, work=pipeline_copy.parent / "work")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"targets": ("to_z",)}, r"unet: no adapter fits to_z \(.*not found.*\); change the targets"),
        ({"targets": ("norm1",)}, r"unet: no adapter fits norm1 \(.*not supported.*\); change the targets"),
        ({"image_size": 18}, "image_size 18 is not a multiple of 4, by which"),
        ({"rank": 8}, r"lora.safetensors belongs to other images, captions or sizes; delete it or use another work"),
    ],
)
def test_settings_that_do_not_fit_are_refused(retuned, pipeline_directory, tmp_path, change, said):
    """By name, before any training."""
    with pytest.raises(TrainingError, match=said):
        retuned(tmp_path / "out", pipeline_directory, **change)


def test_pictures_of_another_size_are_refused(data, pipeline_directory, tmp_path):
    """Those in memory are used as they are."""
    with pytest.raises(TrainingDataError, match="images are 16x16 pixels but 32 are trained on"):
        tune(data, pipeline_directory, tmp_path, image_size=32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": 0}, "rank 0"),
        ({"alpha": 0.0}, "alpha 0.0"),
        ({"targets": ()}, "targets is empty"),
        ({"image_size": 0}, "image_size 0"),
        ({"steps": 0}, "must be positive"),
        ({"learning_rate": float("nan")}, "must be positive"),
        ({"caption_dropout": 1.0}, "caption_dropout 1.0"),
        ({"ema_decay": 1.0}, "ema_decay 1.0"),
        ({"min_snr_gamma": 0.0}, "min_snr_gamma 0.0"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown"),
    ],
)
def test_impossible_recipes_are_refused(change, said):
    """When they are made, not an hour later."""
    with pytest.raises(TrainingError, match=said):
        LoraRecipe(**change)


def test_a_base_of_another_kind_is_refused(data, pipeline_copy, tmp_path, edit_json):
    """A UNet that wants more than latents, as those for inpainting do, or another class."""
    edit_json(pipeline_copy / "unet" / "config.json", in_channels=9)
    with pytest.raises(UnsupportedPipelineError, match="made for inpainting"):
        tune(data, pipeline_copy, tmp_path)
    edit_json(pipeline_copy / "model_index.json", unet=["diffusers", "FluxTransformer2DModel"])
    with pytest.raises(UnsupportedPipelineError, match="FluxTransformer2DModel"):
        tune(data, pipeline_copy, tmp_path)


def test_a_caption_that_would_be_cut_is_refused_first(data, pipeline_directory, tmp_path):
    """By name, before any training."""
    wordy = CaptionedImages(data.images, [["a " * 20]] * len(data))
    with pytest.raises(CaptionTooLongError, match="has 22 tokens, the text encoder reads 12"):
        tune(wordy, pipeline_directory, tmp_path)
    assert not (tmp_path / "work").exists()


def test_a_picture_that_cannot_be_read_is_named(pipeline_directory, tmp_path):
    """With the vendor's reason."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("a photo")
    with pytest.raises(TrainingDataError, match=r"b\.png is not a picture that can be read"):
        tune(read_folder(tmp_path), pipeline_directory, tmp_path)


def test_without_peft_it_is_said_what_to_install(data, pipeline_directory, tmp_path, monkeypatch):
    """Nothing else of this package needs it."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"adapters need peft, .* pip install 'audit-plugin\[train\]'"):
        tune(data, pipeline_directory, tmp_path)


def test_too_little_memory_is_said_with_what_to_lower(data, pipeline_directory, tmp_path):
    """A device that runs out while training."""

    def full(_done, _total, what):
        if what.startswith("latents"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore")

    with pytest.raises(TrainingError, match=r"too little memory for batches of 4 \(CUDA out of .* GiB.\); lower the batch"):
        tune(data, pipeline_directory, tmp_path, report=full)

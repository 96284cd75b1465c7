"""A whole training run: it learns, survives kills, repeats itself, and leaves a directory that others load."""

import json
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engines.errors import CaptionTooLongError
from engines.pipeline import load_pipeline
from engines.training import CaptionedImages, TrainingDataError, TrainingError, train_pipeline
from engines.training.vendor import quiet
from engines.training.write import Trained, write_pipeline


def weights(directory):
    return {
        f"{path.parent.name}.{name}": value
        for path in sorted(directory.rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_both_losses_fall(trained, data, recipe, tmp_path):
    """Against the loss of the very first step."""
    first = train_pipeline(data, recipe(autoencoder_steps=1, diffusion_steps=1), tmp_path / "out", work=tmp_path / "work")
    assert trained[1].autoencoder.loss < 0.9 * first.autoencoder.loss
    assert trained[1].diffusion.loss < 0.9 * first.diffusion.loss


def test_the_directory_draws_what_the_caption_says(trained):
    """The production loader takes it, with the plan that it recommends."""
    pipeline = load_pipeline(trained[0], backend="torch")
    images = pipeline.generate(["a red square on dark ground", "a blue square on dark ground"], [1, 1])
    assert images.shape == (2, 3, 16, 16)
    assert np.isfinite(images).all()
    assert pipeline.plan.steps == 2


def test_diffusers_itself_loads_the_directory(trained):
    """Without network and without our code."""
    from diffusers import StableDiffusionPipeline

    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(trained[0], local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline.to(torch.float32)("a red square", num_inference_steps=1, output_type="np", guidance_scale=1.0)
    assert drawn.images.shape == (1, 16, 16, 3)


def test_weights_are_half_precision_safetensors_that_everyone_may_read(trained):
    """No pickles, nothing in single precision, no private files."""
    files = [path for path in trained[0].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md", ".txt", ".safetensors"}
    assert {value.dtype for value in weights(trained[0]).values()} == {torch.float16}
    assert all(path.stat().st_mode & stat.S_IROTH for path in files)


def test_the_card_says_what_was_done(trained):
    """In JSON for programs and in words for people."""
    card, words = json.loads((trained[0] / "training.json").read_text()), (trained[0] / "README.md").read_text()
    assert (card["images"], card["captions"]) == (32, 8)
    assert card["recipe"]["autoencoder_seconds"] is None
    assert card["spent"]["diffusion"]["steps"] == 60
    assert "32 images with 8 different captions" in words
    assert f"| diffusion | 60 | {trained[1].diffusion.seconds:.0f} | {trained[1].diffusion.loss:.4f} |" in words


def test_captions_lie_beside_the_weights(trained):
    """The first of each picture, for whoever asks later what the directory understands."""
    assert (trained[0] / "captions.txt").read_text().splitlines() == [
        f"a {colour} square on {ground} ground" for colour in ("blue", "red") for ground in ("dark", "light")
    ]


def test_progress_is_told_to_the_end(trained):
    """Each stage reports its last step."""
    assert [(done, total, what.split(",")[0]) for done, total, what in trained[2]] == [
        (50, 52, "autoencoder"),
        (52, 52, "autoencoder"),
        (50, 60, "diffusion"),
        (60, 60, "diffusion"),
    ]


def test_the_callers_random_state_stays(data, recipe, tmp_path):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    train_pipeline(data, recipe(autoencoder_steps=1, diffusion_steps=1), tmp_path / "out", work=tmp_path / "work")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_dies_ends_where_an_uninterrupted_one_does(trained, data, recipe, tmp_path):
    """Between two checkpoints of either stage; weights are equal to the last bit, whatever the random state was."""

    class DeathError(BaseException):
        """Caught by nobody, so that no more is saved than by a kill."""

    for stage in ("autoencoder", "diffusion"):

        def die(done, _total, what, stage=stage):
            if what.startswith(stage) and done == 50:
                raise DeathError

        torch.seed()
        with pytest.raises(DeathError):
            train_pipeline(data, recipe(checkpoint_seconds=0.4), tmp_path / "out", work=tmp_path / "work", report=die)
        assert (tmp_path / "work" / f"{stage}.safetensors").is_file()
    assert not (tmp_path / "out").exists()
    torch.manual_seed(99)
    spent = train_pipeline(data, recipe(), tmp_path / "out", work=tmp_path / "work")
    assert (spent.autoencoder.steps, spent.diffusion.steps) == (52, 60)
    assert equal(weights(tmp_path / "out"), weights(trained[0]))


def test_a_finished_run_remembers_what_it_cost(trained, data, recipe, tmp_path):
    """Taken up again it trains nothing, and reports the same steps, seconds and losses."""
    again = train_pipeline(data, recipe(), tmp_path / "out", work=trained[0].parent / "work")
    for now, then in ((again.autoencoder, trained[1].autoencoder), (again.diffusion, trained[1].diffusion)):
        assert (now.steps, now.loss) == (then.steps, then.loss)
        assert now.seconds == pytest.approx(then.seconds, abs=1)


def test_nothing_is_printed(trained, data, recipe, tmp_path, capfd):
    """No bars, no log lines, no warnings of vendors, and none of our own without a report."""
    train_pipeline(data, recipe(), tmp_path / "out", work=trained[0].parent / "work")
    assert capfd.readouterr() == ("", "")


def test_a_failed_write_leaves_no_directory(recipe, tmp_path):
    """Nor does it touch an older pipeline."""
    from engines.training.autoencoder import build_autoencoder

    old = tmp_path / "out"
    old.mkdir()
    (old / "training.json").write_text("{}")
    broken = Trained(autoencoder=build_autoencoder(recipe()), text_encoder=None, unet=None, tokenizer=None)
    with quiet(), pytest.raises(AttributeError):
        write_pipeline(old, recipe(), broken, {})
    assert [path.name for path in old.iterdir()] == ["training.json"]


def test_somebody_elses_directory_is_not_replaced(data, recipe, tmp_path):
    """Refused before any training."""
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(TrainingError, match="not a pipeline that was trained here"):
        train_pipeline(data, recipe(), tmp_path, work=tmp_path / "work")


def test_a_checkpoint_of_another_run_is_refused(trained, data, recipe, tmp_path):
    """Other captions, same work directory."""
    other = CaptionedImages(data.images, [["a square"]] * len(data))
    with pytest.raises(TrainingError, match="belongs to other images, captions or sizes"):
        train_pipeline(other, recipe(), tmp_path / "out", work=trained[0].parent / "work")


def test_a_damaged_checkpoint_is_named(data, recipe, tmp_path):
    """With what to do about it."""
    (tmp_path / "autoencoder.safetensors").write_bytes(b"\x10")
    with pytest.raises(TrainingError, match=r"autoencoder.safetensors cannot be read .*; delete it"):
        train_pipeline(data, recipe(), tmp_path / "out", work=tmp_path)


def test_a_caption_that_would_be_cut_is_refused_first(data, recipe, tmp_path):
    """By name, before any training."""
    long = "a red square on a very very very very very very very very long road"
    wordy = CaptionedImages(data.images, [[long]] * len(data))
    with pytest.raises(CaptionTooLongError, match=f"'{long}' has .* the text encoder reads 12"):
        train_pipeline(wordy, recipe(), tmp_path / "out", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_an_unusable_device_is_named(data, recipe, tmp_path):
    """With the vendor's reason."""
    with pytest.raises(TrainingError, match="device 'nonsense' cannot be used"):
        train_pipeline(data, recipe(), tmp_path / "out", work=tmp_path, device="nonsense")


def test_images_of_another_size_are_refused(data, recipe, tmp_path):
    """Both sizes are said."""
    with pytest.raises(TrainingDataError, match="images are 16x16 pixels but the recipe's image_size is 32"):
        train_pipeline(data, recipe(image_size=32), tmp_path / "out", work=tmp_path)

"""A diffusion over pixels: it learns, survives kills, and leaves a directory that engines and diffusers load."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from engines.pipeline import load_pipeline
from engines.training import PixelRecipe, TrainingDataError, TrainingError, read_pictures, train_pixels
from engines.training.__main__ import main
from engines.training.vendor import quiet

SMALL = {"channels": (8, 16), "steps": 60, "batch": 4, "learning_rate": 5e-3, "sampling_steps": 2}


def squares(n=16, colours=3):
    """8x8 pictures, dark or light with a mark in the middle."""
    images = np.full((n, 8, 8, colours), 40, np.uint8)
    images[::2] = 210
    images[:, 2:6, 2:6, 0] = 128
    return images


def weights(directory):
    return load_file(directory / "unet" / "diffusion_pytorch_model.safetensors")


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The directory and what was spent."""
    root = tmp_path_factory.mktemp("pixels")
    return root / "out", train_pixels(squares(), PixelRecipe(**SMALL), root / "out", work=root / "work", about="Squares.")


def test_the_loss_falls(made, tmp_path):
    """Against that of the very first step."""
    first = train_pixels(squares(), PixelRecipe(**SMALL | {"steps": 1}), tmp_path / "out", work=tmp_path / "work")
    assert made[1].loss < 0.7 * first.loss


def test_engines_and_diffusers_compute_the_same(made):
    """The same noise estimate from the same files, at both ends of the schedule."""
    from diffusers import DDPMPipeline

    pipeline = load_pipeline(made[0], backend="torch")
    with quiet():
        theirs = DDPMPipeline.from_pretrained(made[0], local_files_only=True)
    noised = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in (0, 999):
        with torch.no_grad():
            wanted = theirs.unet.float()(noised, t).sample
            ours = pipeline.diffusion.differentiable(noised, torch.full((2,), float(t)), pipeline.told(None, 2))
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)


def test_the_directory_is_the_ddpm_that_guided_methods_assume(made):
    """Linear schedule of a thousand timesteps, noise prediction; and it draws with the quick plan of its audit.json."""
    config = json.loads((made[0] / "scheduler" / "scheduler_config.json").read_text())
    wanted = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
    assert wanted.items() <= config.items()
    assert (config["prediction_type"], config["variance_type"]) == ("epsilon", "fixed_small")
    pipeline = load_pipeline(made[0], backend="torch")
    assert pipeline.plan.steps == 2
    assert pipeline.generate(None, [1, 2]).shape == (2, 3, 8, 8)


def test_the_card_says_what_was_done(made):
    """For programs and for people."""
    card, words = json.loads((made[0] / "training.json").read_text()), (made[0] / "README.md").read_text()
    assert (card["images"], card["recipe"]["seconds"], card["spent"]["pixels"]["steps"]) == (16, None, 60)
    assert "Squares." in words
    assert "60 steps of 4 pictures" in words


def test_a_run_that_dies_ends_where_an_uninterrupted_one_does(made, tmp_path):
    """Between two checkpoints, of which only the file is left; weights are equal to the last bit."""

    class DeathError(BaseException):
        """Caught by nobody, so that no more is saved than by a kill."""

    def die(done, _total, _what):
        if done == 50:
            raise DeathError

    recipe = PixelRecipe(**SMALL, checkpoint_seconds=0.1)
    with pytest.raises(DeathError):
        train_pixels(squares(), recipe, tmp_path / "out", work=tmp_path / "work", report=die)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["pixels.safetensors"]
    assert train_pixels(squares(), PixelRecipe(**SMALL), tmp_path / "out", work=tmp_path / "work").steps == 60
    assert equal(weights(tmp_path / "out"), weights(made[0]))


def test_a_snapshot_writes_the_checkpoint_and_trains_nothing(made, tmp_path):
    """With the steps of the checkpoint, not those of the budget; the checkpoint stays as it is."""
    work = made[0].parent / "work"
    before = (work / "pixels.safetensors").read_bytes()
    spent = train_pixels(squares(), PixelRecipe(**SMALL | {"steps": 900}), tmp_path / "out", work=work, snapshot=True)
    assert spent.steps == 60
    assert equal(weights(tmp_path / "out"), weights(made[0]))
    assert (work / "pixels.safetensors").read_bytes() == before
    with pytest.raises(TrainingError, match="nothing to write yet"):
        train_pixels(squares(), PixelRecipe(**SMALL), tmp_path / "none", work=tmp_path, snapshot=True)


def test_grey_pictures_make_a_network_of_one_channel(tmp_path):
    """Mirrored half the time, and drawn as colours, all three the same."""
    recipe = PixelRecipe(**SMALL | {"steps": 1, "mirror": True, "min_snr_gamma": None})
    train_pixels(squares(colours=1), recipe, tmp_path / "out", work=tmp_path / "work")
    drawn = load_pipeline(tmp_path / "out", backend="torch").generate(None, [1])
    assert drawn.shape == (1, 3, 8, 8)
    assert (drawn == drawn[:, :1]).all()


def save(folder, **pictures):
    folder.mkdir(exist_ok=True)
    for name, image in pictures.items():
        Image.fromarray(image).save(folder / f"{name}.png")


def test_folders_and_arrays_are_read_alike(tmp_path):
    """By name, subfolders too."""
    save(tmp_path / "a", one=squares()[0])
    save(tmp_path / "a" / "sub", two=squares()[1])
    np.save(tmp_path / "a.npy", squares()[:2])
    np.testing.assert_array_equal(read_pictures(tmp_path / "a"), read_pictures(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ({}, "holds no pictures"),
        ({"a": squares()[0], "b": squares()[0][:4, :4]}, r"b.png is 4x4 RGB, a.png is 8x8 RGB; .* one size and kind"),
        ({"a": squares()[0], "b": squares()[0][..., 0]}, r"b.png is 8x8 grey, a.png is 8x8 RGB"),
        ({"a": np.zeros((8, 8, 4), np.uint8)}, r"a.png has 4 channels of mode RGBA; .* convert it"),
    ],
)
def test_unfit_folders_are_refused(tmp_path, pictures, said):
    """With the picture that is not like the others."""
    save(tmp_path / "pictures", **pictures)
    with pytest.raises(TrainingDataError, match=said):
        read_pictures(tmp_path / "pictures")


def test_files_that_are_no_pictures_are_named(tmp_path):
    """Damaged pictures, damaged arrays, missing folders."""
    for name in ("broken.png", "broken.npy"):
        (tmp_path / name).write_bytes(b"no picture")
    for source, said in (
        (tmp_path, "broken.png is not a picture"),
        (tmp_path / "broken.npy", "cannot be read as an array"),
        (tmp_path / "none", "is not a folder"),
    ):
        with pytest.raises(TrainingDataError, match=said):
            read_pictures(source)


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (squares()[:, :6], "pictures are 8x6 pixels; they must be squares"),
        (squares()[:, :7, :7], "multiple of 2"),
        (squares().astype(np.float32), r"must be uint8 \(n, h, w, 3\)"),
        (squares(colours=2), r"must be uint8 \(n, h, w, 3\)"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, pictures, said):
    """Before any training."""
    with pytest.raises(TrainingDataError, match=said):
        train_pixels(pictures, PixelRecipe(**SMALL), tmp_path / "out", work=tmp_path / "work")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channels": (12, 16)}, "multiples of the 8 groups"),
        ({"channels": ()}, "at least one resolution"),
        ({"steps": 0}, "must be positive"),
        ({"min_snr_gamma": -1.0}, "min_snr_gamma -1.0"),
        ({"ema_decay": 1.0}, "ema_decay 1.0"),
    ],
)
def test_recipes_that_cannot_be_are_refused(change, said):
    """By setting."""
    with pytest.raises(TrainingError, match=said):
        PixelRecipe(**SMALL | change)


def test_a_checkpoint_of_other_pictures_is_refused(made, tmp_path):
    """Same work directory, other pictures."""
    with pytest.raises(TrainingError, match="belongs to other images"):
        train_pixels(squares(8), PixelRecipe(**SMALL), tmp_path / "out", work=made[0].parent / "work")


def test_the_command_trains_and_refuses_in_one_line(tmp_path, capsys):
    """Exit codes 0 and 2."""
    save(tmp_path / "pictures", one=squares()[0])
    command = ["pixels", "--images", str(tmp_path / "pictures"), "--out", str(tmp_path / "out"), "--steps", "1", "--batch", "2"]
    assert main([*command, "--channels", "8", "16"]) == 0
    assert "1 steps on 1 pictures" in capsys.readouterr().err
    assert (tmp_path / "out" / "model_index.json").is_file()
    save(tmp_path / "pictures", one=squares()[0][:4, :4])
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("error: pictures are 4x4 pixels; they must be squares whose side is a multiple of 8")

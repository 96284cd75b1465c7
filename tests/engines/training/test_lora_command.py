"""`python -m engines.training lora`: a base and a folder in, a fine-tuned pipeline out."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from engines.training.__main__ import arguments as small_arguments
from engines.training.__main__ import main
from engines.training.adapters import Adapters, inject
from engines.training.lora_command import arguments, recipe_of
from engines.training.lora_options import LoraRecipe
from engines.training.pixel_command import arguments as pixel_arguments

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
SIZES = {
    "1.x": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "2.x": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
}
"""What published UNets say beyond the defaults of their class; that of XL takes too long to build here."""


@pytest.fixture
def folder(tmp_path):
    """Two pictures with a text beside each."""
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (20, 16), colour).save(tmp_path / "pictures" / f"{colour}.png")
        (tmp_path / "pictures" / f"{colour}.txt").write_text(f"a {colour} square")
    return tmp_path


@pytest.fixture
def call(folder, pipeline_directory):
    def call(*more, base=pipeline_directory):
        return main(["lora", str(base), "--images", str(folder / "pictures"), "--out", str(folder / "out"), "--rank", "2", *more])

    return call


def test_the_command_tunes_and_tells_how_far_it_is(folder, call, capsys):
    """Errors and progress go to standard error alone."""
    assert call("--steps", "1") == 0
    said = capsys.readouterr()
    assert "2/2 latents" in said.err
    assert "1/1 lora, loss" in said.err
    assert "out: adapter of 2,752 parameters trained on 2 images in" in said.err
    assert said.out == ""
    assert (folder / "out" / "adapter" / "pytorch_lora_weights.safetensors").is_file()


def test_a_run_is_taken_up_unless_it_is_to_start_anew(folder, call):
    """The second call trains one more step, the third both; the fourth has other settings."""
    assert [call("--steps", "1"), call("--steps", "2")] == [0, 0]
    spent = json.loads((folder / "out" / "training.json").read_text())["spent"]["seconds"]
    assert call("--steps", "2") == 0
    assert json.loads((folder / "out" / "training.json").read_text())["spent"]["seconds"] == pytest.approx(spent, abs=0.5)
    assert call("--steps", "2", "--seed", "1") == 3
    assert call("--steps", "2", "--seed", "1", "--no-resume") == 0


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (["--rank", "0"], 2, "rank 0 is not positive"),
        (["--table", "none.csv"], 2, "none.csv cannot be read"),
        (["--images", "nowhere"], 2, "nowhere is not a folder"),
        (["--targets", "to_z"], 3, "no adapter fits to_z"),
        (["--device", "nonsense"], 3, "device 'nonsense' cannot be used"),
    ],
)
def test_failures_are_one_line_and_an_exit_code(call, capsys, change, code, said):
    """2 for what the user gave, 3 for what went wrong."""
    assert call(*change) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]


def test_a_base_that_is_none_is_named(call, folder, capsys):
    """An empty directory."""
    assert call(base=folder / "pictures") == 2
    assert "model_index.json is missing" in capsys.readouterr().err


def test_without_options_the_recipe_is_the_plain_one():
    """Defaults are written down once."""
    given = ["base", "--images", "pictures", "--out", "out"]
    assert recipe_of(arguments().parse_args(given)) == LoraRecipe()
    asked = recipe_of(arguments().parse_args([*given, "--min-snr-gamma", "0", "--targets", "to_q", "to_k", "--mirror"]))
    assert asked == LoraRecipe(min_snr_gamma=None, targets=("to_q", "to_k"), mirror=True)


def test_the_help_names_both_uses(capsys):
    """Each with its own page."""
    for given, said in (
        (["--help"], "python -m engines.training lora --help"),
        (["lora", "--help"], "BASE is a diffusers directory"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(given)
        assert said in capsys.readouterr().out


def test_the_page_names_options_that_exist():
    """Of any of the commands."""
    known = {
        option
        for parser in (arguments(), small_arguments(), pixel_arguments())
        for action in parser._actions
        for option in action.option_strings
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE.read_text(encoding="utf-8"))) <= known


def test_the_sizes_on_the_page_are_counted():
    """Adapters of rank 16 and frozen weights of the published UNets, on the meta device."""
    from diffusers import UNet2DConditionModel

    adapters, frozen = [], []
    for config in SIZES.values():
        with torch.device("meta"):
            unet = UNet2DConditionModel(**config)
            frozen.append(sum(value.numel() for value in unet.parameters()) * 2 / 1e9)
            adapters.append(Adapters(inject("unet", unet, rank=16, alpha=16.0, targets=LoraRecipe().targets)).size / 1e6)
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "{:.1f} M parameters for Stable Diffusion 1.x, {:.1f} M for 2.x".format(*adapters) in page
    assert "frozen UNets take {:.1f}, {:.1f} and".format(*frozen) in page

"""The diffusion over pixels that ships with the project, and the scenes that it is trained on."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import audit_plugin.demo
from audit_plugin.demo.pixels import RECIPE, main, write_scenes
from engines.pipeline import load_pipeline
from engines.training import read_pictures

SHIPPED = Path(audit_plugin.demo.__file__).parent / "assets" / "pixels"


def test_scenes_are_rendered_once_and_what_is_missing_is_rendered_the_same(tmp_path):
    """A folder that was cut short is completed, not begun again."""
    write_scenes(tmp_path, 4, 1, workers=1)
    whole = read_pictures(tmp_path)
    assert whole.shape == (4, 64, 64, 3)
    (tmp_path / "000002.png").unlink()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "000000.png")
    write_scenes(tmp_path, 4, 1, workers=1)
    again = read_pictures(tmp_path)
    np.testing.assert_array_equal(again[1:], whole[1:])
    assert not again[0].any()


def test_without_a_directory_to_write_only_scenes_are_rendered(tmp_path):
    """So that `python -m engines.training pixels` can be given the folder."""
    main(["--scenes", str(tmp_path / "scenes"), "--images", "2", "--workers", "1"])
    assert len(list((tmp_path / "scenes").iterdir())) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_the_shipped_network_has_learned_scenes(tmp_path):
    """Scenes that it was not trained on, under noise as strong as they are: it sees through all but a seventh of it."""
    write_scenes(tmp_path, 8, RECIPE.seed + 1, workers=1)
    x = torch.from_numpy(read_pictures(tmp_path)).permute(0, 3, 1, 2).float() / 127.5 - 1
    pipeline = load_pipeline(SHIPPED, backend="torch")
    noised = pipeline.diffusion.noised(x, 262, torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    clean = pipeline.diffusion.x0(noised, 262, pipeline.told(None, len(x)))
    assert float((clean - x).square().mean().sqrt()) < 1 / 7

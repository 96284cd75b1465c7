"""The scenes that the diffusion over pixels is trained on."""

import numpy as np
from PIL import Image

from audit_plugin.demo.pixels import main, write_scenes
from engines.training import read_pictures


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

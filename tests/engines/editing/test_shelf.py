"""Inversions on disk: the same bits, bounded, and never in the way."""

import os
import time

import pytest
import torch

from engines.editing.edit import EditTerm, edit
from engines.editing.grid import grid_at, skipping_times
from engines.editing.inversion import invert
from engines.editing.shelf import InversionShelf
from engines.editing.steps import SdeDpmSolver
from tests.engines.editing.toys import LEVELS, SEEDS, images, predictor, words

RULE = SdeDpmSolver()


@pytest.fixture(scope="module")
def inverted():
    which = predictor()
    grid = grid_at(skipping_times(10, 0.15), LEVELS)
    return which, invert(which, images(torch.float32), SEEDS, RULE, grid, source=words(1))


def test_an_edit_by_a_kept_inversion_has_the_same_bits(tmp_path, inverted):
    which, fresh = inverted
    InversionShelf(tmp_path, 10**9).put("a", fresh)
    kept = InversionShelf(tmp_path, 10**9).get("a")
    assert kept.start.dtype == torch.float32
    term = EditTerm(conditioning=words(9))
    assert torch.equal(edit(which, kept, [term]).latents, edit(which, fresh, [term]).latents)


def test_what_was_not_used_for_longest_makes_room(tmp_path, inverted):
    one = inverted[1][:1]
    shelf = InversionShelf(tmp_path, 10**9)
    for at, key in enumerate("abc"):
        shelf.put(key, one)
        os.utime(tmp_path / f"{key}.safetensors", (at, at))
    shelf.get("a")
    size = (tmp_path / "a.safetensors").stat().st_size
    InversionShelf(tmp_path, 2 * size).collect()
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c"}


def test_without_room_nothing_is_kept(tmp_path, inverted):
    shelf = InversionShelf(tmp_path / "shelf", 0)
    shelf.put("a", inverted[1])
    assert shelf.get("a") is None
    assert not (tmp_path / "shelf").exists()


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_file_is_thrown_away(tmp_path, inverted, harm, caplog):
    shelf = InversionShelf(tmp_path, 10**9)
    shelf.put("a", inverted[1])
    path = tmp_path / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content[:-100] if harm == "cut" else content)
    assert shelf.get("a") is None
    assert not path.exists()
    assert "inverted again" in caplog.text
    shelf.put("a", inverted[1])
    assert len(shelf.get("a")) == len(SEEDS)


def test_a_full_disk_is_told_once_and_costs_nothing_else(tmp_path, inverted, caplog):
    (tmp_path / "file").write_text("")
    shelf = InversionShelf(tmp_path / "file" / "shelf", 10**9)
    shelf.put("a", inverted[1])
    shelf.put("b", inverted[1])
    assert caplog.text.count("are not kept") == 1
    assert shelf.get("a") is None


def test_what_a_killed_writer_left_goes(tmp_path, inverted):
    """Once it is old enough to belong to nobody; a file that is being written is left alone."""
    shelf = InversionShelf(tmp_path, 10**9)
    shelf.put("a", inverted[1])
    for name in ("old.partial", "new.partial"):
        (tmp_path / name).write_bytes(b"x")
    long_ago = time.time() - 7200
    os.utime(tmp_path / "old.partial", (long_ago, long_ago))
    shelf.collect()
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "new.partial"}

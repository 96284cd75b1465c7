"""`python -m engines.training`: a folder and a table in, a pipeline out."""

import csv

import numpy as np
import pytest
from PIL import Image

from engines.training.__main__ import main
from engines.training.errors import TrainingDataError
from engines.training.reading import read_captioned


@pytest.fixture
def folder(tmp_path, data):
    """Four pictures, the first with two captions."""
    (tmp_path / "pictures").mkdir()
    with (tmp_path / "table.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "caption"])
        for place in range(4):
            Image.fromarray(data.images[place]).save(tmp_path / "pictures" / f"{place}.png")
            rows.writerow([f"{place}.png", data.captions[place][0]])
        rows.writerow(["0.png", "a second caption"])
    return tmp_path


def test_the_table_is_read_row_by_row(folder, data):
    """Several rows of one file are several captions of it."""
    read = read_captioned(folder / "pictures", folder / "table.csv", image_size=16)
    np.testing.assert_array_equal(read.images, data.images[:4])
    assert list(read.captions[0]) == [data.captions[0][0], "a second caption"]
    assert [len(variants) for variants in read.captions] == [2, 1, 1, 1]


def test_pictures_are_cut_to_their_central_square(tmp_path):
    """A wide picture loses its sides, not its proportions."""
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (tmp_path / "table.csv").write_text("file,caption\nwide.png,white\n")
    assert (read_captioned(tmp_path, tmp_path / "table.csv", image_size=8).images == 255).all()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("name,caption\n0.png,a\n", "has no column 'file'"),
        ("file,text\n0.png,a\n", "has no column 'caption'"),
        ("file,caption\n", "has no rows"),
        ("file,caption\n0.png\n", "line 2: a file or a caption is missing"),
        ("file,caption\nnone.png,a\n", "none.png is not a picture that can be read"),
        ("file,caption\n../table.csv,a\n", "lies outside of"),
        ("file,caption\nbroken.png,a\n", "broken.png is not a picture"),
        ('file,caption\n"0.png,a\n', "cannot be read as a CSV table"),
    ],
)
def test_bad_tables_are_refused(folder, table, said):
    """With the row or the file."""
    (folder / "table.csv").write_text(table)
    (folder / "pictures" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(TrainingDataError, match=said):
        read_captioned(folder / "pictures", folder / "table.csv", image_size=16)


def test_the_command_trains_and_tells_how_far_it_is(folder, monkeypatch, capfd):
    """A few steps of the full-sized networks on 16 pixels; errors and progress go to standard error alone."""
    monkeypatch.chdir(folder)
    given = ["--images", "pictures", "--table", "table.csv", "--out", "made", "--image-size", "16"]
    assert main([*given, "--autoencoder-steps", "1", "--diffusion-steps", "1"]) == 0
    printed, said = capfd.readouterr()
    assert (folder / "made" / "model_index.json").is_file()
    assert "1/1 diffusion, loss" in said
    assert "made: trained on 4 images in" in said
    assert printed == ""


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (["--image-size", "17"], 2, "image_size 17"),
        (["--table", "none.csv"], 2, "none.csv cannot be read"),
        (["--max-tokens", "4", "--image-size", "16"], 2, "the text encoder reads 4"),
        (["--device", "nonsense", "--image-size", "16"], 3, "device 'nonsense' cannot be used"),
    ],
)
def test_failures_are_one_line_and_an_exit_code(folder, capsys, change, code, said):
    """2 for what the user gave, 3 for what went wrong."""
    given = ["--images", str(folder / "pictures"), "--table", str(folder / "table.csv"), "--out", str(folder / "made"), *change]
    assert main(given) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]

"""Folders of captioned pictures, in each of the forms that they come in."""

import json

import numpy as np
import pytest
from PIL import Image

from engines.training import TrainingDataError, read_folder


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one in a folder of its own."""
    (tmp_path / "more").mkdir()
    for name, value in (("a.png", 10), ("more/b.JPG", 200)):
        Image.fromarray(np.full((16, 24, 3), value, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_a_text_beside_each_picture_is_its_captions(folder):
    """One a line; an empty text says that nothing worth a word is shown."""
    (folder / "a.txt").write_text("a red square\n\n a square \n")
    (folder / "more" / "b.txt").write_text("")
    read = read_folder(folder)
    assert (read.names, read.captions) == (["a.png", "more/b.JPG"], [["a red square", "a square"], [""]])
    assert read.picture(0, 8).shape == (8, 8, 3)
    assert (read.picture(0, 8) == 10).all()


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", "file_name,text\na.png,one\nmore/b.JPG,two\na.png,three\n"),
        ("metadata.csv", "caption,file\none,a.png\ntwo,more/b.JPG\nthree,a.png\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": ["one", "three"]}\n\n{"file_name": "more/b.JPG", "text": "two"}\n'),
    ],
)
def test_tables_in_the_folder_are_found(folder, name, table):
    """With diffusers' names of columns or with ours; rows may repeat a file, lists hold several captions."""
    (folder / name).write_text(table)
    assert dict(read_folder(folder).captions_of) == {"a.png": ["one", "three"], "more/b.JPG": ["two"]}


def test_a_table_elsewhere_can_be_named(folder, tmp_path_factory):
    """It goes before one in the folder."""
    (folder / "metadata.csv").write_text("file_name,text\na.png,one\n")
    table = tmp_path_factory.mktemp("tables") / "other.jsonl"
    table.write_text(json.dumps({"file": "a.png", "caption": "other"}))
    assert read_folder(folder, table).captions == [["other"]]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"2 of 2 pictures in .* have no caption, a.png for one; write a .txt beside each"),
        ({"a.txt": b"a"}, r"1 of 2 pictures in .* have no caption, b.JPG for one"),
        ({"a.txt": b"\xff", "more/b.txt": b"b"}, r"a.txt cannot be read as a text in UTF-8"),
        ({"metadata.csv": b"", "metadata.jsonl": b""}, "holds metadata.jsonl and metadata.csv; keep the one that is meant"),
        ({"metadata.csv": b"file_name,words\na.png,a\n"}, "has no column text or caption"),
        ({"metadata.csv": b"name,text\na.png,a\n"}, "has no column file_name or file"),
        ({"metadata.csv": b"file_name,text\n"}, "has no rows"),
        ({"metadata.csv": b"file_name,text\na.png\n"}, "line 2: a file or a caption is missing"),
        ({"metadata.jsonl": b'{"file_name": "a.png", "text": ["a", 3]}'}, "line 1: a file or a caption is missing"),
        ({"metadata.jsonl": b'\n["a.png", "a"]'}, "line 2: a file or a caption is missing"),
        ({"metadata.jsonl": b"{"}, "line 1: not JSON"),
        ({"metadata.csv": b"file_name,text\n\xff,a\n"}, "cannot be read as a table in UTF-8"),
    ],
)
def test_folders_without_usable_captions_are_refused(folder, files, said):
    """With the file, the row, or how many pictures lack one."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(TrainingDataError, match=said):
        read_folder(folder)


def test_a_folder_without_pictures_is_refused(tmp_path):
    """So is one that is none."""
    with pytest.raises(TrainingDataError, match="holds no pictures"):
        read_folder(tmp_path)
    with pytest.raises(TrainingDataError, match="is not a folder"):
        read_folder(tmp_path / "none")


def test_pictures_that_cannot_be_read_are_named(folder):
    """Missing ones, broken ones, and those outside of the folder."""
    table = folder / "metadata.csv"
    (folder / "broken.png").write_bytes(b"no picture")
    for name, said in (
        ("none.png", "none.png is not a picture"),
        ("broken.png", "broken.png is not"),
        ("../x.png", "lies outside of"),
    ):
        table.write_text(f"file_name,text\n{name},a\n")
        with pytest.raises(TrainingDataError, match=said):
            read_folder(folder).picture(0, 8)


def test_the_digest_knows_files_and_captions(folder):
    """Changing either changes it."""
    table = folder / "metadata.csv"
    table.write_text("file_name,text\na.png,one\n")
    before = read_folder(folder).digest
    table.write_text("file_name,text\na.png,two\n")
    between = read_folder(folder).digest
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    assert len({before, between, read_folder(folder).digest}) == 3

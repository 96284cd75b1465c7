import csv
import dataclasses
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from audit_plugin.core.errors import ImageError, TableError
from audit_plugin.core.values import Concept
from audit_plugin.sources.folder import FolderOptions, open_folder
from audit_plugin.sources.images import encode_png

DATA = Path(os.environ.get("AUDIT_PLUGIN_DATA") or Path(__file__).parents[3] / "shared" / "data")


@dataclasses.dataclass(frozen=True)
class Column:
    concept: Concept
    column: str
    numeric: bool = False
    cells: dict[str, str] = dataclasses.field(default_factory=dict)


def concept(name: str, *levels: str) -> Concept:
    return Concept(name=name, levels=levels, phrases=levels)


SITE = Column(concept("site", "GH", "RS"), "site")
AGE = Column(concept("age", "young", "middle", "old"), "age", numeric=True)


@pytest.fixture
def folder(tmp_path):
    """Forty images and their table: every fifth at site RS, ages 0 to 39, two images per patient."""
    lines = [
        {"file": f"p{i}.png", "label": "ab"[i % 2], "site": "RS" if i % 5 == 0 else "GH", "age": i, "patient": i // 2}
        for i in range(40)
    ]
    for i, line in enumerate(lines):
        (tmp_path / line["file"]).write_bytes(encode_png(np.full((4, 4, 3), i, np.uint8), synthetic=False))
    write(tmp_path / "labels.csv", lines)
    return FolderOptions(images=str(tmp_path), table=str(tmp_path / "labels.csv"), unit_column="patient")


def write(path, lines):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def edit(folder, old, new):
    path = Path(folder.table)
    path.write_text(path.read_text().replace(old, new))


def test_rows_say_what_the_table_says(folder):
    """Values, labels, units and images of every line are read; numbers fall into equally common bins."""
    source = open_folder(folder, [SITE, AGE])
    row = source.rows[20]
    assert (row.id, row.values, row.labels, row.unit) == ("p20.png", (1, 1), {"label": "a"}, "10")
    assert max(Counter(source.values[:, 1].tolist()).values()) == 14
    np.testing.assert_array_equal(source.images(4)[:, 0, 0, 0] * 255, np.arange(40))


def test_a_zip_archive_reads_like_the_directory(folder, tmp_path):
    """Rows, pixels and digest do not depend on how images are packed."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in tmp_path.glob("*.png"):
            archive.write(path, path.name)
    plain, packed = (
        open_folder(dataclasses.replace(folder, images=str(where)), [SITE]) for where in (tmp_path, tmp_path / "all.zip")
    )
    assert packed.digest == plain.digest
    np.testing.assert_array_equal(packed.images(4), plain.images(4))


def test_the_digest_sees_pixels_rows_and_table(folder):
    """Whatever changes the data changes their identity."""
    first = open_folder(folder, [SITE]).digest
    assert open_folder(folder, [SITE]).digest == first
    fewer = open_folder(dataclasses.replace(folder, rows=20), [SITE]).digest
    Path(folder.images, "p3.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8), synthetic=False))
    assert len({first, fewer, open_folder(folder, [SITE]).digest}) == 3


def test_a_sample_keeps_shares_and_balance_evens_them_out(folder):
    """Eight of forty are RS: four of twenty keep the share, all eight come when cells are balanced."""
    kept = open_folder(dataclasses.replace(folder, rows=20), [SITE])
    even = open_folder(dataclasses.replace(folder, rows=20, balance=1.0), [SITE])
    assert (len(kept.rows), kept.values.sum()) == (20, 4)
    assert (len(even.rows), even.values.sum()) == (20, 8)
    assert kept.rows == open_folder(dataclasses.replace(folder, rows=20), [SITE]).rows
    assert kept.rows != open_folder(dataclasses.replace(folder, rows=20, seed="other"), [SITE]).rows


def test_where_keeps_only_what_is_asked(folder):
    """Conditions on several columns hold together; a value may be one of a list."""
    source = open_folder(dataclasses.replace(folder, where={"label": "a", "age": [0, 2, 3]}), [SITE])
    assert [row.id for row in source.rows] == ["p0.png", "p2.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_columns": ("lable",)}, "no column 'lable'; did you mean 'label'"),
        ({"unit_column": "patent"}, "did you mean 'patient'"),
        ({"where": {"sight": "RS"}}, "did you mean 'site'"),
        ({"where": {"site": "Rs"}}, "no line has 'Rs' in column 'site'; did you mean 'RS'"),
        ({"where": {"site": "RS", "age": "1"}}, "loosen `where`"),
        ({"id_column": "patient"}, "'0' is there twice"),
        ({"label_columns": ()}, "at least one column"),
        ({"table": "none.csv"}, "cannot be read"),
    ],
)
def test_a_mistake_in_the_options_is_told(folder, change, message):
    """Each names what was asked for and the closest thing that there is."""
    with pytest.raises(TableError, match=message):
        open_folder(dataclasses.replace(folder, **change), [SITE])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p7.png,b,GH", "p7.png,b,Gh", r"row 'p7.png': 'Gh' in column 'site' .*did you mean 'GH'"),
        (",GH,7,", ",GH,x,", "'x' in numeric column 'age'"),
        ("p7.png", "../p7.png", "no path below the images"),
        ("p7.png,b,GH", "p7.png,b,GH,1", "line 9: more or fewer cells"),
        ("label,site", "site,site", "column name twice"),
    ],
)
def test_a_mistake_in_the_table_is_told(folder, old, new, message):
    """A cell that cannot be used names its row and column; nothing is guessed."""
    edit(folder, old, new)
    with pytest.raises(TableError, match=message):
        open_folder(dataclasses.replace(folder, label_columns=("label",) if "site,site" not in new else ("site",)), [SITE, AGE])


def test_unmapped_cells_are_mapped_or_dropped_when_asked(folder):
    """A spelling can be mapped; dropped rows are counted."""
    edit(folder, "RS", "outdoor")
    mapped = open_folder(folder, [dataclasses.replace(SITE, cells={"outdoor": "RS"})])
    assert mapped.values.sum() == 8
    dropped = open_folder(dataclasses.replace(folder, drop_unmapped=True), [SITE])
    assert (len(dropped.rows), dropped.dropped) == (32, 8)


def test_a_missing_image_is_found_at_once(folder):
    """Not after an hour of work."""
    Path(folder.images, "p3.png").unlink()
    with pytest.raises(ImageError, match=r"p3\.png"):
        open_folder(folder, [SITE])


def test_too_few_numbers_for_the_levels_are_refused(folder):
    """A column that is almost constant cannot be cut into bins."""
    edit(folder, "GH,", "GH,1")
    constant = dataclasses.replace(AGE, column="zero")
    lines = [dict(line, zero=0) for line in csv.DictReader(Path(folder.table).read_text().splitlines())]
    write(Path(folder.table), lines)
    with pytest.raises(TableError, match="fewer levels"):
        open_folder(folder, [constant])


@pytest.mark.skipif(
    not (DATA / "plantvillage-leaves").is_dir(),
    reason="optional photos: set AUDIT_PLUGIN_DATA to a folder with plantvillage-leaves",
)
def test_leaf_photos_are_sampled_from_their_archive():
    """A real confounded data set: 200 of the 960 photos of its 2x2, fifty per cell."""
    leaves = DATA / "plantvillage-leaves"
    where = {"label": ["tomato_healthy", "tomato_late_blight"], "site": ["RS", "GH"]}
    source = open_folder(FolderOptions(images=f"{leaves}/images.zip", table=f"{leaves}/labels.csv", where=where, rows=200), [SITE])
    assert set(Counter((row.labels["label"], row.values) for row in source.rows).values()) == {50}
    assert source.images(32).shape == (200, 3, 32, 32)

"""The sample is even, bounded and whole, whatever happens to the process that writes it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from audit_plugin.capture.files import bury, safe_name
from audit_plugin.capture.reservoir import HOUR, Reservoir
from audit_plugin.capture.rows import read_rows
from audit_plugin.capture.snapshot import snapshot, status_of
from audit_plugin.core.errors import CaptureError, SourceError
from audit_plugin.sources.folder import FolderOptions, open_folder
from audit_plugin.sources.images import read_image
from tests.capture.made import picture


class Clock:
    """Time that a test moves."""

    now = 1_800_000_000.0

    def __call__(self):
        return self.now


def sample(root, *, size=5, days=30.0, max_bytes=10**9, seed="s", clock=None):
    return Reservoir(root, "leaves", size=size, days=days, max_bytes=max_bytes, seed=seed, clock=clock or Clock())


@pytest.fixture
def opened():
    """Samples that are closed in the end."""
    with ExitStack() as stack:

        def opening(*arguments, **options):
            return stack.enter_context(closing(sample(*arguments, **options)))

        yield opening


def offer(reservoir, number, *, version=""):
    identity = f"id{number:05}"
    if reservoir.chosen(identity):
        reservoir.keep(identity, picture(number), version=version)


@pytest.fixture
def unwritten(monkeypatch):
    """Sampling alone: what is kept is a row without a file."""
    monkeypatch.setattr("audit_plugin.capture.reservoir.encode_png", lambda image, **_: image.tobytes())
    monkeypatch.setattr("audit_plugin.capture.reservoir.replace_file", lambda *_: None)


@pytest.mark.usefixtures("unwritten")
def test_every_request_is_as_likely_to_be_kept_as_any_other(tmp_path):
    """Algorithm R: 150 samples of 10 of 60 requests; sixths of the stream are kept equally often (chi-square, fixed seeds)."""
    kept = np.zeros(6)
    with_one = np.zeros((1, 1, 3), np.uint8)
    for run in range(150):
        reservoir = sample(tmp_path / str(run), size=10, seed=str(run))
        for number in range(60):
            if reservoir.chosen(str(number)):
                reservoir.keep(str(number), with_one, version="")
        for row in reservoir.rows:
            kept[int(row.id) // 10] += 1
        assert len(reservoir.rows) == 10
        reservoir.close()
    assert chisquare(kept).pvalue > 0.01


@pytest.mark.usefixtures("unwritten")
def test_a_sample_with_retention_neither_runs_dry_nor_prefers_the_old(opened, tmp_path):
    """Over five windows of even traffic it stays full to three quarters or more, and ages in it are spread over the window."""
    clock, with_one, ages, sizes = Clock(), np.zeros((1, 1, 3), np.uint8), [], []
    reservoir = opened(tmp_path, size=100, days=10, clock=clock)
    for hour in range(50 * 24):
        for each in range(5):
            if reservoir.chosen(f"{hour} {each}"):
                reservoir.keep(f"{hour} {each}", with_one, version="")
        clock.now += HOUR
        reservoir.retain()
        if hour % 240 == 239 and hour > 480:
            sizes.append(len(reservoir.rows))
            ages += [(hour - int(row.id.split()[0])) / 240 for row in reservoir.rows]
    assert min(sizes) >= 75
    assert chisquare(np.histogram(ages, bins=5, range=(0, 1))[0]).pvalue > 0.001


def test_the_same_requests_give_the_same_sample(opened, tmp_path):
    """Draws follow from seed and id."""
    samples = []
    for folder in "ab":
        reservoir = opened(tmp_path / folder)
        for number in range(40):
            offer(reservoir, number)
        samples.append([row.sha256 for row in reservoir.rows])
        reservoir.close()
    assert samples[0] == samples[1]


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["offer", "again", "answer", "commit", "retain", "day", "reopen", "bury"]), max_size=25),
    size=st.integers(1, 4),
)
def test_table_files_and_bounds_agree_after_whatever_happened(tmp_path_factory, steps, size):
    """Any order of events: never more than ``size`` rows, every committed row has its file, no file is left over."""
    root, clock = tmp_path_factory.mktemp("r"), Clock()
    reservoir, number, buried = sample(root, size=size, days=3, clock=clock), 0, set()
    for step in steps:
        if step in {"offer", "again"}:
            number += step == "offer"
            with suppress(CaptureError):  # it was deleted
                offer(reservoir, number)
        elif step == "answer":
            reservoir.answer(f"id{number:05}", "ill")
        elif step == "day":
            clock.now += 24 * HOUR
        elif step == "bury" and reservoir.rows:
            buried.add(reservoir.rows[0].sha256)
            bury(root, [reservoir.rows[0].sha256])
        elif step == "reopen":
            reservoir.close()
            reservoir = sample(root, size=size, days=3, clock=clock)
        elif step in {"commit", "retain"}:
            getattr(reservoir, step)()
        assert len(reservoir.rows) <= size
    reservoir.retain()
    reservoir.commit()
    reservoir.close()
    rows = read_rows(reservoir.directory)
    files = {path.relative_to(reservoir.directory).as_posix() for path in reservoir.directory.glob("pictures/*/*")}
    assert files == {row.file for row in rows}
    assert not buried & {row.sha256 for row in rows}
    assert all(clock.now - 3 * 24 * HOUR <= _time(row.captured_at) for row in rows)


def _time(text):
    return datetime.fromisoformat(text).timestamp()


def test_bytes_are_bounded_by_deleting_the_oldest(opened, tmp_path):
    """Pictures beyond ``max_bytes`` go, with their files."""
    clock = Clock()
    reservoir = opened(tmp_path, size=50, max_bytes=1_000, clock=clock)
    for number in range(20):
        offer(reservoir, number)
        clock.now += 60
    reservoir.retain()
    reservoir.commit()
    held = sum(path.stat().st_size for path in reservoir.directory.glob("pictures/*/*"))
    assert 500 < held <= 1_000
    assert {row.id for row in reservoir.rows} == {f"id{number:05}" for number in range(20 - len(reservoir.rows), 20)}


def test_answers_are_joined_in_either_order(opened, tmp_path):
    """The class comes after the request, as from KServe, or before it."""
    reservoir = opened(tmp_path)
    reservoir.answer("id00001", "ill")
    offer(reservoir, 1)
    offer(reservoir, 2)
    reservoir.answer("id00002", "healthy")
    assert {row.id: row.predicted for row in reservoir.rows} == {"id00001": "ill", "id00002": "healthy"}
    for number in range(10_000):
        reservoir.answer(str(number), "ill")
    assert len(reservoir._answers) < 5_000


def test_a_deleted_picture_never_comes_back(opened, tmp_path):
    """A tombstone that another process wrote takes the row and the file, and refuses the same picture later."""
    reservoir = opened(tmp_path)
    offer(reservoir, 1)
    (row,) = reservoir.rows
    bury(tmp_path, [row.sha256])
    reservoir.retain()
    reservoir.commit()
    assert not (reservoir.directory / row.file).exists()
    with pytest.raises(CaptureError, match="was deleted"):
        reservoir.keep("later", picture(1), version="")
    with pytest.raises(SourceError, match="no sha256"):
        bury(tmp_path, ["../../etc"])


def test_a_full_disk_gets_back_what_no_table_names(opened, tmp_path):
    """Half of the newest pictures, so that the table of the others can be written; committed ones stay."""
    reservoir = opened(tmp_path, size=9)
    offer(reservoir, 0)
    reservoir.commit()
    reservoir.close()
    reservoir = opened(tmp_path, size=9)
    for number in range(1, 5):
        offer(reservoir, number)
    reservoir.give_way()
    assert [row.id for row in reservoir.rows] == ["id00000", "id00001", "id00002"]
    assert len(list(reservoir.directory.glob("pictures/*/*"))) == 3
    reservoir.commit()
    reservoir.give_way()
    assert len(reservoir.rows) == 3


def test_two_processes_do_not_write_one_sample(opened, tmp_path):
    """The second is refused; it would sweep the first one's pictures."""
    first = opened(tmp_path)
    with pytest.raises(BlockingIOError):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_a_table_that_is_not_ours_is_left_alone(opened, tmp_path):
    """A mistyped path destroys nothing."""
    (tmp_path / "leaves").mkdir()
    (tmp_path / "leaves" / "table.csv").write_text("file,label\na.png,b\n")
    with pytest.raises(SourceError, match="directory of its own"):
        opened(tmp_path)
    assert (tmp_path / "leaves" / "table.csv").read_text().startswith("file,label")


@pytest.mark.parametrize("model", ["../../etc", "a/b", ".", "..", "tombstones.txt", "", "ümlaut", "x" * 300])
def test_a_models_name_is_never_a_path(model):
    """One harmless directory each."""
    name = safe_name(model)
    assert Path(name).name == name
    assert name not in {"", ".", "..", "tombstones.txt"}
    assert len(name) < 120


KILLED = """
import sys
from pathlib import Path
from audit_plugin.capture.reservoir import Reservoir
from tests.capture.made import picture
reservoir = Reservoir(Path(sys.argv[1]), "leaves", size=8, days=30, max_bytes=10**9, seed="k")
for number in range(10**6):
    if reservoir.chosen(str(number)) or number % 2:
        reservoir.keep(str(number), picture(number), version="1")
        reservoir.answer(str(number), "ill")
    reservoir.commit()
    if number == 20:
        print("going", flush=True)
"""


def test_a_killed_writer_leaves_a_whole_sample(opened, tmp_path):
    """SIGKILL while pictures are replaced: every row has its file, which is whole, and the next opening takes it from there."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout.readline() == b"going\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    rows = read_rows(tmp_path / "leaves")
    assert len(rows) == 8
    for row in rows:
        read_image(tmp_path / "leaves" / row.file)
    assert snapshot(tmp_path, "leaves", tmp_path / "copy") == 8
    reservoir = opened(tmp_path, size=8, clock=time.time)
    assert {row.id for row in reservoir.rows} == {row.id for row in rows}
    assert len(list(reservoir.directory.glob("pictures/*/*"))) == len({row.file for row in rows})


@pytest.mark.parametrize(("kept", "named"), [(("0", "1"), ["ill", "healthy"]), (("ill", "1"), ["ill", "1"])])
def test_a_snapshot_names_classes_that_were_kept_by_number(opened, tmp_path, kept, named):
    """As the server does; where one is a name already all are."""
    reservoir = opened(tmp_path / "captured", size=3)
    for number, predicted in enumerate(kept):
        offer(reservoir, number, version="7")
        reservoir.answer(f"id{number:05}", predicted)
    reservoir.commit()
    snapshot(tmp_path / "captured", "leaves", tmp_path / "copy", names=("ill", "healthy"))
    assert sorted(row.predicted for row in read_rows(tmp_path / "copy")) == sorted(named)


def test_an_audit_reads_a_snapshot_as_its_source(opened, tmp_path):
    """``source`` takes pictures and table as they are; rows without an answer are not in it; later changes do not touch it."""
    reservoir = opened(tmp_path / "captured", size=3)
    for number, predicted in enumerate(("ill", "healthy", "")):
        offer(reservoir, number, version="7")
        if predicted:
            reservoir.answer(f"id{number:05}", predicted)
    reservoir.commit()
    assert status_of(tmp_path / "captured", "leaves").predicted == 2
    assert snapshot(tmp_path / "captured", "leaves", tmp_path / "copy") == 2
    for number in range(3, 60):
        offer(reservoir, number)
    reservoir.commit()
    options = FolderOptions(
        images=str(tmp_path / "copy"), table=str(tmp_path / "copy" / "table.csv"), id_column="id", label_columns=("predicted",)
    )
    source = open_folder(options, [])
    assert [row.labels["predicted"] for row in source.rows] == ["ill", "healthy"]
    np.testing.assert_allclose(source.images(5)[0].shape, (3, 5, 5))
    np.testing.assert_array_equal(read_image(source.rows[0].image), picture(0))
    with pytest.raises(SourceError, match="not empty"):
        snapshot(tmp_path / "captured", "leaves", tmp_path / "copy")
    with pytest.raises(SourceError, match="has been captured"):
        snapshot(tmp_path / "captured", "others", tmp_path / "none")

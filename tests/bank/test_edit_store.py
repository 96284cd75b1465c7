"""Edited pictures on disk."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import fsspec
import pytest

from audit_plugin.bank.edit_store import FILE, StoredEdit, edit_store
from audit_plugin.core.errors import BankError, StorageFullError

EDIT = StoredEdit(sha256="s", outside_psnr=31.5, mask_area=0.25, distance=0.0625, quality="blank")


def test_an_edit_comes_back_as_it_was(tmp_path):
    """From another object on the same files too; what was never made is left out."""
    edit_store(tmp_path).add({"a": EDIT, "b": StoredEdit(sha256="t")})
    assert edit_store(tmp_path).known(["a", "b", "c"]) == {"a": EDIT, "b": StoredEdit(sha256="t")}
    assert edit_store(tmp_path).known([]) == {}


def test_what_is_there_is_left_alone(tmp_path):
    store = edit_store(tmp_path)
    store.add({"a": EDIT})
    store.add({"a": StoredEdit(sha256="other"), "b": EDIT})
    assert store.known(["a", "b"]) == {"a": EDIT, "b": EDIT}


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path):
    """One row that cannot be written takes the others with it."""
    store = edit_store(tmp_path)
    with pytest.raises(BankError):
        store.add({"a": EDIT, "b": StoredEdit(sha256=object())})
    assert store.known(["a", "b"]) == {}


def test_more_recipes_than_one_query_takes(tmp_path):
    store, many = edit_store(tmp_path), {f"r{at}": StoredEdit(sha256=f"s{at}") for at in range(2501)}
    store.add(many)
    assert store.known(many) == many
    readings = {edit.sha256: {"ruler": [0.25, 0.75]} for edit in many.values()}
    store.add_readings("judge", readings)
    assert store.readings("judge", readings) == readings


def test_every_detector_has_readings_of_its_own(tmp_path):
    store = edit_store(tmp_path)
    store.add_readings("first", {"s": {"ruler": [0.1, 0.9]}})
    store.add_readings("first", {"s": {"ruler": [0.5, 0.5]}})
    store.add_readings("second", {"s": {"ruler": [1.0, 0.0]}})
    assert edit_store(tmp_path).readings("first", ["s", "t"]) == {"s": {"ruler": [0.1, 0.9]}}
    assert store.readings("second", ["s"]) == {"s": {"ruler": [1.0, 0.0]}}
    assert store.readings("third", ["s"]) == {}


def test_pictures_lie_beside_those_of_the_bank(tmp_path):
    """In the bank's folder, or wherever it keeps its images."""
    sha = edit_store(tmp_path).put(b"x")
    assert [path.name for path in tmp_path.glob("images/*/*")] == [f"{sha}.png"]
    edit_store(tmp_path / "other", "memory://edited-pictures").put(b"x")
    assert fsspec.filesystem("memory").find("edited-pictures")
    assert not (tmp_path / "other" / "images").exists()


def test_several_threads_write_at_once(tmp_path):
    """Every one through an object of its own, half of it the same."""

    def one(number):
        store = edit_store(tmp_path)
        for at in range(10):
            store.add({f"shared{at}": EDIT, f"own{number}-{at}": EDIT})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    wanted = [f"shared{at}" for at in range(10)] + [f"own{number}-{at}" for number in range(4) for at in range(10)]
    assert len(edit_store(tmp_path).known(wanted)) == 50


def _fill(store):
    with store._transaction() as db:
        db.execute("PRAGMA max_page_count = 1")
        db.executemany("INSERT INTO edits VALUES (?, 's', '{}')", ([str(at) * 50] for at in range(1000)))


def test_a_full_disk_under_the_table_is_named(tmp_path):
    """SQLite's own refusal becomes ours, and the transaction leaves nothing."""
    store = edit_store(tmp_path)
    with pytest.raises(StorageFullError, match=r"edits\.sqlite"):
        _fill(store)
    assert store.known(["0" * 50]) == {}


def test_a_full_disk_under_the_pictures_is_named(tmp_path, monkeypatch):
    """Nothing half written is left; with space again the same call succeeds."""
    store = edit_store(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageFullError, match=r"images; free space and run the same command"):
            store.put(b"x")
    assert not [path for path in tmp_path.glob("images/*/*") if path.is_file()]
    assert store.pictures.get(store.put(b"x")) == b"x"


def test_a_store_that_cannot_be_is_refused(tmp_path):
    """A file where the directory should be, or a table that is none: a message, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BankError, match=r"is a file; name a directory as `bank\.path`"):
        edit_store(tmp_path / "file")
    (tmp_path / FILE).write_bytes(b"rubbish" * 1000)
    with pytest.raises(BankError, match="not a database"):
        edit_store(tmp_path)


def test_the_table_names_no_model(tmp_path):
    """A new version of a model costs no edit: there is no place to write it."""
    edit_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        columns = {row[1] for table in ("edits", "readings") for row in db.execute(f"PRAGMA table_info({table})")}
    assert columns == {"recipe", "sha256", "facts", "detector", "reading"}

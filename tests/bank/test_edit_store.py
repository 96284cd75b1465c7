"""Edited pictures on disk."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from structlog.testing import capture_logs

from audit_plugin.bank.edit_store import FILE, Spent, StoredEdit, edit_store
from audit_plugin.core.errors import BankError, StorageFullError

EDIT = StoredEdit(sha256="s", outside_psnr=31.5, mask_area=0.25, distance=0.0625, quality="blank")


def test_looking_makes_nothing(tmp_path):
    """Where nothing was stored there is no directory either."""
    store = edit_store(tmp_path / "bank")
    assert (store.known(["a"]), store.readings("judge", ["s"]), store.mend(), store.spent("o")) == ({}, {}, {}, Spent())
    assert not (tmp_path / "bank").exists()


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


@pytest.mark.parametrize(
    "reading", ["{", "", "[0.5]", "null", '{"ruler": 0.5}', '{"ruler": []}', '{"ruler": ["0.5"]}', '{"ruler": [true]}']
)
def test_a_reading_that_cannot_be_read_is_not_there(tmp_path, reading):
    """It is asked for again, and what was read then takes its place."""
    store = edit_store(tmp_path)
    good = {"ruler": [0.1, 0.9]}
    store.add_readings("judge", {"s": good, "t": good})
    altered(tmp_path, "UPDATE readings SET reading = ? WHERE sha256 = 's'", reading)
    assert store.readings("judge", ["s", "t"]) == {"t": good}
    store.add_readings("judge", {"s": {"ruler": [0.5, 0.5]}, "t": {"ruler": [0.5, 0.5]}})
    assert store.readings("judge", ["s", "t"]) == {"s": {"ruler": [0.5, 0.5]}, "t": good}


@pytest.mark.parametrize(
    "facts", ["{", "[]", "7", '{"distance": "far"}', '{"mask_area": [1]}', '{"quality": 3}', '{"against": null}', '{"other": 1}']
)
def test_facts_of_another_type_are_not_there(tmp_path, facts):
    """The edit counts as not made, and can be made again."""
    store = edit_store(tmp_path)
    store.add({"a": EDIT, "b": EDIT})
    altered(tmp_path, "UPDATE edits SET facts = ? WHERE recipe = 'a'", facts)
    assert store.known(["a", "b"]) == {"b": EDIT}
    store.add({"a": EDIT})
    assert store.known(["a", "b"]) == {"a": EDIT, "b": EDIT}


def altered(folder, query, value):
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute(query, [value])


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


def test_a_table_that_is_being_made_holds_nothing_yet(tmp_path):
    """As another thread sees it between the file and its tables: nothing is known, nothing is damaged, and writing completes it."""
    store = edit_store(tmp_path)
    tmp_path.joinpath(FILE).touch()
    assert (store.known(["a"]), store.named, store.made_of("o"), store.origins("s")) == ({}, [], set(), frozenset())
    store.erase(["s"], files_first=True)
    store.add({"a": EDIT})
    assert store.known(["a"]) == {"a": EDIT}


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
    """A file where the directory should be: a message, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BankError, match=r"is a file; name a directory as `bank\.path`"):
        edit_store(tmp_path / "file")


def _many(root):
    store = edit_store(root)
    store.add({f"recipe {at}" * 9: StoredEdit(sha256=f"sha {at}" * 9) for at in range(400)})
    return store, bytearray((root / FILE).read_bytes())


def test_a_table_that_is_damaged_is_set_aside(tmp_path):
    """No database at all, cut short, or overwritten in the middle: nothing is thrown away, and the store works."""
    for at, harm in enumerate(("none", "cut", "overwritten"), 1):
        _, content = _many(tmp_path)
        if harm == "none":
            content = bytearray(b"rubbish" * 1000)
        elif harm == "cut":
            content = content[: len(content) // 2]
        else:
            content[8192:12288] = b"\xff" * 4096
        (tmp_path / FILE).write_bytes(content)
        with capture_logs() as told:
            store = edit_store(tmp_path)
        assert store.known([f"recipe {at}" * 9 for at in range(400)]) == {}
        store.add({"a": EDIT})
        assert edit_store(tmp_path).known(["a"]) == {"a": EDIT}
        assert (tmp_path / f"{FILE}.damaged-{at}").read_bytes() == bytes(content)
        assert [(one["file"], one["kept"]) for one in told] == [(str(tmp_path / FILE), f"{FILE}.damaged-{at}")], harm


def test_a_killed_writer_leaves_no_damage(tmp_path):
    """A transaction that was not committed is taken back from its journal, and what was finished is there."""
    store = edit_store(tmp_path)
    store.add({"a": EDIT})
    killed = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.executemany("INSERT INTO edits VALUES (?, 's', '{}')", ([str(at) * 50] for at in range(2000)))
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", killed, str(tmp_path / FILE)], check=False)
    assert done.returncode == 9
    assert (tmp_path / f"{FILE}-journal").stat().st_size > 0
    again = edit_store(tmp_path)
    assert again.known(["a", "0" * 50]) == {"a": EDIT}
    assert [path.name for path in tmp_path.glob("*damaged*")] == []


def test_facts_that_nobody_can_read_count_as_not_made(tmp_path):
    store = edit_store(tmp_path)
    store.add({"a": EDIT, "b": EDIT})
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("UPDATE edits SET facts = '{\"depth\": 3}' WHERE recipe = 'a'")
    assert store.known(["a", "b"]) == {"b": EDIT}
    store.add({"a": StoredEdit(sha256="t")})
    assert store.known(["a"]) == {"a": StoredEdit(sha256="t")}


def test_a_lost_picture_counts_as_not_made(tmp_path):
    """At a glance where it has gone, by its hash where it is corrupt; another picture may take its place, once."""
    store = edit_store(tmp_path)
    gone, cut, whole = (store.put(text) for text in (b"gone", b"cut", b"whole"))
    edits = {name: StoredEdit(sha256=sha) for name, sha in (("a", gone), ("b", gone), ("c", cut), ("d", whole))}
    store.add(edits)
    Path(store.pictures.path(gone)).unlink()
    Path(store.pictures.path(cut)).write_bytes(b"")
    assert store.known(edits) == edits
    assert store.sound(edits).keys() == store.known(edits).keys() == {"c", "d"}
    assert store.mend() == {cut: "corrupt"}
    assert store.mend() == {}
    assert store.known(edits).keys() == {"d"}
    store.add({"a": StoredEdit(sha256="other"), "d": StoredEdit(sha256="other")})
    assert store.known(edits) == {"a": StoredEdit(sha256="other"), "d": edits["d"]}


def test_object_stores_are_not_asked_for_every_picture(tmp_path):
    store = edit_store(tmp_path, "memory://never-there")
    store.add({"a": EDIT})
    assert store.sound(["a"]) == {"a": EDIT}
    assert store.mend() == {"s": "missing"}


def test_what_was_spent_adds_up(tmp_path):
    store = edit_store(tmp_path)
    assert store.spent("a") == Spent()
    for _ in range(2):
        store.add_spent("a", Spent(pictures=3, network_rows=40, seconds=0.5))
    assert edit_store(tmp_path).spent("a") == Spent(pictures=6, network_rows=80, seconds=1.0)
    assert store.spent("b") == Spent()


def test_the_table_names_no_model(tmp_path):
    """A new version of a model costs no edit: there is no place to write it."""
    edit_store(tmp_path).add({"a": EDIT})
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        columns = {row[1] for table in ("edits", "readings") for row in db.execute(f"PRAGMA table_info({table})")}
    assert columns == {"recipe", "sha256", "facts", "detector", "reading"}

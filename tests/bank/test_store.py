"""The bank on disk."""

import multiprocessing
import sqlite3
from dataclasses import replace

import fsspec
import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.store import Drawn, ProbeBank
from audit_plugin.core.errors import BankError, StorageFullError
from audit_plugin.core.values import Role
from tests.bank.world import CONCEPTS, RULER, FakeGenerator, good, new_bank, silent, small_plan


def test_a_plan_comes_back_as_it_was(tmp_path):
    """Rows and probes survive the disk."""
    bank = new_bank(tmp_path)
    bank.register(small_plan())
    assert ProbeBank.open(tmp_path).plan() == small_plan()


def test_pictures_lie_under_their_hash(tmp_path):
    """Equal bytes are one file, named by content."""
    bank = new_bank(tmp_path)
    one, two = bank.add_images([Drawn(recipe="a", png=b"x"), Drawn(recipe="b", png=b"x", rejected="blank")])
    assert one.sha256 == two.sha256
    assert [p.name for p in tmp_path.glob("images/*/*")] == [f"{one.sha256}.png"]
    assert bank.pictures.get(one.sha256) == b"x"
    assert bank.images() == {"a": one, "b": two}


def test_pictures_may_lie_in_an_object_store(tmp_path):
    """Any fsspec URL serves; the bank remembers which."""
    new_bank(tmp_path, images="memory://pictures-of-demo").add_images([Drawn(recipe="a", png=b"x")])
    image = ProbeBank.open(tmp_path).images()["a"]
    assert ProbeBank.open(tmp_path).pictures.get(image.sha256) == b"x"
    assert fsspec.filesystem("memory").find("pictures-of-demo")
    with pytest.raises(BankError, match="keeps its images at"):
        new_bank(tmp_path, images="memory://elsewhere")


def test_the_digest_names_the_evidence(tmp_path):
    """It depends on the pictures, not on the order or the place of drawing."""
    for name, batch in (("one", 4), ("two", 100)):
        build(new_bank(tmp_path / name), small_plan(), FakeGenerator(), good, progress=silent, batch=batch)
    one, two = (ProbeBank.open(tmp_path / name) for name in ("one", "two"))
    assert one.digest == two.digest
    one.forget(next(iter(one.images().values())).sha256)
    assert one.digest != two.digest


def test_another_concept_set_or_audit_is_refused(tmp_path):
    """The message says what was made for what, and what to do; a change of role alone is no other set."""
    new_bank(tmp_path)
    ProbeBank.create(
        tmp_path, audit="demo", concept_set=replace(CONCEPTS, concepts=(replace(RULER, role=Role.ARTEFACT), CONCEPTS.concepts[1]))
    )
    with pytest.raises(BankError, match=r"another concept set \(ruler, colour.*than the given one \(ruler;.*another directory"):
        ProbeBank.create(tmp_path, audit="demo", concept_set=replace(CONCEPTS, concepts=(RULER,), groups=()))
    with pytest.raises(BankError, match="belongs to audit 'demo', not 'other'"):
        ProbeBank.create(tmp_path, audit="other", concept_set=CONCEPTS)


def test_no_bank_and_an_empty_bank_are_told_apart(tmp_path):
    """Both say to build first."""
    with pytest.raises(BankError, match="no probe bank at"):
        ProbeBank.open(tmp_path)
    with pytest.raises(BankError, match="is empty; build it first"):
        new_bank(tmp_path).plan()


def test_a_bank_of_another_format_or_damaged_is_refused(tmp_path):
    """Old formats and damaged files get a message, not a traceback."""
    new_bank(tmp_path)
    db = sqlite3.connect(tmp_path / "bank.sqlite")
    with db:
        db.execute("UPDATE manifest SET value = '0' WHERE key = 'format'")
    db.close()
    with pytest.raises(BankError, match="has format 0, this version reads 1"):
        ProbeBank.open(tmp_path)
    (tmp_path / "bank.sqlite").write_bytes(b"rubbish" * 1000)
    with pytest.raises(BankError, match="not a database"):
        ProbeBank.open(tmp_path)


def _hold(root, held, done):
    with ProbeBank.open(root).writer():
        held.set()
        done.wait(20)


def test_one_writer_at_a_time(tmp_path):
    """The second writer learns who the first is; readers are not disturbed."""
    bank, spawn = new_bank(tmp_path), multiprocessing.get_context("fork")
    held, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(tmp_path, held, done))
    other.start()
    assert held.wait(20)
    with pytest.raises(BankError, match=f"being written by process {other.pid}"), bank.writer():
        pass
    assert bank.images() == {}
    done.set()
    other.join()
    with bank.writer():
        pass


def test_readers_see_whole_batches_while_a_writer_is_at_work(tmp_path):
    """A reader inside an open write transaction sees the state before it, and does not wait."""
    bank = new_bank(tmp_path)
    with bank._transaction() as db:
        db.execute("INSERT INTO images VALUES ('a', 's', '', '')")
        assert ProbeBank.open(tmp_path).images() == {}
    assert ProbeBank.open(tmp_path).images().keys() == {"a"}


def _fill(bank):
    with bank._transaction() as db:
        db.execute("PRAGMA max_page_count = 1")
        db.executemany("INSERT INTO images VALUES (?, 's', '', '')", ([str(i) * 50] for i in range(1000)))


def test_a_full_disk_under_the_table_is_named(tmp_path):
    """SQLite's own refusal becomes ours, and the transaction leaves nothing."""
    bank = new_bank(tmp_path)
    with pytest.raises(StorageFullError, match=r"bank\.sqlite"):
        _fill(bank)
    assert bank.images() == {}

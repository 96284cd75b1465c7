"""Readings of every picture, and files against their names."""

from pathlib import Path

import numpy as np
import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.verify import verify, verify_files
from audit_plugin.core.errors import BankError, DetectorError
from tests.bank.world import CONCEPTS, FakeDetector, FakeGenerator, good, new_bank, silent, small_plan


@pytest.fixture
def bank(tmp_path):
    bank = new_bank(tmp_path)
    build(bank, small_plan(), FakeGenerator(), good, progress=silent)
    return bank


def test_every_picture_is_read_once(bank):
    """A second pass reads nothing; another detector reads everything again."""
    first, again, other = FakeDetector(), FakeDetector(), FakeDetector("detector-2")
    report = verify(bank, first, progress=silent, batch=5)
    assert report.read == first.seen == len(bank.usable())
    assert verify(bank, again, progress=silent).reused == first.seen
    assert again.seen == 0
    assert verify(bank, other, progress=silent).read == first.seen
    assert bank.detectors() == ["detector-1", "detector-2"]


def test_readings_come_back_by_concept(bank):
    """What was read of the stored pixels is what is stored, in float32."""
    verify(bank, FakeDetector(), progress=silent)
    for sha, reading in bank.readings("detector-1").items():
        assert [len(reading[concept.name]) for concept in CONCEPTS.concepts] == [2, 3]
        np.testing.assert_array_equal(reading["ruler"], reading["colour"][:2])
        assert sha in bank.usable()


def test_an_interrupted_pass_goes_on_where_it_stopped(bank):
    """Batches that were committed are not read again."""
    broken = FakeDetector()
    broken.read = lambda images: FakeDetector.read(broken, images) if broken.seen < 10 else {}
    with pytest.raises(DetectorError, match=r"must answer \(5, 2\) for concept 'ruler'"):
        verify(bank, broken, progress=silent, batch=5)
    assert verify(bank, FakeDetector(), progress=silent).read == len(bank.usable()) - 10


def test_damaged_files_leave_the_bank_and_are_redrawn(bank):
    """Missing and corrupt pictures are listed, never used, and come back with the next build."""
    before, (lost, bent, *_) = bank.digest, bank.usable()
    bank.pictures.remove(lost)
    Path(bank.pictures.path(bent)).write_bytes(b"rubbish")
    with pytest.raises(BankError, match="corrupt"):
        bank.pictures.get(bent)
    with pytest.raises(BankError, match=f"{lost} .* missing; verify the bank's files and build again"):
        verify(bank, FakeDetector(), progress=silent)
    report = verify_files(bank, progress=silent)
    assert (report.missing, report.corrupt) == ((lost,), (bent,))
    assert build(bank, small_plan(), FakeGenerator(), good, progress=silent).drawn == 2
    assert verify_files(bank, progress=silent).missing == ()
    assert bank.digest == before

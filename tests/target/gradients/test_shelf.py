"""Students are kept between sessions: read back instead of taught, taught anew where the file is no good."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from audit_plugin.core.errors import GradientError
from audit_plugin.target.gradients import GradientOptions, Kept, Pooled, Rung, StudentOptions, StudentShelf, guide
from tests.target.gradients.deployed import Coarse

EASY = StudentOptions(students=2, widths=(8,), epochs=2, top1=0, top1_generated=0, rises=0, times_random=-1e9)
IMAGES = np.random.default_rng(1).random((4, 3, 16, 16), np.float32)


def guided(shelf, student=EASY):
    """A guide by students, how many pictures were made for them, and how many the server was asked about."""
    made, target = [], Coarse(99)

    def pool(n):
        made.append(n)
        return Pooled(np.random.default_rng(0).random((n, 3, 16, 16), np.float32), np.arange(n) >= n // 2)

    found = guide(GradientOptions(rung=Rung.SURROGATE, queries=60, student=student), target, IMAGES, pool=pool, shelf=shelf)
    return found, len(made), target.asked


def answers(found):
    with torch.no_grad():
        return found.judge(torch.from_numpy(IMAGES)).numpy()


def test_students_are_read_back_and_nothing_is_made_or_asked(tmp_path):
    """The same students, with what their tests had found; a second shelf of another key is empty."""
    shelf = StudentShelf(file=tmp_path / "students" / "a.safetensors", key="a")
    first, made, asked = guided(shelf)
    assert (made, asked > 60) == (1, True)
    again, *nothing = guided(shelf)
    assert nothing == [0, 0]
    np.testing.assert_array_equal(answers(first), answers(again))
    assert again.said == f"{first.said} (taught and tested in an earlier run)"
    assert [each.name for each in shelf.file.parent.iterdir()] == ["a.safetensors"]
    assert len(again.judge.surrogate.lesson().pictures) > 32  # made only when they are to be taught again


@pytest.mark.parametrize("damage", ["cut", "text", "other", "bit"])
def test_a_file_that_is_no_good_is_taught_anew_with_a_warning(tmp_path, damage):
    shelf = StudentShelf(file=tmp_path / "a.safetensors", key="a")
    first, *_ = guided(shelf)
    whole = shelf.file.read_bytes()
    damaged = {
        "cut": whole[: len(whole) // 2],
        "text": b"hello",
        "other": whole.replace(b"students-1", b"students-0"),
        "bit": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
    }
    shelf.file.write_bytes(damaged[damage])
    with capture_logs() as logs:
        again, made, _ = guided(shelf)
    assert made == 1
    assert [(each["log_level"], each["event"]) for each in logs] == [
        ("warning", "kept students of the model cannot be used and are taught anew")
    ]
    np.testing.assert_array_equal(answers(first), answers(again))
    assert shelf.load(4, EASY) is not None


def test_students_that_failed_their_tests_fail_them_again_without_being_taught(tmp_path):
    shelf, strict = StudentShelf(file=tmp_path / "a.safetensors", key="a"), replace(EASY, times_random=1e9)
    for _ in range(2):
        with pytest.raises(GradientError, match="does not stand in for the deployed model"):
            guided(shelf, strict)
    with pytest.raises(GradientError, match="does not stand in"):
        guide(
            GradientOptions(rung=Rung.SURROGATE, queries=60, student=strict),
            Coarse(99),
            IMAGES,
            pool=lambda _n: pytest.fail("nothing is to be made"),
            shelf=shelf,
        )


def test_students_that_were_taught_again_are_kept_with_that(tmp_path):
    """So that a later session does not teach them a third time."""
    shelf = StudentShelf(file=tmp_path / "a.safetensors", key="a")
    found, *_ = guided(shelf)
    judge, kept = found.judge, shelf.load(4, EASY)
    assert (kept.again, judge.again) == (False, False)
    judge.keep(judge.surrogate, kept.found)
    assert shelf.load(4, EASY).again
    assert guided(shelf)[0].judge.again
    assert isinstance(kept, Kept)


def test_a_shelf_that_cannot_be_written_is_only_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with capture_logs() as logs:
        found, *_ = guided(StudentShelf(file=tmp_path / "taken" / "a.safetensors", key="a"))
    assert found.rung is Rung.SURROGATE
    assert logs[0]["event"] == "students of the model were not kept"

"""Work in a process of its own: its result, its errors, its death."""

import os
import signal
import time

import pytest

from engines.desk.apart import apart
from engines.errors import BackendError, ExportError, ProcessDiedError


def double(x):
    return 2 * x, os.getpid()


def refuse(error):
    raise error


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path):
    path.write_text(str(os.getpid()))
    time.sleep(60)


def test_the_result_comes_from_another_process():
    value, process = apart(double, 21, seconds=60)
    assert value == 42
    assert process != os.getpid()


@pytest.mark.parametrize(("error", "words"), [(ValueError("no"), "^ValueError: no$"), (ExportError("not this"), "^not this$")])
def test_errors_come_back_in_their_own_words(error, words):
    with pytest.raises(BackendError, match=words):
        apart(refuse, error, seconds=60)


def test_a_crash_is_an_error_here():
    """A segmentation fault ends the child only, and is named."""
    with pytest.raises(ProcessDiedError, match="SIGSEGV"):
        apart(die, seconds=60)


def test_what_does_not_end_is_ended(tmp_path):
    """And no process is left behind."""
    note = tmp_path / "pid"
    with pytest.raises(ProcessDiedError, match="not done after 4 s"):
        apart(hang, note, seconds=4)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)

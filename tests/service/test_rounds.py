"""Rounds come one at a time, whatever they do."""

import io
import json
import threading
import time

import pytest

from audit_plugin.core.errors import TargetError
from audit_plugin.service.logs import json_logger
from audit_plugin.service.rounds import Rounds


def until(true, seconds=5.0):
    """Wait for another thread, and fail when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def rounds(run_all, interval, stream=None):
    made = Rounds(run_all, interval_seconds=interval, log=json_logger(stream or io.StringIO()))
    made.start()
    return made


def test_the_first_round_starts_at_once_and_the_next_after_the_interval():
    """No waiting a day for the first verdict."""
    times = []
    running = rounds(lambda: times.append(time.monotonic()), 0.2)
    until(lambda: len(times) == 3)
    assert running.stop(grace_seconds=5)
    assert 0.15 < times[1] - times[0] < 1


def test_rounds_never_overlap_and_late_ones_are_counted():
    """A round longer than its interval misses the ones due meanwhile."""
    active, most = [], []

    def slow():
        active.append(1)
        most.append(len(active))
        time.sleep(0.25)
        active.pop()

    running = rounds(slow, 0.1)
    until(lambda: running.health.attempts == 2)
    assert running.stop(grace_seconds=5)
    assert (max(most), running.health.missed >= 2) == (1, True)


@pytest.mark.parametrize(("error", "traced"), [(TargetError("server gone; start it"), False), (ZeroDivisionError("bug"), True)])
def test_a_failing_round_is_counted_logged_and_followed_by_the_next(error, traced):
    """Expected errors are one line, unexpected ones come with their traceback."""
    outcomes, stream = [error], io.StringIO()

    def run_all():
        if outcomes:
            raise outcomes.pop()

    running = rounds(run_all, 0.05, stream)
    until(lambda: running.health.attempts >= 2 and not running.health.last_round_failed)
    running.stop(grace_seconds=5)
    line = json.loads(stream.getvalue().splitlines()[0])
    assert (running.health.failures, line["event"], line["level"]) == (1, "run_failed", "error")
    assert (line["message"], "exception" in line) == (str(error), traced)


def test_stopping_waits_for_the_round_but_not_for_ever():
    """A round that does not end is abandoned and reported."""
    release = threading.Event()
    running = rounds(release.wait, 60)
    until(lambda: running.health.attempts == 1)
    assert not running.stop(grace_seconds=0.05)
    release.set()
    assert running.stop(grace_seconds=5)
    assert not running.alive


def test_the_next_round_is_announced():
    """An event time, not an age."""
    running = rounds(lambda: None, 1000)
    until(lambda: running.health.next_run_timestamp_seconds > time.time() + 900)
    running.stop(grace_seconds=5)


def test_an_interval_must_be_positive():
    """Zero would hammer the server."""
    with pytest.raises(ValueError, match="positive"):
        Rounds(print, interval_seconds=0, log=json_logger())

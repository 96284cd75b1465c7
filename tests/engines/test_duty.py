import logging
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.duty import RETRY_SECONDS, WINDOW_SECONDS, DutyCycle, Sharing


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self):
        return self.now


def work_through(share, jobs):
    """(start, end) of every job when each begins as soon as it has come and may; jobs are (seconds, idle before)."""
    clock = Clock()
    sharing = Sharing(share, clock=clock)
    intervals = []
    for seconds, idle in jobs:
        clock.now += idle
        while (pause := sharing.begin()) > 0:
            clock.now += pause
        intervals.append((clock.now, clock.now + seconds))
        clock.now += seconds
        sharing.end(seconds)
    return intervals, sharing, clock


def busy(intervals, first, last):
    return sum(max(min(end, last) - max(start, first), 0.0) for start, end in intervals)


JOBS = st.lists(st.tuples(st.floats(1e-3, 5), st.just(0.0) | st.floats(0, 20)), min_size=1, max_size=12)


@given(st.floats(0.05, 1.0), JOBS, st.floats(0, 1), st.floats(0, 1))
def test_the_share_is_kept_over_any_window(share, jobs, start, length):
    """At most share W + (1 - share) times the longest batch, for windows anywhere and of any length."""
    intervals, *_ = work_through(share, jobs)
    origin, end = intervals[0][0], intervals[-1][1]
    longest = max(seconds for seconds, _ in jobs)
    for first in (origin + start * (end - origin), *(each for each, _ in intervals)):
        for last in (first + length * (end - first), *(each for _, each in intervals)):
            if last > first:
                assert busy(intervals, first, last) <= share * (last - first) + (1 - share) * longest + 1e-6


@given(st.floats(0.05, 1.0), st.lists(st.floats(0.1, 2), min_size=2, max_size=10))
def test_no_time_is_given_away_either(share, seconds):
    """With work at hand all the time the next batch begins exactly when it may."""
    intervals, *_ = work_through(share, [(each, 0.0) for each in seconds])
    assert intervals[-1][0] - intervals[0][0] == pytest.approx(sum(seconds[:-1]) / share, rel=1e-6)


def test_the_achieved_share_is_that_of_the_last_minute():
    _, sharing, clock = work_through(0.25, [(1.0, 0.0)] * 200)
    assert sharing.achieved == pytest.approx(0.25, abs=1 / WINDOW_SECONDS)
    clock.now += 2 * WINDOW_SECONDS
    assert sharing.achieved == 0.0
    assert sharing.share == 0.25


def test_workers_of_one_device_take_turns():
    clock = Clock()
    sharing = Sharing(0.5, clock=clock)
    assert sharing.begin() == 0.0
    assert sharing.begin() == RETRY_SECONDS
    clock.now += 3.0
    sharing.end(3.0)
    assert sharing.begin() == pytest.approx(3.0)


def test_production_goes_first():
    clock, waiting = Clock(), [True, True, False]
    sharing = Sharing(pressed=lambda: waiting.pop(0), poll_seconds=0.25, clock=clock)
    assert [sharing.begin() for _ in range(3)] == [0.25, 0.25, 0.0]


def test_not_knowing_counts_as_pressure_and_is_said_once(caplog):
    answers = iter([OSError("refused"), OSError("refused"), False])

    def pressed():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sharing = Sharing(pressed=pressed, poll_seconds=0.25, clock=Clock())
    with caplog.at_level(logging.WARNING):
        assert [sharing.begin() for _ in range(3)] == [0.25, 0.25, 0.0]
    assert [record.getMessage() for record in caplog.records] == [
        "cannot tell whether production waits (refused); assuming that it does"
    ]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="share of device time"):
        DutyCycle(share)

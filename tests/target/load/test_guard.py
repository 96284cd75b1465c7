"""The load guard: never more than the budget, nothing while production waits or windows are closed, nothing after a stop."""

import datetime as dt
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_plugin.core.errors import StoppedError, TargetUnreachableError
from audit_plugin.target.load import LoadGuard, LoadOptions, guard_of
from audit_plugin.target.load.budget import TokenBucket
from engines.pressure import QueueCounts

NIGHT = dt.datetime(2026, 11, 30, 23, tzinfo=dt.UTC)
CALM = QueueCounts(answered=0)


class World:
    """A clock that goes on while the guard naps, and a server's queues."""

    def __init__(self, **options):
        self.now, self.queues, self.sent, self.looks = 0.0, CALM, [], 0
        self.guard = LoadGuard(
            LoadOptions(**{"images_per_second": 0, **options}),
            clock=lambda: self.now,
            today=lambda: NIGHT + dt.timedelta(seconds=self.now),
            nap=self.nap,
        )

    def nap(self, seconds):
        self.now += max(seconds, 1e-6)

    def look(self):
        self.looks += 1
        if isinstance(self.queues, Exception):
            raise self.queues
        return self.queues

    def send(self, images=1, took=0.0):
        with self.guard.admitted(images, self.look):
            self.sent.append(self.now)
            self.now += took

    def wait(self, milliseconds):
        """So much for each of ten more requests."""
        before = self.queues
        self.queues = QueueCounts(before.answered + 10, before.queued_seconds + milliseconds / 100, 0)


@settings(max_examples=40)
@given(st.floats(0.5, 50), st.lists(st.tuples(st.floats(0, 0.4), st.integers(1, 30)), min_size=1, max_size=60))
def test_no_span_of_time_gets_more_than_the_rate_and_one_burst(rate, asked):
    bucket, now, spent = TokenBucket(rate), 0.0, []
    for pause, cost in asked:
        now += pause
        while (wait := bucket.wait(cost, now)) > 0:
            now += wait + 1e-9
        bucket.spend(cost)
        spent.append((now, cost))
    largest = max(cost for _, cost in spent)
    for first in range(len(spent)):
        total = 0
        for moment, cost in spent[first:]:
            total += cost
            assert total <= rate * (moment - spent[first][0]) + max(1, 0.05 * rate) + largest + 1e-6


def test_requests_keep_to_the_budget():
    world = World(requests_per_second=10)
    for _ in range(60):
        world.send()
    assert world.sent[-1] - world.sent[0] == pytest.approx((60 - 1) / 10, abs=0.1)
    assert np.diff(world.sent).max() == pytest.approx(np.diff(world.sent).min(), abs=1e-3)  # evenly, not in bursts
    assert world.guard.counts.throttled_seconds == pytest.approx(world.now)


def test_pictures_have_a_budget_of_their_own():
    world = World(requests_per_second=0, images_per_second=100)
    for _ in range(10):
        world.send(images=50)
    assert world.now == pytest.approx((500 - 50) / 100, abs=0.1)
    assert (world.guard.counts.requests, world.guard.counts.images) == (10, 500)


def test_a_budget_of_nothing_is_no_limit():
    world = World(requests_per_second=0)
    for _ in range(1000):
        world.send()
    assert world.now == 0


def test_it_pauses_within_a_look_of_queue_growth_and_goes_on_slower_once_queues_are_short():
    world = World(requests_per_second=10, look_seconds=1, calm_seconds=5)
    world.wait(0.1)
    world.send()
    world.now += 1
    world.wait(0.2)
    world.send()
    grown = world.now = world.now + 0.5
    world.wait(40)
    while not world.guard.paused:  # a request may still slip through until the next look
        assert world.now - grown <= 1.0
        world.now += 0.1
        thread_free = world.guard._wait(1, world.look)  # one try, without waiting
        if thread_free is None:
            world.guard._under_way -= 1
    assert "requests wait 40.0 ms" in world.guard.paused
    world.wait(0.1)
    before = world.now
    world.send()
    assert world.now - before >= 5
    assert (world.guard.paused, world.guard.counts.pauses) == ("", 1)
    assert world.guard.counts.paused_seconds >= 5
    first = len(world.sent)
    begun = world.now
    for _ in range(40):
        world.send()
    half = len(world.sent) - first
    assert half / (world.now - begun) < 7.5  # of ten a second


def test_what_was_usual_before_the_audit_is_no_reason_to_pause():
    """A server whose requests always wait 20 ms is pressed at three times that."""
    world = World(requests_per_second=0, most_queue_ms=5)
    world.wait(20)
    world.send()
    for _ in range(5):
        world.now += 1
        world.wait(20)
        world.send()
    assert world.guard.counts.pauses == 0


def test_requests_that_wait_now_are_a_reason():
    world = World(most_pending=3)
    world.queues = QueueCounts(answered=5, pending=4)
    assert world.guard._wait(1, world.look) == ("paused_seconds", 1.0)
    assert world.guard.paused == "4 requests wait on the server"


def test_outside_its_windows_it_waits():
    world = World(requests_per_second=0, windows=("23:30-04:00",))
    world.send()
    assert world.now == pytest.approx(30 * 60, abs=1)
    assert world.guard.counts.closed_seconds == pytest.approx(30 * 60, abs=1)


def test_queues_that_cannot_be_read_leave_the_budget_and_are_counted():
    world = World(requests_per_second=100)
    world.queues = TargetUnreachableError("away")
    for _ in range(3):
        world.send()
        world.now += 2
    assert (world.guard.counts.blind, world.looks, len(world.sent)) == (3, 3, 3)


def test_looks_are_not_taken_more_often_than_asked():
    world = World(requests_per_second=0, look_seconds=1, busy_share=1)
    for _ in range(100):
        world.send(took=0.1)
    assert 9 <= world.looks <= 11


def test_nothing_is_sent_after_a_stop_and_whoever_waits_is_told_at_once():
    guard, told = LoadGuard(LoadOptions(requests_per_second=1)), []

    def ask():
        try:
            while True:
                with guard.admitted(1):
                    told.append("sent")
        except StoppedError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    begun = time.monotonic()
    guard.stop()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - begun < 1
    assert sum("was stopped before this request" in one for one in told) == 3
    sent = guard.counts.requests
    with pytest.raises(StoppedError), guard.admitted(1):
        pass
    assert guard.counts.requests == sent
    guard.resume()
    with guard.admitted(1):
        pass


def test_no_more_requests_are_under_way_than_allowed():
    options = LoadOptions(requests_per_second=0, images_per_second=0, in_flight=2, busy_share=1)
    guard, most, now = LoadGuard(options), [0], [0]
    lock = threading.Lock()

    def ask():
        for _ in range(5):
            with guard.admitted(1):
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                time.sleep(0.002)
                with lock:
                    now[0] -= 1

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most[0] == 2
    assert guard.counts.requests == 30


def test_one_guard_serves_all_connections_to_a_server():
    assert guard_of("a:1", LoadOptions()) is guard_of("a:1", LoadOptions())
    assert guard_of("a:1", LoadOptions()) is not guard_of("b:1", LoadOptions())


@pytest.mark.parametrize(("given", "message"), [
    ({"requests_per_second": -1}, "not negative"), ({"look_seconds": 0}, "above 0"), ({"metrics": "host:8002"}, "begins with http"),
    ({"timezone": "Mars/Base"}, "'Mars/Base' is not known"), ({"windows": ("soon",)}, "'soon' is no window"), ({"in_flight": 0}, "at least 1"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        LoadOptions(**given)


def test_a_stop_while_the_queues_are_looked_at_counts():
    """Whoever looks is not let through afterwards; and a guard that was stopped in a pause says nothing of it."""
    guard = LoadGuard(LoadOptions(requests_per_second=0, images_per_second=0))

    def look():
        guard.stop()
        return QueueCounts(answered=1)

    with pytest.raises(StoppedError), guard.admitted(1, look):
        pass
    assert (guard.counts.requests, guard.paused) == (0, "")

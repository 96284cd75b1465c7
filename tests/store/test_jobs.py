"""Jobs and leases: written down first, begun once, never forgotten."""

import datetime as dt
import subprocess
import sys
import threading

import pytest

from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import RunState
from audit_plugin.store.jobs import MOST_STARTS, JobState, gravest
from audit_plugin.store.leases import gone, this_process
from audit_plugin.store.store import Store

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += dt.timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    opened = Store.open(tmp_path / "audit.db", migrate=True, clock=clock)
    yield opened
    opened.close()


def test_the_oldest_that_waits_is_begun(store, clock):
    """In the order in which they were asked for, each once."""
    first, _ = store.jobs.ask(model="ham", cause="api", by="ann")
    clock.pass_by(1)
    second, _ = store.jobs.ask(cause="interval", by="audit_plugin")
    assert store.jobs.waiting() == 2
    begun = [store.jobs.begin() for _ in range(3)]
    assert [job and job.id for job in begun] == [first.id, second.id, None]
    assert (begun[0].state, begun[0].starts, begun[0].started) == (JobState.RUNNING, 1, NOW + dt.timedelta(seconds=1))


def test_a_key_is_used_once(store):
    """Whoever asks again with it is told of the job of then, whatever became of it."""
    first, new = store.jobs.ask(model="ham", cause="api", by="ann", key="k")
    again, newer = store.jobs.ask(model="spam", cause="api", by="bob", key="k")
    assert (new, newer, again) == (True, False, first)
    assert store.jobs.ask(cause="api", by="ann")[1]


def test_many_threads_begin_each_job_once(store):
    """Two processes that both think they hold the lease still never run a job twice."""
    for _ in range(12):
        store.jobs.ask(cause="api", by="ann")
    begun, lock = [], threading.Lock()

    def work():
        while (job := store.jobs.begin()) is not None:
            with lock:
                begun.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == len(set(begun)) == 12


def test_a_job_left_behind_is_queued_again_but_not_for_ever(store):
    """A job that kills its process would kill the next one too."""
    job, _ = store.jobs.ask(cause="api", by="ann")
    for _ in range(MOST_STARTS):
        store.jobs.begin()
        (left,) = store.jobs.left_behind()
        assert left.id == job.id
        state = store.jobs.queue_again(left, "its process was killed")
    assert state is JobState.FAILED
    assert store.jobs.begin() is None
    assert "given up after 3 starts" in store.jobs.job(job.id).message


def test_a_process_that_was_thought_gone_changes_nothing(store):
    """It hung for longer than its lease: another one has begun the job since, or has ended it."""
    store.jobs.ask(cause="api", by="ann")
    stale = store.jobs.begin()
    store.jobs.queue_again(stale, "its process was silent for too long")
    fresh = store.jobs.begin()
    assert store.jobs.queue_again(stale, "stopped", at_fault=False) is JobState.RUNNING
    store.jobs.end(stale, JobState.SUCCEEDED)
    assert store.jobs.job(fresh.id).state is JobState.RUNNING
    store.jobs.end(fresh, JobState.SUCCEEDED)
    assert store.jobs.queue_again(stale, "stopped") is JobState.SUCCEEDED
    assert store.jobs.queue_again(fresh, "stopped") is JobState.SUCCEEDED
    assert store.jobs.begin() is None


def test_cancelling(store):
    """One that waits ends at once; one under way is told so at its next report; one that has ended stays as it is."""
    waits, _ = store.jobs.ask(cause="api", by="ann")
    assert store.jobs.cancel(waits.id, "bob").state is JobState.CANCELLED
    runs, _ = store.jobs.ask(cause="api", by="ann")
    runs = store.jobs.begin()
    assert store.jobs.report(runs.id, done=1, total=9, doing="score") is None
    assert store.jobs.cancel(runs.id, "bob").state is JobState.RUNNING
    assert store.jobs.report(runs.id, done=2, total=9, doing="score") == "bob"
    assert store.jobs.queue_again(runs, "stopped") is JobState.CANCELLED
    assert store.jobs.cancel(runs.id, "eve").cancelled_by == "bob"
    assert store.jobs.cancel("nope", "bob") is None


def test_an_end_is_final(store):
    """What came of it is on record, with the ids of its results."""
    store.jobs.ask(cause="api", by="ann")
    job = store.jobs.begin()
    store.jobs.end(job, gravest([RunState.SUCCEEDED, RunState.FAILED]), "one model broke", ["r1", "r2"])
    store.jobs.end(job, JobState.SUCCEEDED)
    ended = store.jobs.job(job.id)
    assert (ended.state, ended.message, ended.runs, ended.finished) == (JobState.FAILED, "one model broke", ("r1", "r2"), NOW)
    assert ended.state.ended


def test_pages_of_jobs_and_lines_of_a_log(store, clock):
    """Newest first, older ones by the last id of a page; a log from any line on."""
    ids = []
    for number in range(5):
        clock.pass_by(1)
        ids.append(store.jobs.ask(model="ham" if number % 2 else "spam", cause="api", by="ann")[0].id)
    assert [job.id for job in store.jobs.jobs(limit=2)] == ids[:2:-1]
    assert [job.id for job in store.jobs.jobs(limit=9, before=ids[2])] == ids[1::-1]
    assert [job.id for job in store.jobs.jobs(model="ham")] == [ids[3], ids[1]]
    everything = store.jobs.ask(cause="api", by="ann")[0]
    assert [job.id for job in store.jobs.jobs(model="ham")] == [everything.id, ids[3], ids[1]]
    for text in ("drawing", "scoring"):
        store.jobs.line(ids[0], "info", text)
    first, second = store.jobs.lines(ids[0])
    assert (first.text, store.jobs.lines(ids[0], after=first.id)) == ("drawing", (second,))


def test_one_holder_at_a_time(store, clock):
    """Free when given back, and when its holder is silent for too long."""
    leases = store.leases
    assert leases.take("audit", "a", seconds=30)
    assert leases.take("audit", "a", seconds=30)
    assert not leases.take("audit", "b", seconds=30)
    clock.pass_by(20)
    assert leases.keep("audit", "a", seconds=30)
    clock.pass_by(20)
    assert (leases.holder("audit"), leases.take("audit", "b", seconds=30)) == ("a", False)
    clock.pass_by(11)
    assert leases.holder("audit") is None
    assert leases.take("audit", "b", seconds=30)
    assert not leases.keep("audit", "a", seconds=30)
    leases.leave("audit", "a")
    assert leases.holder("audit") == "b"
    leases.leave("audit", "b")
    assert leases.take("audit", "a")


def test_a_lease_is_kept_until_it_is_lost(store, clock):
    """Prolonged in the background; whoever loses it is told."""
    lost = threading.Event()
    with store.leases.held("audit", "a", lost=lost.set, seconds=0.15):
        with pytest.raises(StoreError, match="audit is held by a; wait"), store.leases.held("audit", "b", lost=print):
            pass
        assert not lost.wait(0.2)
        taken = False
        for _ in range(50):  # its keeper may prolong it between the two
            clock.pass_by(60)
            if taken := store.leases.take("audit", "b", seconds=60):
                break
        assert taken
        assert lost.wait(5)
    assert store.leases.holder("audit") == "b"


def test_a_holder_of_this_machine_that_is_no_more_is_known(store):
    """And only such a one: process numbers of another container mean nothing here."""
    host, space, _, word = this_process().rsplit("/", 3)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert gone(f"{host}/{space}/{ended.pid}/{word}")
    for alive in (this_process(), f"{host}/another/{ended.pid}/{word}", f"other/{space}/{ended.pid}/{word}", "somebody"):
        assert not gone(alive)
    assert store.leases.take("audit", f"{host}/{space}/{ended.pid}/{word}", seconds=600)
    assert store.leases.take("audit", this_process())

"""Runs come one at a time, in order, whatever they do; none that was asked for is forgotten."""

import datetime as dt
import io
import json
import threading
import time

import pytest

from audit_plugin.core.errors import TargetError
from audit_plugin.service.backend import Seen
from audit_plugin.service.logs import json_logger
from audit_plugin.service.worker import Worker
from audit_plugin.service_options import Schedule, ServeOptions
from audit_plugin.store.jobs import JobState
from audit_plugin.store.leases import audit_lease
from tests.service.world import Audits, backend, opened, serving, until

FAR = ServeOptions(interval_seconds=1e9)


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as store:
        yield store


@pytest.fixture
def start(store):
    """Starts workers, which are stopped at the end."""
    started = []

    def starting(run, options=FAR, log=None, **more):
        worker = Worker(backend(store, run, **more), options, json_logger(log or io.StringIO()))
        worker.start()
        started.append(worker)
        return worker

    yield starting
    for worker in started:
        worker.stop(grace_seconds=5)


def ended(store, count):
    return until(lambda: [job for job in store.jobs.jobs() if job.state.ended][count - 1 :])


def test_the_first_audit_begins_at_once_and_the_next_after_the_interval(store, start):
    """No waiting a day for the first verdict; and a restart audits nothing again that is fresh."""
    runs = Audits(store)
    worker = start(runs, ServeOptions(interval_seconds=0.3))
    ended(store, 3)
    assert runs.most == 1
    assert worker.stop(grace_seconds=5)
    begun = len(runs.begun)
    again = start(runs)
    until(lambda: again.health.leader)
    time.sleep(0.2)
    assert len(runs.begun) == begun
    assert again.health.next_run_timestamp_seconds > time.time() + 1e8


def test_what_is_due_while_another_run_goes_on_is_missed_and_counted(store, start):
    """Runs never overlap."""
    runs = Audits(store, steps=10, pause=0.1)
    worker = start(runs, ServeOptions(interval_seconds=0.2))
    until(lambda: worker.health.missed >= 2)
    assert worker.stop(grace_seconds=5)
    assert runs.most == 1


@pytest.mark.parametrize(("error", "traced"), [(TargetError("server gone; start it"), False), (ZeroDivisionError("bug"), True)])
def test_a_failing_run_is_counted_logged_and_followed_by_the_next(store, start, error, traced):
    """Expected errors are one line, unexpected ones come with their traceback."""
    log = io.StringIO()
    worker = start(Audits(store, raises=[error]), log=log)
    (failed,) = ended(store, 1)
    assert (failed.state, str(error) in failed.message) == (JobState.FAILED, True)
    assert worker.health.last_round_failed
    worker.ask(model="", cause="api", by="ann")
    ended(store, 2)
    until(lambda: not worker.health.last_round_failed)
    assert (worker.health.attempts, worker.health.failures) == (2, 1)
    line = next(json.loads(line) for line in log.getvalue().splitlines() if "run_failed" in line)
    assert (line["level"], line["message"], "exception" in line) == ("error", str(error), traced)


def test_models_that_fail_do_not_hide_those_that_do_not(store, start):
    """The results are kept, the job is said to have failed."""
    start(Audits(store, errors=[TargetError("spam is away")]))
    (job,) = ended(store, 1)
    assert (job.state, job.message, len(job.runs)) == (JobState.FAILED, "spam is away", 1)
    assert "spam is away" in [line.text for line in store.jobs.lines(job.id)]


def test_a_cancelled_run_stops_and_asks_nothing_more(store, start):
    """The guards are closed at once and opened again for the next run."""
    doors, runs = [], Audits(store, steps=1000, pause=0.01)
    worker = start(runs, halt=lambda: doors.append("shut"), go_on=lambda: doors.append("open"))
    (job,) = until(lambda: store.jobs.jobs(state=JobState.RUNNING))
    store.jobs.cancel(job.id, "bob")
    assert until(lambda: store.jobs.job(job.id).state) is not None
    until(lambda: store.jobs.job(job.id).state is JobState.CANCELLED)
    until(lambda: "open" in doors)
    assert (runs.stopped, store.jobs.job(job.id).message) == (1, "cancelled by bob")
    assert not worker.health.last_round_failed


def test_stopping_ends_a_run_and_the_next_start_resumes_it(store, start):
    """A clean end is no failure, however often it happens."""
    for _ in range(4):
        worker = start(Audits(store, steps=1000, pause=0.01))
        until(lambda: store.jobs.jobs(state=JobState.RUNNING))
        begun = time.monotonic()
        assert worker.stop(grace_seconds=5)
        assert time.monotonic() - begun < 2
        (job,) = store.jobs.jobs()
        assert (job.state, "stopped" in job.message) == (JobState.QUEUED, True)
    start(Audits(store))
    assert [each.id for each in ended(store, 1)] == [job.id]


def test_a_run_that_never_reports_is_abandoned_after_the_grace(store, start):
    """Said so, and resumed by the next process."""
    release = threading.Event()

    def deaf(_model, _progress):
        release.wait()
        return [], []

    worker = start(deaf)
    until(lambda: store.jobs.jobs(state=JobState.RUNNING))
    assert not worker.stop(grace_seconds=0.05)
    release.set()
    assert worker.stop(grace_seconds=5)


def test_of_two_processes_one_runs_the_jobs_and_the_other_takes_over(store, start):
    """Whichever is asked."""
    first_runs, second_runs = Audits(store), Audits(store)
    first = start(first_runs)
    ended(store, 1)
    second = start(second_runs)
    second.ask(model="ham", cause="api", by="ann")
    ended(store, 2)
    assert (len(first_runs.begun), second_runs.begun, second.health.leader) == (2, [], False)
    first.stop(grace_seconds=5)
    second.ask(model="ham", cause="api", by="ann")
    ended(store, 3)
    assert second_runs.begun == ["ham"]


def test_an_audit_by_hand_is_waited_for(store, start):
    """Its pictures are the same."""
    assert store.leases.take(audit_lease("tests"), "somebody/1/2", seconds=60)
    runs = Audits(store)
    start(runs)
    until(store.jobs.waiting)
    time.sleep(0.7)
    assert runs.begun == []
    store.leases.leave(audit_lease("tests"), "somebody/1/2")
    ended(store, 1)


def test_times_of_a_clock_that_passed_while_nobody_was_there(store, start):
    """Counted as missed, and made up for by one run."""
    store.jobs._clock = lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    store.jobs.ask(cause="schedule 0 3 * * *", by="audit_plugin")
    store.jobs.end(store.jobs.begin(), JobState.SUCCEEDED)
    store.jobs._clock = lambda: dt.datetime.now(dt.UTC)
    runs = Audits(store)
    worker = start(runs, ServeOptions(schedules=(Schedule(cron="0 3 * * *"),)))
    ended(store, 2)
    assert (worker.health.missed, runs.begun) == (3, [""])
    assert worker.health.interval_seconds == 86_400


def test_a_new_version_is_audited_once(store):
    """Seen by the watch; a version that is audited already is left alone, as is one whose audit waits."""
    shown = ["7"]
    runs = Audits(store)

    def look():
        return [Seen(model="ham", label="lesion", up=True, detail="", version=shown[0], config_hash="")]

    with serving(backend(store, runs, look=look), on_new_version=True) as (_web, metrics):
        until(lambda: len(store.jobs.jobs()) >= 1)
        ended(store, 1)
        time.sleep(0.4)
        before = [job.cause for job in store.jobs.jobs()]
        shown[0] = "8"
        until(lambda: "version ham:8" in [job.cause for job in store.jobs.jobs()])
        time.sleep(0.4)
        causes = [job.cause for job in store.jobs.jobs()]
        assert causes.count("version ham:8") == 1
        assert "audit_plugin_target_up 1.0" in metrics.get("/metrics").text
    assert "version ham:8" not in before


def test_a_version_that_comes_back_is_audited_again(store):
    """Rolled back and deployed once more: each time it is another one than was audited last."""
    shown = ["7"]

    def look():
        return [Seen(model="ham", label="lesion", up=True, detail="", version=shown[0], config_hash="")]

    with serving(backend(store, Audits(store, version=lambda: shown[0]), look=look)):
        ended(store, 1)
        for version in ("8", "7", "8"):
            shown[0] = version
            until(lambda version=version: store.last_runs()[0].version == version)
    assert [job.cause for job in store.jobs.jobs()][:3] == ["version ham:8", "version ham:7", "version ham:8"]


def test_a_store_that_comes_back_is_used_again(store, start, monkeypatch):
    """The thread outlives whatever goes wrong."""
    log, real, broken = io.StringIO(), store.jobs.waiting, threading.Event()
    broken.set()

    def waiting():
        if broken.is_set():
            raise TargetError("disk gone")
        return real()

    monkeypatch.setattr(store.jobs, "waiting", waiting)
    monkeypatch.setattr("audit_plugin.service.worker._STANDBY", 0.05)
    worker = start(Audits(store), log=log)
    until(lambda: "worker_failed" in log.getvalue())
    assert worker.alive
    broken.clear()
    ended(store, 1)

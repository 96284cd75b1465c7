"""Whatever the disk does: senders do not wait, memory stays flat, every loss is counted, writing resumes by itself."""

import errno
import os
import time
import tracemalloc

import numpy as np
import pytest
from structlog.testing import capture_logs

from audit_plugin.capture.rows import read_rows
from audit_plugin.capture.sink import Answered, Shown, Sink
from audit_plugin.capture.snapshot import purge
from audit_plugin.core.capture import DROPS
from audit_plugin.core.errors import ConfigError
from audit_plugin.sources.images import read_image
from tests.capture.made import options, picture

FSYNC = os.fsync


def shown(number, size=64):
    return Shown(model="leaves", id=f"{number:06}", picture=np.full((size, size, 3), number % 256, np.uint8))


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def sink_of(path, **more):
    return Sink(options(path, **more), ["leaves"], seed="t", first_pause=0.02)


def test_what_is_offered_is_kept_and_counted(tmp_path):
    """Pictures and answers, committed when the sink is closed; a repeated request is not kept twice."""
    with sink_of(tmp_path, size=3) as sink:
        for number in range(3):
            assert sink.offer([shown(number), Answered(model="leaves", id=f"{number:06}", predicted="ill")])
        assert sink.offer([shown(0)])
    counts = sink.counts
    assert (counts.kept, counts.images, counts.dropping) == (3, {"leaves": 3}, False)
    assert {reason: number for reason, number in counts.dropped.items() if number} == {"duplicate": 1}
    assert set(counts.dropped) == set(DROPS)
    assert [row.predicted for row in read_rows(tmp_path / "leaves")] == ["ill"] * 3


def test_a_running_service_commits_within_seconds(tmp_path):
    """A snapshot does not need the service to stop."""
    with sink_of(tmp_path) as sink:
        sink.offer([shown(1)])
        until(lambda: read_rows(tmp_path / "leaves"))


def test_a_slow_disk_costs_pictures_but_neither_time_nor_memory(tmp_path, monkeypatch):
    """3,000 pictures of 48 KB at a disk that takes 20 ms each: offers are quick, the queue's bound is the memory's bound."""
    monkeypatch.setattr("audit_plugin.capture.files.os.fsync", lambda _: time.sleep(0.02))
    with sink_of(tmp_path, queue=1000, queue_mb=1, size=100) as sink:
        until(lambda: sink._reservoirs)
        tracemalloc.start()
        slowest = 0.0
        for number in range(3_000):
            began = time.perf_counter()
            sink.offer([shown(number, 128)])
            slowest = max(slowest, time.perf_counter() - began)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sink.waiting <= 22
        lost = sink.counts.dropped["queue_full"]
        assert 2_500 < lost < 3_000
        assert peak < 4_000_000
        assert slowest < 0.5
        assert sink.counts.dropping


def test_a_dead_disk_is_counted_told_once_and_recovers(tmp_path):
    """The directory cannot be made; 200 pictures are lost without the queue growing; when it can, the next ones are kept."""
    place = tmp_path / "place"
    place.write_text("in the way")
    with capture_logs() as logs, sink_of(place / "captured", queue=16) as sink:
        for number in range(200):
            sink.offer([shown(number)])
            until(lambda: sink.waiting < 16)
        until(lambda: not sink.waiting)
        assert sum(sink.counts.dropped[reason] for reason in ("disk_error", "queue_full")) >= 199
        assert sink.counts.dropping
        place.unlink()
        until(lambda: sink.offer([shown(1_000)]) and sink.counts.kept)
    assert [log["event"] for log in logs] == [
        "captured pictures cannot be written and are dropped",
        "captured pictures are written again",
    ]
    assert logs[0]["reason"] == "disk_error"


def test_a_full_disk_is_told_from_a_dead_one_and_leaves_the_sample_whole(tmp_path, monkeypatch):
    """ENOSPC while writing: counted as ``disk_full``, no half files, rows as before, and on again afterwards."""
    full = [False]

    def fsync(descriptor):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        FSYNC(descriptor)

    monkeypatch.setattr("audit_plugin.capture.files.os.fsync", fsync)
    with sink_of(tmp_path) as sink:
        sink.offer([shown(1)])
        until(lambda: read_rows(tmp_path / "leaves"))
        full[0] = True
        sink.offer([shown(2), shown(3)])
        until(lambda: sink.counts.dropped["disk_full"] == 2)
        assert [row.id for row in read_rows(tmp_path / "leaves")] == ["000001"]
        assert len(list((tmp_path / "leaves").glob("pictures/*/*"))) == 1
        full[0] = False
        until(lambda: sink.offer([shown(4)]) and sink.counts.kept > 1)
    assert {"000001", "000004"} <= {row.id for row in read_rows(tmp_path / "leaves")}


def test_regions_and_hooks_change_what_is_kept(tmp_path):
    """Built-in rectangles first, then the operator's function; only the result reaches the disk."""
    with sink_of(tmp_path, regions=((0.0, 0.5, 0.5, 1.0),), redact=("tests.capture.hooks:top_row_white",)) as sink:
        sink.offer([Shown(model="leaves", id="a", picture=np.full((4, 4, 3), 9, np.uint8))])
    (row,) = read_rows(tmp_path / "leaves")
    np.testing.assert_array_equal(
        read_image(tmp_path / "leaves" / row.file)[..., 0], [[255] * 4, [9] * 4, [0, 0, 9, 9], [0, 0, 9, 9]]
    )


@pytest.mark.parametrize(
    ("hook", "reason"), [("fails", "redaction_failed"), ("wrong", "redaction_failed"), ("drops_all", "redacted")]
)
def test_a_picture_that_is_not_redacted_is_not_kept(hook, reason, tmp_path):
    """An error of a hook, or its word, drops the picture; the log says it once."""
    with capture_logs() as logs, sink_of(tmp_path, redact=(f"tests.capture.hooks:{hook}",)) as sink:
        sink.offer([shown(1), shown(2)])
    assert sink.counts.dropped[reason] == 2
    assert not list(tmp_path.glob("leaves/pictures/*/*"))
    assert len(logs) == (reason == "redaction_failed")
    assert sink.counts.dropping == (reason == "redaction_failed")


@pytest.mark.parametrize("hook", ["tests.capture.hooks:nothing", "tests.capture.hooks:NOTHING", "no_such_module:f"])
def test_a_hook_that_is_not_there_is_an_error_at_the_start(hook, tmp_path):
    """Rather than nothing captured."""
    with pytest.raises(ConfigError, match="redact"):
        sink_of(tmp_path, redact=(hook,))


def test_deletion_needs_no_service(tmp_path):
    """Retention and tombstones are applied by hand where nobody writes, and left to the service where one does."""
    with sink_of(tmp_path) as sink:
        sink.offer([Shown(model="leaves", id="a", picture=picture())])
        until(lambda: sink.counts.kept)
        assert purge(sink.options, ["leaves"]) == {"leaves": False}
    assert purge(sink.options, ["leaves"]) == {"leaves": True}

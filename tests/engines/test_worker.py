import ctypes
import threading
from concurrent.futures import CancelledError
from contextlib import contextmanager
from threading import Event, Thread

import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.backends.ort import OrtBackend
from engines.bucketed import Buckets, measured
from engines.cache import BuildCache
from engines.certificate import FORWARD_LIMITS
from engines.duty import Sharing
from engines.errors import ClosedEngineError, FeedError, OutOfMemoryError, ProductionBusyError, WorkerDiedError
from engines.parity import relative_error
from engines.spec import EngineSpec, Profile, TensorSpec
from engines.worker import EngineWorker
from tests.engines.workshop import Affine, exact_buckets, right, rows, static_buckets


def assert_right(request, feeds):
    torch.testing.assert_close(request.result(10)["y"], right(feeds), rtol=0, atol=0)


@contextmanager
def held(program, buckets, **options):
    """A worker whose first batch, of client "first", is held until the gate opens, so that others queue up behind it."""
    program.gate = Event()
    with EngineWorker(buckets, **options) as worker:
        try:
            first = worker.client("first").submit(rows(1))
            assert program.entered.wait(10)
            yield worker, first
        finally:
            program.gate.set()


def test_rows_of_several_audits_share_a_batch():
    """Each gets its own results; batches, rows, padding and waiting are counted."""
    program = Affine()
    with held(program, static_buckets(program, [1, 4, 8])) as (worker, _):
        asked = {name: rows(count, first) for name, count, first in (("a", 3, 10.0), ("b", 4, 50.0))}
        requests = {name: worker.client(name).submit(feeds) for name, feeds in asked.items()}
        program.gate.set()
        for name, feeds in asked.items():
            assert_right(requests[name], feeds)
        assert worker.drain(10)
        stats = worker.stats()
    assert program.sizes == [1, 8]
    assert (stats.calls, stats.rows, stats.padded, stats.requests, stats.failures) == (2, 8, 1, 3, 0)
    assert stats.batch_rows == {1: 1, 7: 1}
    assert stats.client_rows == {"first": 1, "a": 3, "b": 4}
    assert stats.wait_seconds > 0
    assert stats.device_seconds > 0
    assert sum(stats.batch_seconds.values()) == 2
    assert stats.padded_share == pytest.approx(1 / 9)
    assert (stats.share, stats.achieved, stats.waiting) == (1.0, None, 0)


def test_a_small_audit_is_not_stuck_behind_a_large_one():
    """It is in the next batch, although a hundred rows were there before."""
    program = Affine()
    with held(program, exact_buckets(program)) as (worker, _):
        large = worker.client("large").submit(rows(100))
        small = worker.client("small").submit(rows(2, 1000.0))
        program.gate.set()
        assert_right(small, rows(2, 1000.0))
        assert_right(large, rows(100))
    assert 1000.0 in program.batches[1][:, 0]


def test_many_threads_get_their_own_rows():
    program = Affine()
    wrong = []

    def audit(worker, number):
        client = worker.client(f"audit {number}")
        for step in range(20):
            feeds = rows(1 + (number + step) % 5, 100.0 * number + step)
            wrong.extend([] if torch.equal(client.submit(feeds).result(10)["y"], right(feeds)) else [(number, step)])

    with EngineWorker(exact_buckets(program)) as worker:
        threads = [Thread(target=audit, args=(worker, number)) for number in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert worker.stats().rows == sum(1 + (number + step) % 5 for number in range(6) for step in range(20))
    assert wrong == []


def test_results_go_where_they_are_wanted():
    program = Affine()
    with EngineWorker(exact_buckets(program)) as worker:
        out = {"y": torch.zeros(2, 3)}
        assert worker.client("a").submit(rows(2), out).result(10)["y"] is out["y"]
        torch.testing.assert_close(out["y"], right(rows(2)))


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({**rows(2), "x": torch.tensor([[1.0, 2.0, 3.0], [1.0, float("nan"), 3.0]])}, "'x' .* NaN or infinity"),
        ({**rows(2), "t": torch.tensor([1.0, float("inf")])}, "'t' .* NaN or infinity"),
        ({**rows(2), "x": torch.zeros(2, 4)}, "rows of"),
        ({**rows(2), "t": torch.zeros(3)}, "same number of rows"),
        ({"x": torch.zeros(2, 3)}, "inputs t, x"),
    ],
)
def test_bad_rows_are_refused_at_the_door(feeds, message):
    """Nobody else's batch sees them."""
    program = Affine()
    with EngineWorker(exact_buckets(program)) as worker:
        client = worker.client("a")
        with pytest.raises(FeedError, match=message):
            client.submit(feeds)
        with pytest.raises(FeedError, match="another number"):
            client.submit(rows(2), {"y": torch.zeros(1, 3)})
        assert worker.drain(10)
    assert program.batches == []


def test_an_error_reaches_only_those_whose_rows_make_it():
    """The others in the batch get their results, and the worker goes on."""
    program = Affine(poison=77.0)
    with held(program, exact_buckets(program, 16)) as (worker, _):
        good, bad = worker.client("good").submit(rows(3)), worker.client("bad").submit(rows(2, 77.0))
        program.gate.set()
        assert_right(good, rows(3))
        with pytest.raises(RuntimeError, match="an operator failed"):
            bad.result(10)
        assert_right(worker.client("later").submit(rows(2)), rows(2))
        assert worker.stats().failures == 1


def test_a_request_that_fails_in_the_middle_ends():
    """Its remaining rows are not computed."""
    program = Affine(poison=0.0)
    with EngineWorker(exact_buckets(program, 4)) as worker:
        with pytest.raises(RuntimeError, match="an operator failed"):
            worker.client("a").submit(rows(20)).result(10)
        assert worker.drain(10)
    assert program.batches == []


def test_memory_runs_out_and_the_rows_are_computed_all_the_same():
    program = Affine(fits=2)
    with EngineWorker(static_buckets(program, [1, 2, 4, 8])) as worker:
        client = worker.client("a")
        assert_right(client.submit(rows(8)), rows(8))
        assert worker.stats().halvings == 2
        program.fits = 0
        with pytest.raises(OutOfMemoryError):
            client.submit(rows(1)).result(10)


def test_what_has_not_begun_can_be_cancelled():
    program = Affine()
    with held(program, exact_buckets(program)) as (worker, first):
        waiting = worker.client("a").submit(rows(3, 500.0))
        assert waiting.cancel()
        assert not first.cancel()
        program.gate.set()
        assert_right(first, rows(1))
        with pytest.raises(CancelledError):
            waiting.result(10)
    assert program.sizes == [1]


def test_closing_ends_every_wait():
    """The batch that runs is finished, what waits is refused, and nothing is taken any more."""
    program = Affine()
    with held(program, exact_buckets(program)) as (worker, first):
        client = worker.client("a")
        waiting = client.submit(rows(3))
        Thread(target=worker.close).start()
        assert worker._stop.wait(10)
        program.gate.set()
        assert_right(first, rows(1))
        with pytest.raises(ClosedEngineError):
            waiting.result(10)
        with pytest.raises(ClosedEngineError):
            client.submit(rows(1))
        worker.close()
    assert program.closed


def test_a_client_that_leaves_gives_up_what_waits():
    """Its name is free again, and the others are served."""
    program = Affine()
    with held(program, exact_buckets(program)) as (worker, first):
        client = worker.client("a")
        waiting = client.submit(rows(3))
        client.close()
        client.close()
        with pytest.raises(ClosedEngineError):
            waiting.result(10)
        with pytest.raises(ClosedEngineError):
            client.submit(rows(1))
        program.gate.set()
        assert_right(first, rows(1))
        assert_right(worker.client("a").submit(rows(2)), rows(2))
        assert worker.stats().client_rows == {"first": 1, "a": 2}


def test_a_killed_thread_leaves_nobody_waiting(caplog):
    """Killed from outside, in the middle of a batch."""
    program = Affine()
    with held(program, exact_buckets(program)) as (worker, first):
        waiting = worker.client("a").submit(rows(3))
        raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker._thread.ident), ctypes.py_object(SystemExit))
        assert raised == 1
        program.gate.set()
        for request in (first, waiting):
            with pytest.raises(WorkerDiedError, match="ended by SystemExit"):
                request.result(10)
        with pytest.raises(ClosedEngineError) as caught:
            worker.submit("first", rows(1))
        assert isinstance(caught.value.__cause__, WorkerDiedError)
    assert "the worker of engine 'affine' ended" in caplog.text


def test_rows_wait_for_company_but_not_for_ever():
    """Two clients; one submits: at most ``max_wait_ms`` later it is served alone.  Both submit: at once."""
    program = Affine()
    with EngineWorker(exact_buckets(program), max_wait_ms=20.0) as worker:
        one, other = worker.client("one"), worker.client("other")
        assert_right(one.submit(rows(1)), rows(1))
        assert worker.stats().wait_seconds >= 0.02
    with EngineWorker(exact_buckets(program), max_wait_ms=1e6) as worker:
        one, other = worker.client("one"), worker.client("other")
        requests = one.submit(rows(1)), other.submit(rows(2))
        for request in requests:
            request.result(10)
    assert program.sizes == [1, 3]


def test_a_full_batch_does_not_wait():
    program = Affine()
    with EngineWorker(exact_buckets(program, 4), max_wait_ms=1e6) as worker:
        client, _ = worker.client("one"), worker.client("idle")
        assert_right(client.submit(rows(4)), rows(4))


def test_production_pauses_the_worker():
    """Nothing runs while it is pressed; the pause, the setting and the share are in the statistics."""
    program, waits, asked = Affine(), Event(), Event()

    def pressed():
        asked.set()
        return not waits.is_set()

    with EngineWorker(exact_buckets(program), sharing=Sharing(0.9, pressed=pressed, poll_seconds=0.005)) as worker:
        request = worker.client("a").submit(rows(2))
        assert asked.wait(10)
        assert program.batches == []
        waits.set()
        assert_right(request, rows(2))
        assert worker.drain(10)
        stats = worker.stats()
    assert stats.share == 0.9
    assert stats.paused_seconds > 0
    assert 0 < stats.achieved <= 1


def test_patience_with_production_ends():
    """Those who waited are told; who comes later is served when the device is free."""
    program, free = Affine(), Event()
    sharing = Sharing(pressed=lambda: not free.is_set(), poll_seconds=0.005, patience_seconds=0.05)
    with EngineWorker(exact_buckets(program), sharing=sharing) as worker:
        client = worker.client("a")
        with pytest.raises(ProductionBusyError, match="a quieter time"):
            client.submit(rows(1)).result(10)
        free.set()
        assert_right(client.submit(rows(1)), rows(1))


def test_a_paused_worker_can_be_closed():
    with EngineWorker(exact_buckets(Affine()), sharing=Sharing(pressed=lambda: True, poll_seconds=30.0)) as worker:
        request = worker.client("a").submit(rows(1))
    with pytest.raises(ClosedEngineError):
        request.result(10)


def test_no_thread_is_left():
    before = set(threading.enumerate())
    with EngineWorker(exact_buckets(Affine())) as worker:
        worker.client("a").submit(rows(1)).result(10)
    assert set(threading.enumerate()) == before


class Block(nn.Module):
    """Convolution, normalisation and a product with a matrix, whose kernels depend on the batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.norm, self.mix = nn.Conv2d(4, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.Linear(16, 4)

    def forward(self, x, t):
        hidden = nn.functional.silu(self.norm(self.conv(x))) * t[:, None, None, None].cos()
        return self.mix(hidden.movedim(1, -1)).movedim(-1, 1).contiguous()


BLOCK = EngineSpec(
    name="block",
    inputs=(TensorSpec("x", "float32", ("B", 4, 8, 8)), TensorSpec("t", "float32", ("B",))),
    outputs=(TensorSpec("y", "float32", ("B", 4, 8, 8)),),
    profile=Profile(1, 8, 32),
    model_hash="d" * 64,
)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_results_do_not_depend_on_the_company(backend, graphs):
    """Alone, and in full batches with others at other timesteps: equal within the certificate's bound."""
    made = EagerBackend(threads=1) if backend == "torch" else OrtBackend(BuildCache(graphs), threads=1)
    engine = made.build(Block().eval().requires_grad_(requires_grad=False), BLOCK)
    noise = torch.randn(3, 7, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    asked = [{"x": x, "t": torch.linspace(0, 9, 7).roll(shift)} for shift, x in enumerate(noise)]
    alone = [torch.cat([engine.run({k: v[i : i + 1] for k, v in feeds.items()})["y"] for i in range(7)]) for feeds in asked]
    with EngineWorker(Buckets([engine], {1: 1.0, 8: 2.0})) as worker:
        requests = [worker.client(str(number)).submit(feeds) for number, feeds in enumerate(asked)]
        together = [request.result(10)["y"] for request in requests]
    assert all(relative_error(ours, one) <= FORWARD_LIMITS["fp32"] for ours, one in zip(together, alone, strict=True))


def test_a_real_engine_is_measured_and_served():
    """From module to worker without a fake."""
    engine = EagerBackend(threads=1).build(Block().eval(), BLOCK)
    feeds = {"x": torch.ones(5, 4, 8, 8), "t": torch.zeros(5)}
    wanted = engine.run(feeds)["y"]
    with EngineWorker(measured([engine], sizes=(1, 4))) as worker:
        assert relative_error(worker.client("a").submit(feeds).result(10)["y"], wanted) <= FORWARD_LIMITS["fp32"]

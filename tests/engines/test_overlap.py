import threading
from threading import Barrier, Event, Lock

import pytest
import torch

from engines.handover import on_stream, to_host
from engines.overlap import Stage, overlapped, run_overlapped
from tests.engines.workshop import interrupt_when

MOMENT = 0.02
"""Seconds in which a thread that has nothing left to do is gone; what works does so for longer."""


def stages(*works):
    return [Stage(f"stage {number}", work) for number, work in enumerate(works)]


def test_results_come_in_order_and_none_is_lost():
    """Also from a stage with several threads, whose batches end in another order."""
    gates = [Event() for _ in range(6)]

    def late(batch):
        """Odd batches end only when the next one has ended."""
        if batch % 2 == 0 and batch + 1 < len(gates):
            assert gates[batch + 1].wait(10)
        gates[batch].set()
        return batch * 10

    found = []
    assert run_overlapped(range(6), [Stage("query", late, threads=2), *stages(str)], found.append) == 6
    assert found == ["0", "10", "20", "30", "40", "50"]


def test_the_next_batch_is_drawn_while_the_answers_are_on_their_way():
    """The consumer of batch k ends only when batch k + 1 is being drawn: one after the other this would not end."""
    drawing = [Event() for _ in range(5)]
    drawing[-1].set()

    def draw(batch):
        drawing[batch].set()
        return batch

    def ask(batch):
        assert drawing[min(batch + 1, 4)].wait(10)
        return batch

    assert list(overlapped(range(5), stages(draw, ask))) == list(range(5))


def test_all_stages_work_at_once():
    """Three stages meet: each with another batch."""
    meeting = Barrier(3, timeout=10)

    def meet(number):
        def work(batch):
            if batch == 2 - number:  # batch 2 at stage 0 while batch 1 is at stage 1 and batch 0 at stage 2
                meeting.wait()
            return batch

        return work

    assert list(overlapped(range(3), stages(meet(0), meet(1), meet(2)))) == [0, 1, 2]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_pipeline_is_bounded(depth):
    """Never more than ``depth`` batches between source and sink, however slow the sink."""
    lock, inside, most = Lock(), set(), []

    def enter(batches):
        for batch in batches:
            with lock:
                inside.add(batch)
                most.append(len(inside))
            yield batch

    for result in overlapped(enter(range(9)), stages(lambda batch: batch), depth):
        with lock:
            inside.discard(result)
    assert max(most) <= depth + 1  # one more is asked for when its place is about to be free
    assert inside == set()


def fails_at(bad, error=ZeroDivisionError):
    def work(batch):
        if batch in bad:
            raise error(f"batch {batch}")
        return batch

    return work


@pytest.fixture
def alive():
    """Threads of this test's own stages that are left, which have a moment to end; what an earlier test left is not its doing."""
    before = set(threading.enumerate())

    def left():
        found = [thread for thread in threading.enumerate() if thread.name.startswith("stage") and thread not in before]
        for thread in found:
            thread.join(MOMENT)
        return [thread for thread in found if thread.is_alive()]

    return left


def test_the_first_error_by_order_of_batches_comes_in_its_place(alive):
    """Results before it are delivered, nothing after it, and no thread is left; later failures of other stages do not hide it."""
    found = []
    with pytest.raises(ZeroDivisionError, match="batch 3"):
        run_overlapped(range(9), stages(fails_at({4, 5}, KeyError), fails_at({3})), found.append)
    assert found == [0, 1, 2]
    assert alive() == []


def test_after_an_error_no_more_batches_are_asked_for():
    asked = []
    with pytest.raises(ZeroDivisionError):
        list(overlapped((asked.append(batch) or batch for batch in range(100)), stages(fails_at({2}), fails_at(set())), 3))
    assert len(asked) <= 5


def test_an_error_of_the_sink_or_the_source_ends_everything(alive):
    def source():
        yield 0
        yield 1
        raise OSError("the disk is full")

    def sink(result):
        if result == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        run_overlapped(range(100), stages(lambda batch: batch), sink)
    with pytest.raises(OSError, match="disk"):
        list(overlapped(source(), stages(lambda batch: batch)))
    assert alive() == []


def test_an_interrupt_leaves_nothing_running(alive):
    """Ctrl-C while a batch is at its last stage: what has begun ends, what waits in a queue is dropped."""
    asking, begun = Event(), []

    def draw(batch):
        begun.append(batch)
        return batch

    def ask(batch):
        asking.set()
        Event().wait(0.05)
        return batch

    with pytest.raises(KeyboardInterrupt), interrupt_when(asking.is_set):
        list(overlapped(range(1000), stages(draw, ask)))
    assert alive() == []
    assert len(begun) < 1000


def test_an_interrupt_while_a_thread_starts_leaves_nothing_running(alive, monkeypatch):
    """It works already and its pool has not noted it yet: what it has begun is waited for all the same."""
    start, asking = threading.Thread.start, Event()

    def interrupted(thread):
        start(thread)
        if thread.name.startswith("stage 1"):
            assert asking.wait(10)
            raise KeyboardInterrupt

    def ask(batch):
        asking.set()
        Event().wait(0.2)
        return batch

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(9), stages(lambda batch: batch, ask)))
    assert alive() == []


def test_stopping_early_leaves_nothing_running(alive):
    results = overlapped(range(100), stages(lambda batch: batch))
    assert next(results) == 0
    results.close()
    assert alive() == []


@pytest.mark.parametrize(("made", "depth"), [([], 3), (stages(abs), 0)])
def test_pipelines_without_stages_or_room_are_refused(made, depth):
    with pytest.raises(ValueError, match="need a stage"):
        list(overlapped([1], made, depth))


def test_on_a_cpu_stages_are_the_plain_functions():
    """Streams are None there; the values pass as they are."""
    image = torch.ones(1, 3, 2, 2)
    assert on_stream(torch.neg, None) is torch.neg
    assert to_host(None)(image) is image

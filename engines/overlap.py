"""Stages that work at the same time on different batches: batch k + 1 is drawn while the answers for batch k are on their way.

Each stage has a thread, or several where it mostly waits.  At most ``depth`` batches are between source and sink.  Results come in the
order of the batches; an error comes in the place of its batch, after the results of those before, and ends everything.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Thread, current_thread
from typing import Any

DEPTH = 3


@dataclass(frozen=True)
class Stage:
    """One thing that is done with every batch."""

    name: str
    work: Callable[[Any], Any]
    """From what the stage before made of a batch to what the next one gets."""
    threads: int = 1
    """How many batches it may have at once; more than one only helps what waits for others, such as a server."""


def overlapped(batches: Iterable[Any], stages: Sequence[Stage], depth: int = DEPTH) -> Iterator[Any]:
    """What the last stage makes of each batch, in order.  Raises the first error, by the order of batches.

    When it ends, by an error, by an interrupt or because it is closed, nothing is left running: what has not begun is dropped, and
    what has begun is waited for.  Batches are asked for in the caller's thread, and not before there is room.
    """
    if not stages or depth < 1:
        raise ValueError(f"need a stage and room for a batch, got {len(stages)} stages and depth {depth}")
    with _pools(stages) as pools:
        under_way: deque[Future[Any]] = deque()
        for batch in batches:
            under_way.append(_sent(batch, stages, pools))
            if len(under_way) == depth:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def run_overlapped(batches: Iterable[Any], stages: Sequence[Stage], sink: Callable[[Any], object], depth: int = DEPTH) -> int:
    """Give every result to ``sink``, in the caller's thread; returns how many.  An error of the sink ends everything too."""
    count = 0
    with closing(overlapped(batches, stages, depth)) as results:  # type: ignore[type-var]  # a generator, which can be closed
        for result in results:
            sink(result)
            count += 1
    return count


def _sent(batch: Any, stages: Sequence[Stage], pools: Sequence[ThreadPoolExecutor]) -> Future[Any]:
    """The batch's way through all stages.  Pools are first in, first out, so each waits for the one before and never for a later batch."""
    future: Future[Any] = Future()
    future.set_result(batch)
    for stage, pool in zip(stages, pools, strict=True):
        future = pool.submit(lambda work, before: work(before.result()), stage.work, future)
    return future


@contextmanager
def _pools(stages: Sequence[Stage]) -> Iterator[list[ThreadPoolExecutor]]:
    begun: list[Thread] = []
    pools = [
        ThreadPoolExecutor(stage.threads, thread_name_prefix=stage.name, initializer=lambda: begun.append(current_thread()))
        for stage in stages
    ]
    try:
        yield pools
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown(wait=True)
        for thread in begun:  # a pool does not know of a thread whose start was interrupted
            thread.join()

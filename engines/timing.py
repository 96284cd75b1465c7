"""How long does a device work?  By events on a GPU, which the host need not wait for; by the clock on a CPU."""

import math
import time
from collections.abc import Callable

import torch

Elapsed = Callable[[], float]
"""Waits until the device is done, then says for how many seconds it worked."""


def is_positive(value: object) -> bool:
    """Whether a note holds a time or a rate; anything else is measured again."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def timed(device: torch.device, work: Callable[[], object]) -> Elapsed:
    """Do the work, which on a GPU only enqueues it on the current stream, and measure it."""
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        return lambda: seconds
    first, last = _event(), _event()
    first.record()
    work()
    last.record()

    def wait() -> float:
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3

    return wait


def least_seconds(device: torch.device, work: Callable[[], object], *, repeats: int, patience_seconds: float) -> float:
    """Least of up to ``repeats`` runs after one that does not count; at least three, fewer than asked when patience ends.

    The least, since whatever else runs on the machine can only make work look longer.
    """
    timed(device, work)()
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < repeats and sum(seconds) < patience_seconds):
        seconds.append(timed(device, work)())
    return min(seconds)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it

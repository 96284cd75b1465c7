"""Engines bound and timed: device time of a batch, host time of a call."""

import time
from collections.abc import Mapping
from statistics import median

import torch
from torch import Tensor

from engines.engine import Engine
from engines.parity import Feeds
from engines.protocols import Replay
from engines.spec import TORCH_TYPES
from engines.timing import timed

REPEATS, PATIENCE_SECONDS = 20, 1.0
"""Timing a batch ends after this many replays or seconds, whichever comes first."""
CALLS, ROUNDS = 100, 5
"""Calls that are enqueued without waiting, and how often that is repeated."""


def bound(engine: Engine, feeds: Feeds) -> tuple[Replay, Mapping[str, Tensor]]:
    """The engine bound to these feeds, and the outputs that it writes."""
    rows = len(next(iter(feeds.values())))
    outs = {
        each.name: torch.empty((rows, *each.row), dtype=TORCH_TYPES[each.dtype], device=engine.device)
        for each in engine.spec.outputs
    }
    return engine.bind(feeds, outs), outs


def batch_seconds(engine: Engine, feeds: Feeds, patience_seconds: float = PATIENCE_SECONDS) -> float:
    """Median device time of a replay after one that does not count; at least three."""
    replay, _ = bound(engine, feeds)
    timed(engine.device, replay)()
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < REPEATS and sum(seconds) < patience_seconds):
        seconds.append(timed(engine.device, replay)())
    return median(seconds)


def call_seconds(engine: Engine, feeds: Feeds) -> float:
    """Host time of one replay, the least of several rounds.  On a CPU it holds the work too, so give it next to none."""
    replay, _ = bound(engine, feeds)
    replay()
    return min(_round(replay, engine.device) for _ in range(ROUNDS))


def _round(replay: Replay, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(CALLS):
        replay()
    return (time.perf_counter() - start) / CALLS

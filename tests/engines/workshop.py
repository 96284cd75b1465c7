"""A network that is known in closed form, on a program that can run out of memory, fail, wait and remember."""

import os
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event, Thread

import torch

from engines.bucketed import Buckets
from engines.engine import Engine
from engines.spec import EngineSpec, Profile, TensorSpec

SPEC = EngineSpec(
    name="affine",
    inputs=(TensorSpec("x", "float32", ("B", 3)), TensorSpec("t", "float32", ("B",))),
    outputs=(TensorSpec("y", "float32", ("B", 3)),),
    profile=Profile(1, 8, 64),
    model_hash="c" * 64,
)


def right(feeds):
    """What the network computes: y = 2 x + t."""
    return 2 * feeds["x"] + feeds["t"][:, None]


def rows(count, first=0.0):
    """Feeds whose every number is another one."""
    x = first + torch.arange(3 * count, dtype=torch.float32).view(count, 3)
    return {"x": x, "t": torch.arange(count, dtype=torch.float32) / 8}


@dataclass(eq=False)
class Affine:
    """The network as a vendor would supply it."""

    fits: int = 10**6
    """Largest batch that there is memory for."""
    error: Exception = field(default_factory=lambda: torch.OutOfMemoryError("CUDA out of memory"))
    gate: Event | None = None
    """Runs wait for it."""
    poison: float | None = None
    """A batch with this number in x cannot be computed."""
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    captures: int = 0
    batches: list[torch.Tensor] = field(default_factory=list)
    """The x of every batch that was run."""
    entered: Event = field(default_factory=Event)
    closed: bool = False

    def run(self, feeds, out, stream):
        self.entered.set()
        assert self.gate is None or self.gate.wait(10)
        if len(feeds["x"]) > self.fits:
            raise self.error
        if self.poison is not None and bool((feeds["x"] == self.poison).any()):
            raise RuntimeError("an operator failed")
        self.batches.append(feeds["x"].clone())
        y = right(feeds)
        return {"y": y} if out is None else {"y": out["y"].copy_(y)}

    def bind(self, feeds, outs):
        return lambda: (self.run(feeds, outs, None), None)[1]

    def refit(self, weights):
        raise NotImplementedError

    def close(self):
        self.closed = True

    @property
    def sizes(self):
        """Rows of every batch, padded ones too."""
        return [len(x) for x in self.batches]


def engine(program, lowest=1, most=64):
    return Engine(spec=replace(SPEC, profile=Profile(lowest, most, most)), program=program, backend="fake")


def static_buckets(program, sizes, seconds=None):
    """Static engines of each size over one program; times proportional to 1 + size unless given."""
    return Buckets([engine(program, size, size) for size in sizes], seconds or {size: 1.0 + size for size in sizes})


@contextmanager
def interrupt_when(ready: Callable[[], bool]):
    """Ctrl-C comes to this, the main thread as soon as it is so; also where the tests were started with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch():
        while not ready():
            Event().wait(0.002)
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


def exact_buckets(program, largest=8):
    """One engine that takes any batch."""
    return Buckets([engine(program)], {1: 2.0, largest: 1.0 + largest})

"""Engines of one network at several batch sizes, seen as one that takes rows from many places at once.

Every size is bound once to the same buffers, so that a batch costs the copies of its rows and one launch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from engines.buckets import SIZES, BucketTimes, measure_times, remembered_times
from engines.cache import BuildCache
from engines.engine import Engine
from engines.errors import OutOfMemoryError
from engines.memory import give_back, out_of_memory
from engines.protocols import Replay
from engines.rows import Part, Rows, empty_rows, gather, grouped, part_of, scatter
from engines.spec import EngineSpec, Profile

HALVINGS = 3
"""So often is a batch cut in half when memory is short."""


@dataclass(frozen=True)
class Ran:
    """One batch that was run."""

    rows: int
    """That were asked for."""
    padded: int
    """That were added, computed and thrown away."""


class Buckets:
    """Runs batches at the sizes it has engines for.  Not thread safe.

    ``engines`` are static ones, each of one size, or one with a range of sizes; they are closed with this object.
    """

    def __init__(self, engines: Sequence[Engine], seconds: Mapping[int, float]) -> None:
        self._engines = sorted(engines, key=lambda engine: engine.spec.profile.max_b)
        self._buffers: tuple[Rows, Rows] | None = None
        self._replays: dict[int, Replay] = {}
        self.times = BucketTimes(seconds, exact=_exact(engines))
        self.halvings = 0
        """How often memory was short."""

    @property
    def engine(self) -> Engine:
        """The one for the largest batches."""
        return self._engines[-1]

    @property
    def spec(self) -> EngineSpec:
        """Of the network, at its largest size."""
        return self.engine.spec

    @property
    def device(self) -> torch.device:
        """Where feeds are taken and results lie."""
        return self.engine.device

    def run(self, parts: Sequence[Part]) -> list[Ran]:
        """Compute all parts, together as far as the largest batch allows.  The host does not wait for a GPU.

        When memory is short the batch is cut in half, and larger ones are not tried again; OutOfMemoryError after three halvings.
        """
        done: list[Ran] = []
        halvings = 0
        while parts:
            group, *others = grouped(parts, self.times.largest)
            ran = self._tried(group, last=halvings == HALVINGS)
            if ran is None:
                halvings += 1
            else:
                done.append(ran)
                parts = [part for other in others for part in other]
        return done

    def replay(self, size: int) -> Replay:
        """One launch over the first ``size`` rows of the buffers."""
        if size not in self._replays:
            engine = next(each for each in self._engines if _takes(each, size))
            feeds, outs = self._fixed()
            self._replays[size] = engine.bind(part_of(feeds, 0, size), part_of(outs, 0, size))
        return self._replays[size]

    def measure(self) -> dict[int, float]:
        """Seconds of every size, on noise."""
        generator = torch.Generator(self.device).manual_seed(0)
        for value in self._fixed()[0].values():
            _ = value.normal_(generator=generator) if value.is_floating_point() else value.zero_()
        return measure_times(self.replay, sorted(self.times.seconds), self.device)

    def keep(self, seconds: Mapping[int, float]) -> None:
        """Use these sizes only; engines for larger batches are closed, and what is left is bound anew."""
        self.times = BucketTimes(seconds, exact=self.times.exact)
        self._replays.clear()
        self._buffers = None
        for engine in [each for each in self._engines if each.spec.profile.min_b > self.times.largest]:
            self._engines.remove(engine)
            engine.close()
        give_back(self.device)

    def close(self) -> None:
        """Give the engines' memory back.  Closing twice is fine."""
        self._replays.clear()
        self._buffers = None
        for engine in self._engines:
            engine.close()

    def _tried(self, parts: Sequence[Part], *, last: bool) -> Ran | None:
        """One batch; None when it did not fit and batches are smaller from now on, which is not tried after the last time."""
        size = self.times.cover(sum(len(part) for part in parts))
        smaller = {each: seconds for each, seconds in self.times.seconds.items() if each <= size // 2}
        try:
            return self._once(parts, size)
        except Exception as error:  # every library has its own
            if not out_of_memory(error):
                raise
            if last or not smaller:
                raise OutOfMemoryError(
                    f"engine {self.spec.name!r} runs out of memory on {self.device}, also with only {size} rows; "
                    "free memory there, or give the engine smaller batches from the start"
                ) from error
        self.halvings += 1
        self.keep(smaller)  # here, where the error no longer holds on to the failed batch's memory
        return None

    def _once(self, parts: Sequence[Part], size: int) -> Ran:
        replay = self.replay(size)
        feeds, outs = self._fixed()
        padded = gather(parts, feeds, size)
        replay()
        scatter(outs, parts)
        return Ran(size - padded, padded)

    def _fixed(self) -> tuple[Rows, Rows]:
        """Buffers of inputs and outputs, for the largest batch."""
        if self._buffers is None:
            inputs, outputs = (
                empty_rows(specs, self.times.largest, self.device) for specs in (self.spec.inputs, self.spec.outputs)
            )
            self._buffers = (inputs, outputs)
        return self._buffers


def static_engines(build: Callable[[Profile], Engine], sizes: Sequence[int] = SIZES) -> list[Engine]:
    """One engine for each batch size, ascending, as far as memory goes.  Raises what ``build`` raises, and OutOfMemoryError."""
    engines: list[Engine] = []
    for size in sorted(sizes):
        try:
            engines.append(build(Profile(size, size, size)))
        except Exception as error:  # every library has its own
            if not out_of_memory(error):
                raise
            if not engines:
                raise OutOfMemoryError(f"not even an engine for batches of {size} fits in memory; free some") from error
            break
    return engines


def measured(
    engines: Sequence[Engine],
    *,
    sizes: Sequence[int] = SIZES,
    cache: BuildCache | None = None,
    where: Mapping[str, str] | None = None,
) -> Buckets:
    """Buckets of these engines, each size timed.

    With a cache, times are noted beside the graph and not measured again; ``where`` is what they depend on besides the network, its
    backend and device: threads, versions.  ``sizes`` are those that an engine with a range is used at.
    """
    wanted = [size for size in sizes if any(_takes(engine, size) for engine in engines)]
    if not wanted:
        raise ValueError(f"none of the engines takes a batch of {', '.join(map(str, sizes)) or 'no size'}")
    buckets = Buckets(engines, dict.fromkeys(wanted, 1.0))
    if cache is None:
        buckets.keep(buckets.measure())
        return buckets
    place = {**(where or {}), "backend": buckets.engine.backend, "device": str(buckets.device), "sizes": str(wanted)}
    buckets.keep(remembered_times(cache, buckets.spec.key(), place, buckets.measure))
    return buckets


def _takes(engine: Engine, size: int) -> bool:
    return engine.spec.profile.min_b <= size <= engine.spec.profile.max_b


def _exact(engines: Sequence[Engine]) -> bool:
    """Whether batches run at their own size: one dynamic engine on a CPU, where nothing is captured."""
    return len(engines) == 1 and not engines[0].spec.profile.static and engines[0].device.type == "cpu"

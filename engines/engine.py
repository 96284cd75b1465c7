"""One built network, whoever runs it: feeds checked, ragged batches padded, calls counted.  A vendor supplies the program inside.

Everything that must be alike everywhere is here, so that a backend is only what is peculiar to its vendor.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from engines.certificate import Certificate
from engines.errors import ClosedEngineError, FeedError
from engines.protocols import Program, Replay, Stream
from engines.spec import TORCH_TYPES, EngineSpec, TensorSpec

_PENDING = 64
"""Device timings that may wait to be read; beyond that the oldest are read, by then long past."""


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """What an engine has done since it was made."""

    calls: int = 0
    items: int = 0
    """Rows that were asked for."""
    padded: int = 0
    """Rows that were added to reach the smallest batch, computed and thrown away."""
    seconds: float = 0.0
    """Of the device: by events on a GPU, wall time on a CPU.  Replays of bound feeds are not timed."""
    captures: int = 0
    """Graphs captured."""


class Meter:
    """Counts while an engine runs."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.calls = self.items = self.padded = 0
        self._seconds = 0.0
        self._pending: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def call(self, items: int, padded: int) -> None:
        """One call of so many rows."""
        self.calls += 1
        self.items += items
        self.padded += padded

    def timed(self, stream: Stream | None) -> "_Timing":
        """Context whose device time is added; the host does not wait for it."""
        return _Timing(self, stream)

    @property
    def seconds(self) -> float:
        """Device time so far; waits for what is still running."""
        self._read(0)
        return self._seconds

    def add(self, seconds: float) -> None:
        """Time of one call on a CPU."""
        self._seconds += seconds

    def wait(self, pair: tuple[torch.cuda.Event, torch.cuda.Event]) -> None:
        """Time of one call on a GPU, read later."""
        self._pending.append(pair)
        self._read(_PENDING)

    def _read(self, keep: int) -> None:
        while len(self._pending) > keep:
            start, end = self._pending.pop(0)
            end.synchronize()
            self._seconds += start.elapsed_time(end) / 1e3

    @property
    def on_gpu(self) -> bool:
        """Whether events measure."""
        return self._cuda


class _Timing:
    def __init__(self, meter: Meter, stream: Stream | None) -> None:
        self._meter, self._stream, self._start = meter, stream, 0.0
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None

    def __enter__(self) -> None:
        if not self._meter.on_gpu:
            self._start = time.perf_counter()
        elif not torch.cuda.is_current_stream_capturing():  # events in a recording tell no time
            self._events = (_event(), _event())
            self._events[0].record(self._stream or torch.cuda.current_stream())

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events[1].record(self._stream or torch.cuda.current_stream())
            self._meter.wait(self._events)
        elif not self._meter.on_gpu:
            self._meter.add(time.perf_counter() - self._start)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types for it


@dataclass(frozen=True, eq=False, kw_only=True)
class Engine:
    """A network that is ready to run.  Not thread safe: one per worker thread."""

    spec: EngineSpec
    program: Program
    backend: str
    """As users write it and reports show it."""
    artifact: str = ""
    """Digest of what it was loaded from; empty where it runs the module itself."""
    certificate: Certificate | None = None
    """How its numbers compare with the reference; None for the reference itself."""
    meter: Meter = field(init=False)
    _closed: list[bool] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "meter", Meter(self.program.device))

    @property
    def device(self) -> torch.device:
        """Where feeds are taken and outputs lie."""
        return self.program.device

    def run(
        self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None = None, stream: Stream | None = None
    ) -> Mapping[str, Tensor]:
        """Named inputs to named outputs, one row per item.  The host does not wait: results are valid in the order of the stream.

        Feeds on another device are copied to the engine's.  With ``out`` the results are written there.
        Raises FeedError for a wrong name, type, shape or batch, ClosedEngineError after :meth:`close`.
        """
        self._open()
        rows = self._rows(feeds)
        missing = max(self.spec.profile.min_b - rows, 0)
        self.meter.call(rows, missing)
        with self.meter.timed(stream):
            if missing == 0:
                return self.program.run(feeds, out, stream)
            results = self.program.run({name: _padded(value, missing) for name, value in feeds.items()}, None, stream)
            return _handed({name: value[:rows] for name, value in results.items()}, out)

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """Fix the addresses of feeds and outputs: calling the result computes from what is in the feeds then, at one launch's cost.

        The batch must be one that the engine takes as it is, and the tensors must lie on its device.
        """
        self._open()
        rows = self._rows(feeds)
        if rows < self.spec.profile.min_b:
            raise FeedError(f"engine {self.spec.name!r} is bound at {self.spec.profile.min_b} rows or more, got {rows}; pad them")
        check_rows(self.spec.outputs, outs, self.spec.name, "output")
        return self.program.bind(feeds, outs)

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """Replace parameters, by their names in the module.  Raises NotRefittableError where this engine cannot."""
        self._open()
        self.program.refit(weights)

    def close(self) -> None:
        """Give memory back.  Closing twice is fine; using it afterwards is not."""
        if not self._closed:
            self._closed.append(True)
            self.program.close()

    def stats(self) -> EngineStats:
        """What was done so far."""
        meter = self.meter
        return EngineStats(
            calls=meter.calls,
            items=meter.items,
            padded=meter.padded,
            seconds=meter.seconds,
            captures=self.program.captures,
        )

    def certified(self, certificate: Certificate) -> "Engine":
        """The same engine with its certificate."""
        return replace(self, certificate=certificate)

    def _open(self) -> None:
        if self._closed:
            raise ClosedEngineError(self.spec.name)

    def _rows(self, feeds: Mapping[str, Tensor]) -> int:
        rows = check_rows(self.spec.inputs, feeds, self.spec.name, "input")
        if rows > self.spec.profile.max_b:
            raise FeedError(f"engine {self.spec.name!r} takes at most {self.spec.profile.max_b} rows, got {rows}; cut the batch")
        return rows


def check_rows(specs: tuple[TensorSpec, ...], tensors: Mapping[str, Tensor], engine: str, what: str) -> int:
    """Rows of the batch, when every tensor is as the spec says; else FeedError.  Does not look at the numbers."""
    wanted = {each.name for each in specs}
    if wanted != set(tensors):
        raise FeedError(
            f"engine {engine!r} has the {what}s {', '.join(sorted(wanted))}; got {', '.join(sorted(tensors)) or 'none'}"
        )
    rows: set[int] = set()
    for each in specs:
        value = tensors[each.name]
        if value.dtype != TORCH_TYPES[each.dtype]:
            raise FeedError(
                f"{what} {each.name!r} of engine {engine!r} is {each.dtype}, got {str(value.dtype).removeprefix('torch.')}"
            )
        if tuple(value.shape[1:]) != each.row or value.ndim != len(each.shape):
            raise FeedError(f"{what} {each.name!r} of engine {engine!r} has rows of {each.row}, got {tuple(value.shape)}")
        rows.add(len(value))
    if len(rows) != 1 or 0 in rows:
        raise FeedError(f"the {what}s of engine {engine!r} must have one and the same number of rows, got {sorted(rows)}")
    return rows.pop()


def _padded(value: Tensor, missing: int) -> Tensor:
    """Row 0 is repeated: real numbers, of which no engine makes anything strange."""
    return torch.cat([value, value[:1].expand(missing, *value.shape[1:])])


def _handed(results: Mapping[str, Tensor], out: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    if out is None:
        return results
    for name, value in results.items():
        out[name].copy_(value)
    return out

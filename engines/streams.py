"""Order between CUDA streams by events, without the host waiting; on a CPU, where work is done when a call returns, nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from engines.protocols import Stream

LAST, FIRST = 0, -1
"""Priorities of streams: work on one of LAST starts when no other stream of the process has work for the same place."""

Event = torch.cuda.Event


def stream_on(device: torch.device, priority: int = LAST) -> Stream | None:
    """A stream of its own; None on a CPU."""
    return torch.cuda.Stream(device, priority=priority) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


@contextmanager
def on(stream: Stream | None) -> Iterator[None]:
    """Work goes to the stream; None leaves the current one."""
    with torch.cuda.stream(stream) if stream is not None else nullcontext():
        yield


def event_on(device: torch.device) -> Event | None:
    """An event to be recorded later; None on a CPU."""
    return Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def mark(device: torch.device) -> Event | None:
    """What was enqueued on the current stream so far."""
    return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None


def follow(event: Event | None) -> None:
    """What the current stream gets from now on starts after the event."""
    if event is not None:
        event.wait()


def lend(tensors: Iterable[Tensor], stream: Stream | None) -> None:
    """Memory of these tensors is not used for others before the stream has done what it has been given by the time they are freed."""
    for each in tensors:
        if stream is not None and each.is_cuda:
            each.record_stream(stream)


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors of nested mappings and sequences."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for each in value:
            yield from tensors_in(each)

"""Stages on a GPU: each on a stream of its own, with an event between them; the host waits only where numbers leave the device.

On a CPU, where there are no streams, the stages are the plain functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engines.protocols import Stream
from engines.streams import Event, follow, lend, mark, on, tensors_in


@dataclass(frozen=True, eq=False)
class Handed:
    """What a stage made, valid after the event."""

    value: Any
    event: Event


def on_stream(work: Callable[[Any], Any], stream: Stream | None) -> Callable[[Any], Any]:
    """The stage's work on its stream, after the work of the stage before; it returns when all is enqueued."""
    if stream is None:
        return work

    def staged(inbound: Any) -> Handed:
        with on(stream):
            result = work(_taken(inbound, stream))
            event = mark(stream.device)
        assert event is not None
        return Handed(result, event)

    return staged


def to_host(stream: Stream | None) -> Callable[[Any], Any]:
    """A stage of its own: a tensor's copy in pinned memory, by ``stream``; its thread waits for it, the device and others do not.

    Pinned memory comes from torch's pool, which hands a block out again only when nobody reads or writes it any more.
    """

    def copied(inbound: Any) -> Any:
        if stream is None or not isinstance(inbound, Handed):
            return inbound
        with on(stream):
            value: Tensor = _taken(inbound, stream)
            host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            host.copy_(value, non_blocking=True)
            event = mark(stream.device)
        assert event is not None
        event.synchronize()
        return host

    return copied


def _taken(inbound: Any, stream: Stream) -> Any:
    if not isinstance(inbound, Handed):
        return inbound
    follow(inbound.event)
    lend(tensors_in(inbound.value), stream)
    return inbound.value

"""A plan as a program: feeds in, outputs out, in the order of the stream; the host never waits."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.backends.trt.arena import Arena
from engines.backends.trt.binding import Binding, Staged
from engines.backends.trt.contexts import Contexts
from engines.backends.trt.device import Device, Queue
from engines.backends.trt.opening import Opened
from engines.backends.trt.refit import Weights
from engines.errors import ClosedEngineError, FeedError, NotRefittableError
from engines.protocols import Replay, Stream
from engines.spec import EngineSpec, TensorSpec


@dataclass(eq=False)
class _Open:
    """What is given back when the program is closed."""

    contexts: Contexts
    weights: Weights | None
    types: Mapping[str, torch.dtype]


class TensorrtProgram:
    """One engine, one context per stream."""

    def __init__(self, spec: EngineSpec, opened: Opened, on: Device, arena: Arena, weights: Weights | None) -> None:
        self.spec, self.captures, self.refits = spec, 0, 0
        self._on = on
        self._refitted_on: Queue | None = None
        self._state: _Open | None = _Open(Contexts(spec, opened, arena), weights, opened.types)

    @property
    def device(self) -> torch.device:
        """Of feeds and outputs."""
        return self._on.torch

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Enqueue once.  Inside somebody else's capture it becomes part of that graph."""
        state = self._open()
        with self._on.working(stream) as queue:
            inputs = {each.name: self._fed(feeds[each.name], state.types[each.name]) for each in self.spec.inputs}
            rows = len(next(iter(inputs.values())))
            results = {each.name: self._room(each, rows, out, state.types[each.name]) for each in self.spec.outputs}
            enqueue = state.contexts.enqueue_captured if self._on.capturing() else state.contexts.enqueue
            enqueue(queue, {**inputs, **results})
            return {each.name: _handed(results[each.name], each, out) for each in self.spec.outputs}

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """Addresses are set and a graph is recorded now, for the current stream; on another one at its first call there."""
        state = self._open()
        with self._on.working(None):
            staged = self._staged(feeds, outs, state.types)
        binding = Binding(self._on, lambda: self._open().contexts, lambda: self.refits, staged, self._captured)
        binding()
        return binding

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """Enqueued on the current stream, after what is under way on others and before what comes there.

        What is bound is recorded again by itself; what somebody else captured must be captured again.
        """
        state = self._open()
        if state.weights is None:
            raise NotRefittableError(self.spec.name, "its plan was built without the option `refit`")
        with self._on.working(None) as queue:
            others = [slot.queue for slot in state.contexts]
            for each in (*others, self._refitted_on or queue):
                queue.wait_stream(each)
            self.refits += 1
            state.weights.replace(weights, queue)
            self._refitted_on = queue
            for each in others:
                each.wait_stream(queue)

    def close(self) -> None:
        """Contexts, then what replaces weights, then the engine."""
        state, self._state = self._open(), None
        state.contexts.close()
        if state.weights is not None and self._refitted_on is not None:
            self._refitted_on.synchronize()
            state.weights.close()

    def _open(self) -> _Open:
        if self._state is None:
            raise ClosedEngineError(self.spec.name)
        return self._state

    def _captured(self) -> None:
        self.captures += 1

    def _fed(self, value: Tensor, kind: torch.dtype) -> Tensor:
        """As the engine takes it: there, in its type, dense, aligned."""
        ready = value.detach().to(self.device, kind, non_blocking=True).contiguous()
        return ready.clone() if ready.data_ptr() % self._on.alignment else ready

    def _room(self, each: TensorSpec, rows: int, out: Mapping[str, Tensor] | None, kind: torch.dtype) -> Tensor:
        if out is not None and self._direct(out[each.name], kind):
            return out[each.name]
        return torch.empty((rows, *each.row), dtype=kind, device=self.device)

    def _direct(self, value: Tensor, kind: torch.dtype) -> bool:
        """Whether the engine can use the tensor as it is."""
        aligned = value.data_ptr() % self._on.alignment == 0
        return value.device == self.device and value.dtype == kind and value.is_contiguous() and aligned

    def _staged(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor], types: Mapping[str, torch.dtype]) -> Staged:
        strangers = [name for name, value in {**feeds, **outs}.items() if value.device != self.device]
        if strangers:
            raise FeedError(f"engine {self.spec.name!r} is bound to tensors on {self.device}; {', '.join(strangers)} lie elsewhere")
        everything = {**feeds, **outs}
        tensors = {
            name: value if self._direct(value, types[name]) else torch.empty(value.shape, dtype=types[name], device=self.device)
            for name, value in everything.items()
        }
        return Staged(
            tensors,
            tuple((tensors[name], value) for name, value in feeds.items() if tensors[name] is not value),
            tuple((value, tensors[name]) for name, value in outs.items() if tensors[name] is not value),
        )


def _handed(result: Tensor, each: TensorSpec, out: Mapping[str, Tensor] | None) -> Tensor:
    """In the spec's type, in ``out`` where that is given."""
    if out is not None:
        return out[each.name] if out[each.name] is result else out[each.name].copy_(result)
    return result.float() if each.dtype == "float32" else result

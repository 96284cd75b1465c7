"""A session driven by IO binding: it reads and writes torch's memory where it lies, and nothing passes through NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.backends.eager import lie_on, on_stream
from engines.backends.ort.options import run_entries
from engines.errors import ExecutionError, FeedError, NotRefittableError
from engines.protocols import Replay, Stream
from engines.spec import TORCH_TYPES, Dtype, EngineSpec, TensorSpec

BFLOAT16 = 16
"""Its number in ONNX; NumPy has no such type."""

ELEMENTS: Mapping[Dtype, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": BFLOAT16,
    "int64": np.int64,
    "bool": np.bool_,
}

WARM_UPS = 2
"""Runs of a new binding on a GPU: the second records the graph at the latest, so that replays are nothing else."""


@dataclass(eq=False)
class OrtProgram:
    """One session."""

    spec: EngineSpec
    session: Any
    device: torch.device
    queue: Stream | None = None
    """The stream that the session enqueues on, on a GPU; callers' streams wait for it and it for them, the host for neither."""
    graphs: bool = False
    """Whether each binding records a CUDA graph."""
    captures: int = 0
    _bound: int = field(default=0, init=False)

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Feeds that lie on the device, in the plain layout, are not copied; nor are results into an ``out`` of that kind."""
        rows = len(next(iter(feeds.values())))
        with on_stream(stream):
            inputs = {
                each.name: feeds[each.name].detach().to(self.device, non_blocking=True).contiguous() for each in self.spec.inputs
            }
            results = {each.name: self._target(each, rows, out) for each in self.spec.outputs}
            self._enqueue(self._binding(inputs, results), None)
            if out is None:
                return results
            for name, value in results.items():
                if value is not out[name]:
                    out[name].copy_(value)
            return out

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """One binding for all replays; on a GPU, where the batch is static, one CUDA graph that is recorded now."""
        lie_on(self.device, feeds, outs, self.spec.name)
        for name, value in (*feeds.items(), *outs.items()):
            if not value.is_contiguous():
                raise FeedError(f"{name!r} of engine {self.spec.name!r} is bound in the plain layout; make it contiguous")
        binding = self._binding(feeds, outs)
        self._bound += 1
        replay = partial(self._replay, binding, self._bound if self.graphs else None, (feeds, outs))
        if self.graphs:
            for _ in range(WARM_UPS):
                replay()
            self.captures += 1
        return replay

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """A session's weights are fixed."""
        raise NotRefittableError(self.spec.name, "an ONNX Runtime session keeps the weights it was opened with")

    def close(self) -> None:
        """Drop the session; its memory is free when no binding is left."""
        self.session = None

    def _target(self, each: TensorSpec, rows: int, out: Mapping[str, Tensor] | None) -> Tensor:
        given = None if out is None else out[each.name]
        if given is not None and given.is_contiguous() and given.device.type == self.device.type:
            return given
        return torch.empty((rows, *each.row), dtype=TORCH_TYPES[each.dtype], device=self.device)

    def _binding(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Any:
        binding = self.session.io_binding()
        where = (self.device.type, self.device.index or 0)
        for each in self.spec.inputs:
            value = feeds[each.name]
            binding.bind_input(each.name, *where, ELEMENTS[each.dtype], list(value.shape), value.data_ptr())
        for each in self.spec.outputs:
            value = outs[each.name]
            binding.bind_output(each.name, *where, ELEMENTS[each.dtype], list(value.shape), value.data_ptr())
        return binding

    def _replay(self, binding: Any, graph: int | None, _: object) -> None:
        """The last argument holds the tensors whose addresses are bound."""
        self._enqueue(binding, graph)

    def _enqueue(self, binding: Any, graph: int | None) -> None:
        if self.session is None:
            raise ExecutionError(f"engine {self.spec.name!r} was closed, and so were its replays")
        try:
            if self.queue is None:
                self.session.run_with_iobinding(binding)
                return
            caller = torch.cuda.current_stream(self.device)
            self.queue.wait_stream(caller)
            self.session.run_with_iobinding(binding, _options(graph))
            caller.wait_stream(self.queue)
        except Exception as error:  # the runtime's exceptions share no base class
            raise ExecutionError(f"ONNX Runtime does not run engine {self.spec.name!r}: {error}") from error


def _options(graph: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    for entry, value in run_entries(graph).items():
        options.add_run_config_entry(entry, value)
    return options

"""New weights for an engine: by the names of the graph's initialisers, in the types it was built with, without waiting for the host."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from engines.backends.trt.api import Refitter
from engines.backends.trt.device import Queue
from engines.backends.trt.graph import GraphWeights
from engines.backends.trt.messages import said
from engines.backends.trt.opening import Opened, torch_types
from engines.errors import NotRefittableError
from engines.graphs.weights import WEIGHTS, read_weight_map

Expand = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Parameters to initialisers.  Raises KeyError for a parameter that no initialiser holds, ValueError where initialisers are unknown."""

Original = Callable[[str], Tensor]
"""An initialiser of the graph.  Raises KeyError."""


class Weights:
    """The refittable weights of an engine.

    Where the builder merged weights, all of the merged ones must be given: those that were never replaced are taken from the graph.
    Replaced ones stay in buffers on the device, which the vendor reads again at every refit.
    """

    def __init__(self, name: str, opened: Opened, device: torch.device, expand: Expand, original: Original) -> None:
        self._name, self._opened, self._device = name, opened, device
        self._expand, self._original = expand, original
        self._refitter: Refitter | None = None
        self._buffers: dict[str, Tensor] = {}

    def replace(self, weights: Mapping[str, Tensor], queue: Queue) -> None:
        """Parameters by name, on a stream that is current and has nothing of this engine before it.  Raises NotRefittableError."""
        try:
            initialisers = self._expand(weights)
        except KeyError as error:
            raise NotRefittableError(self._name, f"the graph has no weights of {error.args[0]!r}") from error
        except (ValueError, OSError) as error:
            raise NotRefittableError(self._name, str(error)) from error
        self._set(initialisers, queue)

    def complete(self, queue: Queue) -> None:
        """Give a plan that was stored without weights those of its graph, and wait, so that nothing is kept of them."""
        self._set({}, queue)
        queue.synchronize()
        self.close()

    def _set(self, initialisers: Mapping[str, Tensor], queue: Queue) -> None:
        refitter = self._refitter = self._refitter or self._opened.library.trt.Refitter(
            self._opened.engine, self._opened.library.heard
        )
        self._opened.library.heard.errors.clear()
        for name, value in initialisers.items():
            self._check(refitter.get_weights_prototype(name).size, name, value)
        for name, value in initialisers.items():  # only when all of them fit: what is put is used by the next refit
            self._put(refitter, name, value)
        for name in refitter.get_missing_weights():
            self._put(refitter, name, self._known(name))
        if not refitter.refit_cuda_engine_async(queue.cuda_stream):
            raise NotRefittableError(self._name, f"TensorRT refuses the weights ({said(self._opened.library.heard.errors)})")

    def close(self) -> None:
        """Give the buffers back."""
        refitter, self._refitter = self._refitter, None
        if refitter is not None and hasattr(refitter, "release_refit_resources"):
            refitter.release_refit_resources()
        self._buffers.clear()

    def _check(self, size: int, name: str, value: Tensor) -> None:
        if size != value.numel():
            why = "are folded into the plan" if size < 0 else f"have {size} numbers in the plan, {value.numel()} were given"
            raise NotRefittableError(self._name, f"the weights {name!r} {why}")

    def _put(self, refitter: Refitter, name: str, value: Tensor) -> None:
        buffer = self._buffers.get(name)
        if buffer is not None:
            buffer.copy_(value, non_blocking=True)
            return
        trt, kind = self._opened.library.trt, refitter.get_weights_prototype(name).dtype
        buffer = torch.empty(value.shape, dtype=torch_types(trt)[kind], device=self._device).copy_(value, non_blocking=True)
        if not refitter.set_named_weights(name, trt.Weights(kind, buffer.data_ptr(), buffer.numel()), trt.TensorLocation.DEVICE):
            raise NotRefittableError(self._name, f"TensorRT refuses {name!r} ({said(self._opened.library.heard.errors)})")
        self._buffers[name] = buffer

    def _known(self, name: str) -> Tensor:
        try:
            return self._original(name)
        except KeyError as error:
            raise NotRefittableError(
                self._name, f"the weights {name!r} were merged with others and are not in the graph"
            ) from error


def weights_of(name: str, opened: Opened, device: torch.device, folder: Path, graph: Path) -> Weights:
    """Of a plan in a folder, by the map beside it and the graph it came from; nothing is read before it is needed."""

    def expand(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return read_weight_map(folder / WEIGHTS).arrays(weights)

    return Weights(name, opened, device, expand, GraphWeights(graph))

"""Outputs of another model on the audited server, asked read-only over the same connection."""

from collections.abc import Callable, Sequence

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from audit_plugin.core.errors import TargetError, TargetOutputError
from audit_plugin.core.seeds import digest
from audit_plugin.target.wire import Wire

_BATCH = 16


class ServedRows:
    """Float32 pictures (n 3 h w) -> what one output of a model says of each.  Raises TargetError for pictures of another size than it takes."""

    def __init__(self, wire: Wire, model: str) -> None:
        self._wire, self._model = wire, model
        told = wire.call("get_model_metadata", model, as_json=True)
        inputs = [(each["name"], each["datatype"]) for each in told.get("inputs", [])]
        if len(inputs) != 1 or inputs[0][1] != "FP32":
            raise TargetError(f"model {model!r} takes {inputs}; a feature network takes one batch of FP32 pictures")
        self._input = inputs[0][0]
        self._shape = [int(side) for side in told["inputs"][0].get("shape", [])][-2:]
        self.outputs: Sequence[str] = [each["name"] for each in told.get("outputs", [])]
        self.identity = digest("served", model, repr(sorted(told.get("versions", []))), repr(inputs), repr(self.outputs))
        """Changes with the versions that the server lists."""

    def of(self, output: str) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
        """Asks for one output."""

        def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.concatenate([self._ask(images[at : at + _BATCH], output) for at in range(0, len(images), _BATCH)])

        return run

    def _ask(self, images: NDArray[np.float32], output: str) -> NDArray[np.float64]:
        if any(want not in {-1, got} for want, got in zip(self._shape, images.shape[2:], strict=True)):
            raise TargetError(
                f"model {self._model!r} takes pictures of {tuple(self._shape)}, not {images.shape[2:]}; set the network's `size`"
            )
        tensor = triton.InferInput(self._input, list(images.shape), "FP32")
        tensor.set_data_from_numpy(np.ascontiguousarray(images, np.float32))
        result = self._wire.call("infer", self._model, [tensor], outputs=[triton.InferRequestedOutput(output)])
        rows = result.as_numpy(output)
        if rows is None or len(rows) != len(images):
            raise TargetOutputError(f"model {self._model!r} did not answer one row of {output!r} per picture")
        return np.asarray(rows, np.float64)

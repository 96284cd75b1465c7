"""Triton Python-backend model: runs the ``model.onnx`` beside it with ONNX Runtime on one CPU thread.

Input and output names come from the model's configuration; requests that the dynamic batcher put together are run as one batch.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the server provides it


class TritonPythonModel:
    """One instance of the served classifier."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the network of this version and remember what the configuration declares."""
        config = json.loads(args["model_config"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests with one run; a failing run answers each of them with the reason."""
        try:
            return self._answer(requests)
        except Exception as error:  # noqa: BLE001  # whatever the network raises is the caller's answer
            failure = pb_utils.TritonError(f"{type(error).__name__}: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]

    def _answer(self, requests: list[Any]) -> list[Any]:
        parts = [[pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs] for request in requests]
        feed = {name: np.concatenate(column) for name, column in zip(self.inputs, zip(*parts, strict=True), strict=True)}
        results = dict(zip(self.outputs, self.session.run(self.outputs, feed), strict=True))
        answers, start = [], 0
        for request, arrays in zip(requests, parts, strict=True):
            stop = start + len(arrays[0])
            wanted = [name for name in self.outputs if name in request.requested_output_names()]
            answers.append(pb_utils.InferenceResponse([_tensor(name, results[name][start:stop]) for name in wanted]))
            start = stop
        return answers


def _tensor(name: str, rows: np.ndarray) -> Any:
    """Rows as an output tensor; one number per image becomes a column, because Triton's dims leave the batch axis out."""
    return pb_utils.Tensor(name, rows[:, None] if rows.ndim == 1 else rows)

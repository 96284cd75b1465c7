"""Triton Python-backend model: runs the ``model.onnx`` beside it with ONNX Runtime, for servers without the ONNX backend.

Without the graph the model is ready but refuses every request, so that a repository kept without its weights can be served.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the server provides it

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
MISSING = "the weights of {name} are not in this repository; `audit-plugin engines export-triton --repo DIR` writes them"


class TritonPythonModel:
    """One instance of a served network."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph of this version."""
        config = json.loads(args["model_config"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.missing = None if graph.is_file() else MISSING.format(name=config["name"])
        if self.missing is None:
            self.session = open_session(graph, PROVIDERS[config["parameters"]["device"]["string_value"]])
        else:
            pb_utils.Logger.log_warn(self.missing)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests with one run; a failing run answers each of them with the reason."""
        try:
            return self._answer(requests)
        except Exception as error:  # noqa: BLE001  # whatever the runtime raises is the caller's answer
            failure = pb_utils.TritonError(f"{type(error).__name__}: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]

    def _answer(self, requests: list[Any]) -> list[Any]:
        if self.missing is not None:
            raise FileNotFoundError(self.missing)
        parts = [[pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs] for request in requests]
        feed = {name: np.concatenate(column) for name, column in zip(self.inputs, zip(*parts, strict=True), strict=True)}
        results = self.session.run(self.outputs, feed)
        answers, start = [], 0
        for request, arrays in zip(requests, parts, strict=True):
            rows = slice(start, start := start + len(arrays[0]))
            wanted = request.requested_output_names()
            tensors = [
                pb_utils.Tensor(name, value[rows]) for name, value in zip(self.outputs, results, strict=True) if name in wanted
            ]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers


def open_session(graph: Path, provider: str) -> Any:
    """The runtime falls back to the CPU silently, so what it uses is compared with what was asked."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} was asked for, but the session runs on {session.get_providers()[0]}")
    return session

"""The border to the server: calls from one served model to another, tensors as arrays.  Imported inside Triton's Python backend only."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the server provides it
from numpy.typing import NDArray

from .plan import RequestError

Array = Any
MISSING = "{path} is not in this repository; `audit-plugin engines export-triton --repo DIR` writes it"


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """How arrays are made and handed over; everything else is done with operators that NumPy and torch share."""

    read: Callable[[Any], Array]
    """From a tensor of the server."""
    write: Callable[[str, Array], Any]
    """To a tensor of the server."""
    place: Callable[[NDArray[Any]], Array]
    host: Callable[[Array], NDArray[Any]]
    join: Callable[[list[Array]], Array]
    options: Mapping[str, Any]
    """Of every call to another model."""


def arrays_for(device: str) -> Arrays:
    """NumPy on a CPU; on a GPU torch, which takes the server's tensors by DLPack without a copy and leaves them there."""
    if device == "cpu":
        return Arrays(
            read=lambda tensor: tensor.as_numpy().copy(),  # the server reuses its memory
            write=lambda name, value: pb_utils.Tensor(name, np.ascontiguousarray(value)),
            place=np.asarray,
            host=np.asarray,
            join=np.concatenate,
            options=_in_memory(pb_utils.TRITONSERVER_MEMORY_CPU),
        )
    import torch.utils.dlpack

    return Arrays(
        read=lambda tensor: torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).to(device),
        write=lambda name, value: pb_utils.Tensor.from_dlpack(name, torch.as_tensor(value).contiguous()),
        place=lambda value: torch.from_numpy(np.ascontiguousarray(value)).to(device),
        host=lambda value: value.cpu().numpy(),
        join=torch.cat,
        options=_in_memory(pb_utils.TRITONSERVER_MEMORY_GPU),
    )


@dataclass(frozen=True)
class Models:
    """Models of the same server, called by name."""

    arrays: Arrays
    rows: int
    """Most rows of a call: larger batches are cut."""

    def call(self, model: str, feeds: Mapping[str, Array], output: str) -> Array:
        """One output for all rows of the feeds; a number per row goes as a column, as Triton has no rows of no axes."""
        feeds = {name: value.reshape(-1, 1) if value.ndim == 1 else value for name, value in feeds.items()}
        total = len(next(iter(feeds.values())))
        cuts = (slice(start, start + self.rows) for start in range(0, total, self.rows))
        parts = [run(model, {name: value[cut] for name, value in feeds.items()}, [output], self.arrays)[output] for cut in cuts]
        return parts[0] if len(parts) == 1 else self.join(parts)

    def host(self, value: Array) -> NDArray[Any]:
        """An array on the host."""
        return self.arrays.host(value)

    def place(self, value: NDArray[Any]) -> Array:
        """An array of the host where the others are."""
        return self.arrays.place(value)

    def join(self, parts: list[Array]) -> Array:
        """Rows of all parts."""
        return self.arrays.join(parts)


@dataclass(frozen=True)
class Request:
    """Inputs of a request; every one may be absent."""

    request: Any
    arrays: Arrays

    def tensor(self, name: str) -> Any | None:
        """As the server hands it over."""
        return pb_utils.get_input_tensor_by_name(self.request, name)

    def array(self, name: str) -> Array | None:
        """Numbers where the loop's arrays are."""
        tensor = self.tensor(name)
        return None if tensor is None else self.arrays.read(tensor)

    def host(self, name: str) -> NDArray[Any] | None:
        """Numbers on the host."""
        tensor = self.tensor(name)
        if tensor is None:
            return None
        found: NDArray[Any] = tensor.as_numpy() if tensor.is_cpu() else self.arrays.host(self.arrays.read(tensor))
        return found

    def text(self, name: str) -> str:
        """The first of a tensor's strings; empty when absent."""
        values = self.host(name)
        return "" if values is None or values.size == 0 else str(values.reshape(-1)[0].decode())


def run(model: str, feeds: Mapping[str, Any], outputs: Sequence[str], arrays: Arrays) -> dict[str, Array]:
    """Call a model of the same server; its error is raised with its name."""
    inputs = [_tensor(name, value, arrays) for name, value in feeds.items()]
    request = pb_utils.InferenceRequest(model_name=model, requested_output_names=list(outputs), inputs=inputs, **arrays.options)
    response = request.exec()
    if response.has_error():
        raise RuntimeError(f"model {model!r} answers: {response.error().message()}")
    return {name: arrays.read(pb_utils.get_output_tensor_by_name(response, name)) for name in outputs}


def answer_each(requests: list[Any], answer: Callable[[Any], Mapping[str, Any]], arrays: Arrays) -> list[Any]:
    """One response per request; what fails is answered with the reason and concerns nobody else."""
    return [_response(request, answer, arrays) for request in requests]


def refuse_each(requests: list[Any]) -> list[Any]:
    """Answers of a model whose settings are missing."""
    error = pb_utils.TritonError(MISSING.format(path="what this model draws with"))
    return [pb_utils.InferenceResponse(error=error) for _ in requests]


def settings_of(args: Mapping[str, str], name: str) -> Any:
    """A JSON file of the served version; None where the repository is kept without what an export adds."""
    path = version_directory(args) / name
    if not path.is_file():
        pb_utils.Logger.log_warn(MISSING.format(path=path))
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def version_directory(args: Mapping[str, str]) -> Path:
    """Where the files of the served version lie."""
    return Path(args["model_repository"]) / args["model_version"]


def _response(request: Any, answer: Callable[[Any], Mapping[str, Any]], arrays: Arrays) -> Any:
    try:
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [_tensor(name, value, arrays) for name, value in answer(request).items() if name in wanted]
        )
    except RequestError as error:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
    except Exception as error:  # noqa: BLE001  # whatever fails is the caller's answer
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"))


def _tensor(name: str, value: Any, arrays: Arrays) -> Any:
    if isinstance(value, str):
        return pb_utils.Tensor(name, np.array([value.encode()], dtype=np.object_))
    return pb_utils.Tensor(name, value) if isinstance(value, np.ndarray) else arrays.write(name, value)


def _in_memory(kind: Any) -> dict[str, Any]:
    return {"preferred_memory": pb_utils.PreferredMemory(kind, 0)}

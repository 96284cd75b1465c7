"""ONNX graphs that a user supplies for judging pictures: opened on the CPU, their cards read, their files told apart by digest."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.perception.resizing import resize

T = TypeVar("T")


def cpu_session(path: Path, *, threads: int = 0) -> Any:
    """An ONNX Runtime session on the file; ``threads`` = 0 leaves their number to the library.  Raises DetectorError."""
    if not path.is_file():
        raise DetectorError(f"{str(path)!r} is not there; put the ONNX graph there, or correct the configuration")
    try:
        import onnxruntime
    except ImportError as error:
        raise DetectorError("judging pictures needs onnxruntime; install the 'cpu' or 'gpu' extra") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise DetectorError(f"{str(path)!r} is no ONNX graph that can be run: {error}") from error


def answer(session: Any, outputs: list[str], inputs: Mapping[str, NDArray[Any]], what: str) -> list[NDArray[Any]]:
    """What a graph computes.  Raises DetectorError that names ``what`` failed."""
    try:
        return list(session.run(outputs, dict(inputs)))
    except Exception as error:  # onnxruntime's errors share no base class
        raise DetectorError(f"{what} could not be computed: {' '.join(str(error).split())}; check the graph's inputs") from error


def card(kind: type[T], path: Path) -> T:
    """The dataclass that a JSON file beside a graph describes; unknown keys are errors.  Raises DetectorError."""
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    try:
        return adapter.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'card'}: {one['msg']}" for one in error.errors())
        raise DetectorError(f"card {str(path)!r}: {wrong}") from error
    except (OSError, ValueError) as error:
        raise DetectorError(f"card {str(path)!r} cannot be read: {error}; write one as docs/concept-trees.md shows") from error


def files_digest(paths: Iterable[Path]) -> str:
    """Of names and bytes."""
    told = []
    for path in sorted(paths):
        try:
            with path.open("rb") as file:
                told += [path.name, hashlib.file_digest(file, "sha256").hexdigest()]
        except OSError as error:
            raise DetectorError(f"{str(path)!r} cannot be read: {error}") from error
    return digest("files", *told)


def standardised(images: Images, size: int, mean: Iterable[float], std: Iterable[float]) -> Images:
    """The centre squares of images ``(n, 3, h, w)`` in [0, 1] as ``(n, 3, size, size)``, less the mean, by the deviation."""
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    small = resize(np.asarray(images[:, :, top : top + side, left : left + side], np.float32), size)
    shift, scale = (np.asarray(tuple(values), np.float32)[:, None, None] for values in (mean, std))
    return np.ascontiguousarray((small - shift) / scale, np.float32)


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of length 1."""
    rows = np.asarray(vectors, np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))

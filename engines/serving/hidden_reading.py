"""A classifier's ONNX file as it is examined and extended: read, opened, and fed noise.  Needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ExportError

OLDEST_OPSET = 7
"""ONNX Runtime promises nothing for older graphs."""
IMAGES = 3
"""Of noise; a batch and a smaller one tell which axis counts images."""
_ARRAYS: Mapping[int, type[np.generic]] = {1: np.float32, 2: np.uint8, 10: np.float16, 11: np.float64}
"""Types of images, by ONNX's number of an element type."""


def read_graph(path: Path) -> Any:
    """The file as onnx's ModelProto, weights that lie beside it included.  Raises ExportError."""
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # onnx's and protobuf's errors share no base class
        raise ExportError(f"{path} cannot be read as an ONNX graph: {error}") from error
    if opset_of(model) < OLDEST_OPSET:
        raise ExportError(f"{path} is of opset {opset_of(model)}; export it with opset {OLDEST_OPSET} or newer")
    image_input(model.graph, path)
    return model


def opset_of(model: Any) -> int:
    """Version of ONNX's own operators; 1 where the file names none, as the format has it."""
    return next((int(each.version) for each in model.opset_import if each.domain in {"", "ai.onnx"}), 1)


def image_input(graph: Any, path: Path) -> Any:
    """The one input that is no weight.  Raises ExportError where it takes no batch of images."""
    weights = {each.name for each in graph.initializer}
    found = [each for each in graph.input if each.name not in weights]
    if len(found) != 1:
        raise ExportError(f"{path} has {len(found)} inputs; a classifier takes one batch of images")
    kind, sizes = found[0].type.tensor_type, shape_of(found[0])
    if kind.elem_type not in _ARRAYS or len(sizes) != 4 or (sizes[0] or 1) != 1:
        raise ExportError(
            f"{path} takes {list(sizes)} of ONNX's type {kind.elem_type}; needed are images of four axes, floats or uint8, with a free "
            "batch or a batch of 1"
        )
    return found[0]


def shape_of(value: Any) -> tuple[int | None, ...]:
    """Sizes of an input or output; None for a free one."""
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)


def noise(graph: Any, path: Path, size: tuple[int, int] | None) -> NDArray[np.generic]:
    """Images as the graph takes them, in [0, 1] or 0..255: :data:`IMAGES`, or the one of a batch that is fixed.

    ``size`` is height and width where the graph leaves them free.
    """
    source = image_input(graph, path)
    rows, *sizes = shape_of(source)
    last = sizes[0] not in {1, 3} and sizes[2] in {1, 3}
    free = [*(size or (None, None)), 3] if last else [3, *(size or (None, None))]
    filled = [given or default for given, default in zip(sizes, free, strict=True)]
    if None in filled:
        raise ExportError(f"{path} leaves the size of images free; say which, as `preprocess.size` of the model")
    kind = _ARRAYS[source.type.tensor_type.elem_type]
    values = np.random.default_rng(0).random((rows or IMAGES, *map(int, filter(None, filled))))
    return (np.rint(values * 255) if kind is np.uint8 else values).astype(kind)


def answers(model: bytes, images: NDArray[np.generic], path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Outputs by name (all unless ``names`` says otherwise), by ONNX Runtime on the CPU.  Raises ExportError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        wanted = list(names or (each.name for each in session.get_outputs()))
        found = session.run(wanted, {session.get_inputs()[0].name: images})
    except Exception as error:  # ONNX Runtime has no common class of its own errors
        raise ExportError(f"ONNX Runtime {onnxruntime.__version__} does not run {path}: {error}") from error
    return dict(zip(wanted, found, strict=True))


def serialised(model: Any, path: Path) -> bytes:
    """The file's bytes.  Raises ExportError for more than one protobuf holds."""
    try:
        written: bytes = model.SerializeToString()
    except Exception as error:  # protobuf's implementations raise different classes
        raise ExportError(f"{path} has more weights than fit one ONNX file (2 GiB) and cannot be extended") from error
    return written

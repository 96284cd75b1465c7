"""Writes ONNX classifiers into a Triton model repository.

REPOSITORY/NAME/config.pbtxt, labels.txt, VERSION/model.onnx, VERSION/model.py
"""

import json
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from audit_plugin.core.errors import ConfigError

_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(double)": "TYPE_FP64",
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(string)": "TYPE_STRING",
    "tensor(uint8)": "TYPE_UINT8",
}
Ports = Sequence[tuple[str, str, Sequence[int | str | None]]]
"""Name, ONNX type and shape of every input or output."""


def write_model(repo: Path, name: str, onnx_path: Path, labels: Sequence[str], *, version: int = 1, max_batch: int = 64) -> Path:
    """Add one version of an ONNX classifier to ``repo`` and return the model's directory.

    The network must have a dynamic batch axis in front of every input and output, or a batch fixed at 1 in front of all: it is then asked
    for one image at a time, without the server's batching.  It may have several outputs, such as probabilities and logits.  Other
    versions of the model stay; the configuration is written anew.

    Raises:
        ConfigError: the name, the labels or the network cannot be served.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"model name {name!r} must consist of letters, digits, '_', '-' and '.'; rename the model")
    if not labels or len(set(labels)) != len(labels) or any(not label or "\n" in label for label in labels):
        raise ConfigError(f"labels of model {name!r} must be different, non-empty lines, got {list(labels)}")
    inputs, outputs = _ports(Path(onnx_path))
    directory = Path(repo) / name
    place = directory / str(version)
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(onnx_path, place / "model.onnx")
    (place / "model.py").write_text(_resource("onnx_model.py"))
    (directory / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    (directory / "config.pbtxt").write_text(_config(name, inputs, outputs, labels, version=version, max_batch=max_batch))
    return directory


def _config(name: str, inputs: Ports, outputs: Ports, labels: Sequence[str], *, version: int, max_batch: int) -> str:
    single = all(list(shape[:1]) == [1] for _, _, shape in (*inputs, *outputs))
    return Template(_resource("config.pbtxt")).substitute(
        name=name,
        version=version,
        max_batch=0 if single else max_batch,
        inputs=",\n".join(_entry(port, single=single) for port in inputs),
        outputs=",\n".join(_entry(port, len(labels), single=single) for port in outputs),
        batching="" if single else _resource("batching.pbtxt"),
        labels=json.dumps(json.dumps(list(labels))),
    )


def _entry(port: tuple[str, str, Sequence[int | str | None]], classes: int | None = None, *, single: bool = False) -> str:
    """One input or output of the configuration; an output with one number per class names the label file."""
    name, kind, shape = port
    if kind not in _TYPES:
        raise ConfigError(f"{name!r} of the ONNX model is a {kind}, which cannot be served; use one of {', '.join(sorted(_TYPES))}")
    if not shape or (isinstance(shape[0], int) and not single):
        raise ConfigError(
            f"{name!r} of the ONNX model has no dynamic batch axis in front (shape {list(shape)}); export it with one"
        )
    dims = [size if isinstance(size, int) else -1 for size in (shape if single else shape[1:])] or [1]
    labels = ', label_filename: "labels.txt"' if dims[single:] == [classes] else ""
    return f'  {{ name: "{name}", data_type: {_TYPES[kind]}, dims: {dims}{labels} }}'


def _ports(onnx_path: Path) -> tuple[Ports, Ports]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(onnx_path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common class of its own errors
        raise ConfigError(f"{onnx_path} is not an ONNX model that ONNX Runtime can open: {error}") from error
    inputs, outputs = (
        [(port.name, port.type, port.shape) for port in ports] for ports in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs


def _resource(name: str) -> str:
    return (files("audit_plugin.demo") / "serving" / name).read_text()

"""What a model was sent, or answered: Open Inference Protocol as JSON or with binary tensors, and the older ``instances``.

Declared shapes are compared with the data that is there before an array is made; nothing is believed about a length that the bytes do not
bear out.
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.capture.events import Event, malformed, parse_json, unsupported
from audit_plugin.core.errors import CaptureError

TYPES: Mapping[str, str] = {
    "UINT8": "<u1",
    "INT8": "<i1",
    "UINT16": "<u2",
    "INT16": "<i2",
    "UINT32": "<u4",
    "INT32": "<i4",
    "UINT64": "<u8",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Tensor types that hold numbers of pictures or scores, as the protocol writes them."""
_AXES = 8
_HEADER_BYTES = 1024 * 1024
"""Longest JSON before binary tensors that is looked for where its length is not known."""
_TENSORS = 64


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input or output: declared, and backed by data, but not yet read."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """As declared."""
    data: Any
    """JSON values, or bytes of a binary tensor."""

    @property
    def size(self) -> int:
        """Declared number of elements."""
        return math.prod(self.shape)

    def numbers(self, most: int) -> NDArray[Any]:
        """The values in the declared shape, uint8 for tensors of that type; no more than ``most``.  Raises CaptureError."""
        kind = TYPES.get(self.datatype)
        if kind is None:
            raise unsupported(
                f"tensor {self.name!r} is of type {self.datatype!r}; read are {', '.join(TYPES)} and BYTES", status=422
            )
        if self.size > most:
            raise unsupported(f"tensor {self.name!r} has {self.size} values, more than {most}", status=422)
        if isinstance(self.data, bytes):
            if len(self.data) != self.size * np.dtype(kind).itemsize:
                raise malformed(f"tensor {self.name!r} of {self._declared} has {len(self.data)} bytes")
            flat: NDArray[Any] = np.frombuffer(self.data, kind)
        else:
            flat = _numbers(self.data, self.name)
            if flat.size != self.size:
                raise malformed(f"tensor {self.name!r} of {self._declared} has {flat.size} values")
        values = flat.reshape(self.shape)
        if not np.isfinite(values).all():
            raise malformed(f"tensor {self.name!r} holds NaN or infinity")
        if self.datatype != "UINT8" or values.dtype == np.uint8:
            return values
        if values.size and not 0 <= values.min() <= values.max() <= 255:
            raise malformed(f"tensor {self.name!r} of {self._declared} has values beyond 0 to 255")
        return values.astype(np.uint8)

    def pieces(self, most: int) -> list[bytes]:
        """The elements of a tensor of type BYTES; no more than ``most``.  Raises CaptureError."""
        if self.size > most:
            raise unsupported(f"tensor {self.name!r} has {self.size} elements, more than {most}", status=422)
        found = list(_lengths_and_bytes(self.data, self.name) if isinstance(self.data, bytes) else _texts(self.data, self.name))
        if len(found) != self.size:
            raise malformed(f"tensor {self.name!r} of {self._declared} has {len(found)} elements")
        return found

    @property
    def _declared(self) -> str:
        return f"type {self.datatype} and shape {list(self.shape)}"


@dataclass(frozen=True, kw_only=True)
class Inference:
    """The body of a request or of an answer."""

    model: str
    """As the body names it; empty in most requests."""
    version: str
    tensors: tuple[Tensor, ...]
    instances: Sequence[Any] | None
    """The older protocol's ``instances`` or ``predictions``; then there are no tensors."""
    audit: bool
    """Whether it says that it is an audit's own."""

    def tensor(self, name: str | None) -> Tensor:
        """By name, or the only one.  Raises CaptureError."""
        found = [one for one in self.tensors if name is None or one.name == name]
        if len(found) != 1:
            names = ", ".join(repr(one.name) for one in self.tensors) or "none"
            raise malformed(f"the body has the tensors {names}; expected {'only one' if name is None else repr(name)}")
        return found[0]


def read_inference(event: Event) -> Inference:
    """The body of an event.  Raises CaptureError."""
    document, rest = _split(event)
    if not isinstance(document, dict):
        raise malformed("the inference body is not a JSON object")
    older = document.get("instances" if event.kind == "request" else "predictions")
    listed = document.get("inputs" if event.kind == "request" else "outputs")
    if isinstance(older, list) and listed is None:
        return Inference(model="", version="", tensors=(), instances=older, audit=False)
    if not isinstance(listed, list) or not 0 < len(listed) <= _TENSORS:
        raise malformed("the inference body has no list of `inputs` or `outputs`, nor of `instances` or `predictions`")
    parameters, model, version = (document.get(key) for key in ("parameters", "model_name", "model_version"))
    return Inference(
        model=model if isinstance(model, str) and len(model) <= _HEADER_BYTES // 1024 else "",
        version=str(version)[:32] if isinstance(version, (str, int)) and str(version)[:32].isprintable() else "",
        tensors=_tensors(listed, rest),
        instances=None,
        audit=isinstance(parameters, dict) and str(parameters.get("bias-ignore")).lower() == "true",
    )


def _split(event: Event) -> tuple[Any, bytes]:
    """The JSON document and the bytes behind it.  Answers do not say how long the JSON is, for the logger notes headers of requests only."""
    if event.header_bytes is not None:
        return parse_json(event.data[: event.header_bytes], "the JSON of the inference body"), event.data[event.header_bytes :]
    try:
        return parse_json(event.data, "the inference body"), b""
    except CaptureError:
        start = event.data[:_HEADER_BYTES].decode("latin-1")
        try:
            end = json.JSONDecoder().raw_decode(start)[1]
        except (ValueError, RecursionError):
            end = 0
        if not end:
            raise
        return parse_json(event.data[:end], "the JSON of the inference body"), event.data[end:]


def _tensors(listed: Sequence[Any], rest: bytes) -> tuple[Tensor, ...]:
    tensors, at = [], 0
    for one in listed:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not isinstance(one.get("datatype"), str):
            raise malformed("each tensor needs a `name`, a `datatype` and a `shape`")
        parameters = one.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            data = one.get("data")
            if not isinstance(data, list):
                raise malformed(f"tensor {one['name'][:60]!r} has no list of `data` and no `binary_data_size`")
        elif isinstance(size, int) and 0 <= size <= len(rest) - at:
            data, at = rest[at : at + size], at + size
        else:
            raise malformed(f"tensor {one['name'][:60]!r}: `binary_data_size` exceeds the {len(rest) - at} bytes that are left")
        tensors.append(Tensor(name=one["name"][:60], datatype=one["datatype"][:20], shape=_shape(one.get("shape")), data=data))
    if at != len(rest):
        raise malformed(f"{len(rest) - at} bytes behind the tensors belong to none")
    return tuple(tensors)


def _shape(value: Any) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or len(value) > _AXES
        or not all(isinstance(axis, int) and not isinstance(axis, bool) and 0 <= axis < 2**31 for axis in value)
    ):
        raise malformed(f"`shape` of a tensor must be a list of at most {_AXES} whole numbers")
    return tuple(value)


def _numbers(data: Any, name: str) -> NDArray[np.float64]:
    """JSON numbers, nested or flat, in their order.  The type is given, so that texts among them cannot make an array of long texts."""
    try:
        return np.array(data, dtype=np.float64).ravel()
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise malformed(f"`data` of tensor {name!r} must be numbers, in rows of equal length") from error


def _lengths_and_bytes(data: bytes, name: str) -> Iterator[bytes]:
    """Elements of a binary tensor of type BYTES: four bytes of length, little-endian, before each."""
    at = 0
    while at < len(data):
        length = struct.unpack_from("<I", data, at)[0] if at + 4 <= len(data) else len(data)
        if length > len(data) - at - 4:
            raise malformed(f"an element of tensor {name!r} is longer than the data")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _texts(data: Sequence[Any], name: str) -> Iterator[bytes]:
    for one in data:
        if isinstance(one, list):
            yield from _texts_of(one, name)
        else:
            yield _text(one, name)


def _texts_of(row: Sequence[Any], name: str) -> Iterator[bytes]:
    """One further level, for texts of shape (n, 1)."""
    for one in row:
        yield _text(one, name)


def _text(one: Any, name: str) -> bytes:
    if not isinstance(one, str):
        raise malformed(f"`data` of tensor {name!r} must be texts")
    return one.encode("utf-8", errors="replace")


def from_base64(text: bytes) -> bytes | None:
    """The bytes of a base64 text, in lines or not; None where it is none."""
    try:
        return base64.b64decode(text.translate(None, b" \r\n\t"), validate=True)
    except (ValueError, binascii.Error):
        return None

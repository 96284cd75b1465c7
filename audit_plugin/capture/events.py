"""CloudEvents 1.0 of an inference logger (KServe's attributes), in binary and in structured mode.

Only the envelope is read here, and of it what is used: the sender's clock is not, since how long a picture is kept hangs on ours.
What the model was sent, or answered, is read by ``payload``.  KServe gives a request and its answer the same id, and both the content
type and the listed headers of the request.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from audit_plugin.core.errors import CaptureError

STRUCTURED = "application/cloudevents+json"
LENGTH_HEADER = "inference-header-content-length"
AUDIT_HEADER = "x-audit-plugin"
"""Sent with every request of an audit; operators list it in the logger's ``metadataHeaders``."""
_KINDS: Mapping[str, Literal["request", "response"]] = {
    "org.kubeflow.serving.inference.request": "request",
    "org.kubeflow.serving.inference.response": "response",
}
_LONGEST = 300
"""Characters of an attribute that is used."""
_PARTS = 500_000
"""Most lists and objects of a JSON document."""
_TYPES = ("application/json", "application/octet-stream", "")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One inference event; what its sender says of itself is checked for form, not for truth."""

    id: str
    """Shared by a request and its answer."""
    kind: Literal["request", "response"]
    service: str
    """InferenceService of KServe; empty where the sender names none."""
    model: str
    """Named by our own client middleware; empty from KServe."""
    version: str
    data: bytes
    """The inference protocol's body."""
    header_bytes: int | None
    """Length of the JSON before binary tensors, where it is known."""
    audit: bool
    """Whether it is a request of an audit."""


def malformed(why: str) -> CaptureError:
    """The refusal of something that contradicts itself, or the protocol."""
    return CaptureError("malformed", why)


def _no_event(why: str) -> CaptureError:
    return malformed(f"{why}; send CloudEvents 1.0 as KServe's inference logger does")


def unsupported(why: str, *, status: int = 415) -> CaptureError:
    """The refusal of something that may be right but is not read here."""
    return CaptureError("unsupported", why, status=status)


def read_event(headers: Mapping[str, str], body: bytes) -> Event:
    """The event of an HTTP request; names of headers in any case.  Raises CaptureError."""
    given = {name.lower(): value for name, value in headers.items()}
    if given.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise unsupported("compressed bodies are not read, because their size is not known before; send the event as it is")
    kind = given.get("content-type", "").partition(";")[0].strip().lower()
    if kind == STRUCTURED:
        return _event(*_structured(body), given.get(LENGTH_HEADER))
    if kind.startswith("application/cloudevents"):
        raise unsupported(f"content type {kind!r} is not read; send events one at a time, in binary mode or as {STRUCTURED}")
    attributes = {name[3:]: unquote(value) for name, value in given.items() if name.startswith("ce-")}
    if not attributes:
        raise _no_event("the request has neither `ce-` headers nor a structured CloudEvent")
    if kind not in _TYPES:
        raise unsupported(f"content type {kind!r} is not read; inference requests are application/json or application/octet-stream")
    return _event(attributes, body, given.get(LENGTH_HEADER))


def parse_json(data: bytes, what: str) -> Any:
    """A JSON document.  Raises CaptureError for whatever is none, however deep it is or long its numbers are, or of too many parts."""
    if data.count(b"[") + data.count(b"{") > _PARTS:  # an empty list takes twenty times the memory of its text
        raise unsupported(f"{what} has more than {_PARTS:,} lists and objects; send encoded pictures or binary tensors", status=422)
    try:
        return json.loads(data)
    except (ValueError, RecursionError, MemoryError) as error:
        raise malformed(f"{what} is not JSON ({str(error)[:80]})") from error


def _structured(body: bytes) -> tuple[Mapping[str, Any], bytes]:
    document = parse_json(body, "the structured CloudEvent")
    if not isinstance(document, dict):
        raise _no_event("the structured CloudEvent is not a JSON object")
    if "data_base64" in document:
        try:
            return document, base64.b64decode(document["data_base64"], validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise _no_event("`data_base64` of the CloudEvent is not base64") from error
    data = document.get("data")
    if isinstance(data, str):
        return document, data.encode("utf-8", errors="replace")
    if data is None:
        raise _no_event("the CloudEvent has no data")
    try:
        return document, json.dumps(data).encode()
    except RecursionError as error:
        raise _no_event("`data` of the CloudEvent is nested too deeply") from error


def _event(attributes: Mapping[str, Any], data: bytes, length: str | None) -> Event:
    if attributes.get("specversion") != "1.0":
        raise _no_event(f"`specversion` must be 1.0, got {_shown(attributes.get('specversion'))}")
    kind = _KINDS.get(_text(attributes, "type"))
    if kind is None:
        raise _no_event(f"`type` must be one of {', '.join(_KINDS)}, got {_shown(attributes.get('type'))}")
    _text(attributes, "source")
    noted = _metadata(attributes.get("metadata"))
    if length is None and kind == "request":  # the headers noted with an answer are those of its request
        length = noted.get(LENGTH_HEADER)
    return Event(
        id=_text(attributes, "id"),
        kind=kind,
        service=_text(attributes, "inferenceservicename", needed=False),
        model=_text(attributes, "model", needed=False),
        version=_text(attributes, "modelversion", needed=False),
        data=data,
        header_bytes=None if length is None else _length(length, len(data)),
        audit=AUDIT_HEADER in noted or bool(attributes.get("audit")),
    )


def _text(attributes: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    value = attributes.get(name, "")
    if not isinstance(value, str) or len(value) > _LONGEST or (needed and not value) or not value.isprintable():
        raise _no_event(
            f"attribute `{name}` must be {'1' if needed else '0'} to {_LONGEST} printable characters, got {_shown(value)}"
        )
    return value


def _metadata(value: Any) -> Mapping[str, str]:
    """KServe's attribute ``metadata``: listed headers of the request as JSON, each with its values; others' may hold anything."""
    try:
        document = json.loads(value) if isinstance(value, str) and len(value) <= 100 * _LONGEST else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {
        name.lower(): values[0]
        for name, values in document.items()
        if isinstance(values, list) and values and isinstance(values[0], str)
    }


def _length(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > most:
        raise _no_event(f"{LENGTH_HEADER} must be a length within the {most} bytes of data, got {_shown(text)}")
    return int(text)


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."

"""A small client middleware: sends a share of a gRPC client's requests, and their answers, to the receiver, beside the call.

The wrapped call is made and answered as ever.  What is sampled is handed to a thread by reference; when the thread is behind, or the
receiver away, it is dropped and counted.  Nothing here raises into the caller.  Only the standard library is used.

    client = CapturingClient(InferenceServerClient("triton:8001"), "https://audit:18878/v1/capture", share=0.01)
    client.infer("resnet50", inputs)
"""

import http.client
import json
import logging
import queue
import random
import ssl
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

LOG = logging.getLogger(__name__)
_TYPE = "org.kubeflow.serving.inference."
_SOURCE = "urn:audit-plugin:client"


@dataclass(frozen=True, kw_only=True)
class SenderCounts:
    """What became of the sampled requests."""

    sent: int = 0
    """Accepted by the receiver, request and answer."""
    refused: int = 0
    """Answered with an error by the receiver."""
    dropped: int = 0
    """Lost because the thread was behind or the tensors could not be read."""
    failed: int = 0
    """Lost because the receiver did not answer."""


@dataclass(frozen=True)
class _Tensor:
    name: str
    datatype: str
    shape: Sequence[int]
    raw: bytes


@dataclass(frozen=True)
class _Sampled:
    model: str
    version: str
    inputs: Sequence[_Tensor]
    result: Any


class CapturingClient:
    """Wraps ``tritonclient.grpc.InferenceServerClient``; other methods than ``infer`` are the client's own."""

    def __init__(
        self,
        client: Any,
        url: str,
        *,
        share: float = 0.01,
        queue_size: int = 16,
        queue_bytes: int = 64 * 1024 * 1024,
        timeout_seconds: float = 2.0,
        token_file: Path | None = None,
        context: ssl.SSLContext | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Start the sending thread; nothing is sent before the first sampled call.

        Args:
            client: the client to wrap.
            url: the receiver, http or https, with its path.
            share: of the calls that are captured, in [0, 1].
            queue_size: most sampled calls that wait.
            queue_bytes: most bytes of inputs that wait.
            timeout_seconds: longest wait for the receiver.
            token_file: file with a bearer token; read anew for every event.
            context: of TLS; the system's authorities when absent.
            chance: uniform in [0, 1), one for each call.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not 0 <= share <= 1:
            raise ValueError(f"need an http or https address and a share in [0, 1], got {url!r} and {share}")
        self._client, self._share, self._chance = client, share, chance
        self._target, self._path = (parts.scheme, parts.hostname, parts.port), parts.path or "/"
        self._timeout, self._token_file, self._context = timeout_seconds, token_file, context
        self._queue: queue.Queue[_Sampled | None] = queue.Queue(queue_size)
        self._most_bytes, self._bytes = queue_bytes, 0
        self._lock = threading.Lock()
        self._counts = SenderCounts()
        self._thread = threading.Thread(target=self._work, name="audit-capture-sender", daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def counts(self) -> SenderCounts:
        """A snapshot."""
        return self._counts

    def infer(self, model_name: str, inputs: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        """The client's ``infer``, to the letter."""
        taken = self._read(inputs) if self._chance() < self._share else None
        result = self._client.infer(model_name, inputs, *arguments, **options)
        if taken is not None:
            version = str(options.get("model_version") or (arguments[0] if arguments else ""))
            self._hand_over(_Sampled(model_name, version, taken, result))
        return result

    def close_capture(self, seconds: float = 5.0) -> None:
        """Send what waits, for so long at most, and stop; the client stays open."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _read(self, inputs: Sequence[Any]) -> Sequence[_Tensor] | None:
        """References to the inputs' bytes as they are now: callers use their objects again."""
        try:
            tensors = [_Tensor(one.name(), one.datatype(), tuple(one.shape()), one._get_content()) for one in inputs]  # noqa: SLF001
        except Exception:  # noqa: BLE001  (whatever it is, it must not reach the caller)
            tensors = []
        if not tensors or any(one.raw is None for one in tensors):  # shared memory
            self._count(dropped=1)
            return None
        return tensors

    def _hand_over(self, sampled: _Sampled) -> None:
        size = sum(len(one.raw) for one in sampled.inputs)
        with self._lock:
            fits = self._bytes + size <= self._most_bytes
            if fits:
                self._bytes += size
        if not fits:
            self._count(dropped=1)
            return
        try:
            self._queue.put_nowait(sampled)
        except queue.Full:
            with self._lock:
                self._bytes -= size
            self._count(dropped=1)

    def _work(self) -> None:
        while (sampled := self._queue.get()) is not None:
            with self._lock:
                self._bytes -= sum(len(one.raw) for one in sampled.inputs)
            try:
                self._send(sampled)
            except (OSError, http.client.HTTPException):
                self._count(failed=1)
            except Exception:  # a mistake of ours must not end the thread
                self._count(failed=1)
                LOG.exception("an inference could not be captured")

    def _send(self, sampled: _Sampled) -> None:
        """Request and answer as two CloudEvents with one id."""
        identity, connection = str(uuid.uuid4()), self._connection()
        try:
            statuses = [self._post(connection, "request", identity, sampled, sampled.inputs)]
            outputs = _outputs(sampled.result)
            if outputs:
                statuses.append(self._post(connection, "response", identity, sampled, outputs))
        finally:
            connection.close()
        self._count(**{"sent" if all(status < 300 for status in statuses) else "refused": 1})

    def _connection(self) -> http.client.HTTPConnection:
        scheme, host, port = self._target
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)

    def _post(
        self,
        connection: http.client.HTTPConnection,
        kind: Literal["request", "response"],
        identity: str,
        sampled: _Sampled,
        tensors: Sequence[_Tensor],
    ) -> int:
        header, body = _body(kind, tensors)
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
            "ce-specversion": "1.0",
            "ce-id": identity,
            "ce-source": _SOURCE,
            "ce-type": _TYPE + kind,
            "ce-model": quote(sampled.model),
            **({"ce-modelversion": quote(sampled.version)} if sampled.version else {}),
            **self._authorization(),
        }
        connection.request("POST", self._path, body=header + body, headers=headers)
        answer = connection.getresponse()
        answer.read(65536)
        return answer.status

    def _authorization(self) -> Mapping[str, str]:
        if self._token_file is None:
            return {}
        return {"Authorization": f"Bearer {self._token_file.read_text(encoding='ascii').strip()}"}

    def _count(self, **more: int) -> None:
        with self._lock:
            now = self._counts
            self._counts = replace(now, **{name: getattr(now, name) + number for name, number in more.items()})


def _outputs(result: Any) -> list[_Tensor]:
    """The answer's tensors; none where they lie in shared memory or are not binary."""
    response = result.get_response()
    raw = list(response.raw_output_contents)
    if len(raw) != len(response.outputs):
        return []
    return [_Tensor(one.name, one.datatype, tuple(one.shape), content) for one, content in zip(response.outputs, raw, strict=True)]


def _body(kind: Literal["request", "response"], tensors: Sequence[_Tensor]) -> tuple[bytes, bytes]:
    """Open Inference Protocol with binary tensors: the JSON, and what stands behind it."""
    listed = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": [int(axis) for axis in one.shape],
            "parameters": {"binary_data_size": len(one.raw)},
        }
        for one in tensors
    ]
    header = json.dumps({"inputs" if kind == "request" else "outputs": listed}).encode()
    return header, b"".join(one.raw for one in tensors)

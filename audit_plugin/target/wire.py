"""The connection: one gRPC client for all threads, deadlines, retries with back-off, and the vendor's errors mapped to ours."""

import re
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import grpc
import stamina
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from audit_plugin.core.errors import ConfigError, TargetError, TargetUnreachableError, UnknownModelError
from audit_plugin.target.load.guard import guard_of
from audit_plugin.target.load.pressure import metrics_of, statistics_of
from audit_plugin.target.options import TargetOptions

MARK = "audit-plugin"
HEADER = "x-audit-plugin"
"""Header of every request, for operators who filter their payload loggers by header."""

_MESSAGE_BYTES = 2**31 - 1
_CHANNEL = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_TRANSIENT = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
_UNKNOWN_MODEL = re.compile(r"unknown model|model .*not found|not found.*model|no available versions", re.IGNORECASE)


_LEAVING = re.compile(r"not at ready state|server is (stopping|shutting down|exiting)|shutting down", re.IGNORECASE)
"""What Triton says of a model that it is unloading, which it does with all of them before it ends."""
RESUME = "what was answered is kept, and the same command goes on from where it stopped"


class TransientError(TargetUnreachableError):
    """The server may answer if it is asked again."""


class RefusedError(TargetError):
    """The server does not offer this call, or not to this client."""


@dataclass(frozen=True, kw_only=True)
class QueryCounts:
    """What has been asked of the server so far."""

    images: int = 0
    """Images that were answered."""
    requests: int = 0
    """Inference requests sent, repeated ones included."""
    retries: int = 0
    """Inference requests that were a repetition."""


class Wire:
    """Calls of ``tritonclient``'s gRPC client with headers, a deadline and retries.  Shared by threads."""

    def __init__(self, options: TargetOptions) -> None:
        self.options = options
        self._client = _client(options)
        self._counts = QueryCounts()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.guard = None if options.load is None else guard_of(options.url, options.load)
        """What the audit may ask of this server; shared by all connections to it."""
        self._look = (
            None if options.load is None else metrics_of(options.load.metrics) if options.load.metrics else statistics_of(self)
        )

    @property
    def counts(self) -> QueryCounts:
        """Snapshot of what has been asked."""
        return self._counts

    def count(self, *, images: int = 0, requests: int = 0, retries: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            now = self._counts
            self._counts = replace(now, images=now.images + images, requests=now.requests + requests, retries=now.retries + retries)

    def once(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the client, mapping its errors."""
        if self._closed.is_set():
            raise TargetError(f"the connection to {self.options.url} was closed before {method!r} was sent; connect anew")
        headers = self._headers()
        try:
            return getattr(self._client, method)(
                *arguments, headers=headers, client_timeout=self.options.deadline_seconds, **options
            )
        except InferenceServerException as error:
            raise _mapped(error, self.options, midway=method == "infer") from error

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The same, asking again with growing pauses while the server is away or overloaded."""
        for attempt in stamina.retry_context(on=self._worth_repeating, attempts=self.options.retries + 1, timeout=None):
            with attempt:
                if method != "infer":
                    return self.once(method, *arguments, **options)
                with self._admitted(arguments):
                    self.count(requests=1, retries=int(attempt.num > 1))
                    return self.once(method, *arguments, **options)
        raise AssertionError("stamina either returns or raises")

    def _admitted(self, arguments: tuple[Any, ...]) -> AbstractContextManager[None]:
        """Once the guard lets this inference request through."""
        if self.guard is None:
            return nullcontext()
        return self.guard.admitted(int(arguments[1][0].shape()[0]), self._look)

    def close(self) -> None:
        """Close the connection; what is under way is given up and not repeated."""
        self._closed.set()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _worth_repeating(self, error: Exception) -> bool:
        return isinstance(error, TransientError) and not self._closed.is_set()

    def _headers(self) -> dict[str, str]:
        options = self.options
        headers = {name.lower(): value for name, value in options.headers.items()} | {HEADER: "probe"}
        if options.token_file is not None:
            headers["authorization"] = f"Bearer {_read(options.token_file, 'token_file').decode().strip()}"
        if options.restricted_key_file is not None:
            value = _read(options.restricted_key_file, "restricted_key_file").decode().strip()
            headers[f"triton-grpc-protocol-{options.restricted_key}"] = value
        return headers


def _client(options: TargetOptions) -> triton.InferenceServerClient:
    tls = options.tls
    if tls is None:
        return triton.InferenceServerClient(options.url, channel_args=_CHANNEL)
    ca, key, cert = (
        None if path is None else _read(path, f"tls.{name}")
        for name, path in (("ca", tls.ca), ("key", tls.key), ("cert", tls.cert))
    )
    credentials = grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)
    return triton.InferenceServerClient(options.url, creds=credentials, channel_args=_CHANNEL)


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"`{option}` {str(path)!r} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error


def _mapped(error: InferenceServerException, options: TargetOptions, *, midway: bool = False) -> TargetError:
    """Our error for the vendor's, by gRPC status; ``midway`` when the model had been ready."""
    status = str(error.status()).removeprefix("StatusCode.")
    said = f"{options.url} says {status}: {error.message()}"
    if "restricted" in str(error.message()) or status in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return RefusedError(f"{said}; the operator restricts this call: check `token_file`, `restricted_key` and `tls`")
    if status == "UNIMPLEMENTED":
        return RefusedError(f"{said}; this server does not offer the call")
    if midway and (left := _left(error, status, said, options)) is not None:
        return left
    if status == "NOT_FOUND" or _UNKNOWN_MODEL.search(str(error.message())):
        return UnknownModelError(f"{said}; check `model` and `version` of this target against the server's repository")
    if status in _TRANSIENT:
        more = f"; {RESUME}" if midway else ""
        return TransientError(
            f"{said}; check that the server runs and `url` is its gRPC endpoint, or raise `deadline_seconds`{more}"
        )
    return TargetError(f"{said}; look into the server's log for model {options.model!r}")


def _left(error: InferenceServerException, status: str, said: str, options: TargetOptions) -> TargetError | None:
    """What became of a model that had been ready; None where it is still there."""
    if _LEAVING.search(str(error.message())):
        return TransientError(
            f"{options.url} was shut down, or model {options.model!r} unloaded, while it was asked ({error.message()}); start the server, or "
            f"load the model, again: {RESUME}"
        )
    if status == "NOT_FOUND" or _UNKNOWN_MODEL.search(str(error.message())):
        return UnknownModelError(f"{said}; the model was there and is no longer: load it again; {RESUME}")
    return None

"""Calls to a Triton server's gRPC endpoint, with a deadline; the vendor's errors become ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from engines.errors import BackendError, ServedModelError, ServerError

_MESSAGE_BYTES = 2**31 - 1
_CHANNEL = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # else a new connection inherits the pauses of the one that failed
]
_ABSENT = ("unknown model", "not found", "no available versions", "not at ready state")
_LEAVING = ("not at ready state", "server is stopping", "shutting down")
"""Of a model that is being unloaded, as all are before a server ends."""


@dataclass(frozen=True)
class Endpoint:
    """How a server is reached."""

    url: str
    """``host:port`` of its gRPC endpoint."""
    deadline_seconds: float = 60.0
    """Of every call; the first ones may meet a model that is still warming up."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every call, for instance ``authorization``."""
    credentials: Any = None
    """``grpc.ChannelCredentials`` for TLS; None for a plain connection."""


class Wire:
    """One connection, shared by threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        import tritonclient.grpc as triton

        self.endpoint, self._triton = endpoint, triton
        self._open()

    def call(self, method: str, model: str = "", *arguments: Any, **options: Any) -> Any:
        """A method of tritonclient's client.  Raises ServerError or ServedModelError."""
        from tritonclient.utils import InferenceServerException

        endpoint = self.endpoint
        common = {"headers": dict(endpoint.headers), "client_timeout": endpoint.deadline_seconds}
        try:
            return getattr(self._client, method)(*filter(None, [model]), *arguments, **common, **options)
        except InferenceServerException as error:
            raise _mapped(error, endpoint.url, model, midway=method == "infer") from error

    def infer(
        self, model: str, version: str, feeds: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]
    ) -> dict[str, NDArray[Any]]:
        """One request, one answer.  Strings are object arrays of bytes."""
        from tritonclient.utils import np_to_triton_dtype

        inputs = []
        for name, value in feeds.items():
            tensor = self._triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
            inputs.append(tensor.set_data_from_numpy(value))
        wanted = [self._triton.InferRequestedOutput(name) for name in outputs]
        result = self.call("infer", model, inputs, model_version=version, outputs=wanted)
        return {name: result.as_numpy(name) for name in outputs}

    def reopen(self) -> None:
        """Connect anew: after a failure gRPC answers from memory for a while, whether or not the server is back."""
        self.close()
        self._open()

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _open(self) -> None:
        endpoint = self.endpoint
        self._client = self._triton.InferenceServerClient(endpoint.url, creds=endpoint.credentials, channel_args=_CHANNEL)


def _mapped(error: Any, url: str, model: str, *, midway: bool) -> BackendError:
    status, said = str(error.status()).removeprefix("StatusCode."), str(error.message())
    if midway and any(part in said.lower() for part in _LEAVING):
        return ServerError(
            f"the server at {url} was shut down, or model {model!r} unloaded, while it was asked ({said}); start the server, or load the model, "
            "again: what was drawn is kept, and the same command goes on from where it stopped"
        )
    if model and (status == "NOT_FOUND" or any(part in said.lower() for part in _ABSENT)):
        return ServedModelError(
            f"the server at {url} does not serve model {model!r}: {said}; write it with `audit-plugin engines export-triton`, "
            "and look into the server's log when it is there"
        )
    if status == "UNAVAILABLE":
        return ServerError(
            f"the Triton server at {url} cannot be reached: {said}; check that it runs and that this is its gRPC endpoint"
        )
    if status == "DEADLINE_EXCEEDED":
        return ServerError(f"the Triton server at {url} did not answer {model!r} in time; raise the deadline or lower its load")
    return ServerError(f"model {model!r} at {url} answers {status}: {said}")

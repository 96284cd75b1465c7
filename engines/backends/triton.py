"""Networks on a remote Triton server.  What is served is compared with what was asked for, at the start and after every failure."""

import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.backends.eager import on_stream
from engines.capability import Capability
from engines.engine import Engine
from engines.errors import BackendError, BackendUnavailableError, NotRefittableError, ServerError
from engines.protocols import Replay, Stream
from engines.serving.identity import served_name
from engines.serving.served import ServedModel, find_served
from engines.serving.wire import Endpoint, Wire
from engines.spec import EngineSpec, TensorSpec

PROBE_SECONDS = 5.0
"""Longest wait of a probe."""


class TritonProgram:
    """One served model.  A run waits for its answers: tensors cross the network through host memory."""

    captures = 0

    def __init__(self, spec: EngineSpec, wire: Wire, served: ServedModel, device: torch.device, concurrency: int) -> None:
        self.spec, self.device = spec, device
        self._wire, self._served, self._doubted = wire, served, False
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="engine-triton")

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Cut to the largest batch that the server takes, several requests under way at once.  Raises ServerError, ServedModelError."""
        with on_stream(stream):
            arrays = {each.name: _sent(each, feeds[each.name]) for each in self.spec.inputs}
            parts = self._ask(arrays)
            results = {each.name: torch.cat([_received(each, part[each.name]) for part in parts]) for each in self.spec.outputs}
            if out is None:
                return {name: value.to(self.device) for name, value in results.items()}
            for name, value in results.items():
                out[name].copy_(value)
            return out

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """A replay is a run into the bound tensors."""
        return lambda: (self.run(feeds, outs, None), None)[1]

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """The weights are the server's."""
        raise NotRefittableError(
            self.spec.name,
            f"it is served as {self._served.name!r} by {self._wire.endpoint.url}, which takes no weights from clients",
        )

    def close(self) -> None:
        """End the connection; requests under way are waited for."""
        self._pool.shutdown(cancel_futures=True)
        self._wire.close()

    def _ask(self, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        if self._doubted:  # whoever answers after a failure may have been restarted with other models
            self._wire.reopen()
            self._served = find_served(self._wire, self._served.name, self.spec, self._served.version)
            self._doubted = False
        total, most = len(next(iter(arrays.values()))), self._served.max_rows
        cuts = [{name: value[at : at + most] for name, value in arrays.items()} for at in range(0, total, most)]
        futures = [self._pool.submit(self._one, cut) for cut in cuts]
        try:
            return [future.result() for future in futures]
        except BackendError:
            self._doubted = True
            raise
        finally:
            for future in futures:
                future.cancel()

    def _one(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = tuple(each.name for each in self.spec.outputs)
        answer = self._wire.infer(self._served.name, self._served.version, arrays, names)
        rows = len(next(iter(arrays.values())))
        wrong = [f"{name} {value.shape}" for name, value in answer.items() if len(value) != rows]
        if wrong:
            raise ServerError(f"model {self._served.name!r} answers {rows} rows with {', '.join(wrong)}")
        return answer


@dataclass(frozen=True, kw_only=True)
class TritonBackend:
    """Runs nothing itself: a network's model ``audit_NAME`` must be served already (``engines.serving``)."""

    endpoint: Endpoint | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    """Served names of networks whose models are called otherwise."""
    version: str = ""
    """Version of every model; empty for the highest, found out once."""
    concurrency: int = 4
    """Most requests of one batch under way at once."""
    device: str = "cpu"
    """Where outputs are put; the server's own device is its own business."""
    name: str = "triton"

    def probe(self) -> Capability:
        """No endpoint, no client library, or no live server there."""
        return Capability(
            backend=self.name,
            reason=self._unreachable(),
            version=version("tritonclient") if importlib.util.find_spec("tritonclient") else "",
            device=self.device,
            precisions=("fp32", "tf32", "fp16", "bf16", "fp8"),
            kinds=("forward", "vjp", "guided", "loop"),
        )

    def ready(self, spec: EngineSpec) -> bool:
        """The server has built it."""
        return True

    def unusable(self, spec: EngineSpec) -> str | None:
        """What :meth:`probe` says, or tensors that NumPy cannot hold; which network is served is found out by :meth:`build`."""
        narrow = [each.name for each in (*spec.inputs, *spec.outputs) if each.dtype == "bfloat16"]
        if narrow:
            return f"{', '.join(narrow)} would have to cross the network in bfloat16; give them as float32 in the spec"
        return self.probe().refuses(spec)

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Connect to the served model; the module stays here, to be compared with.  Raises ServerError, ServedModelError."""
        return self._connect(spec)

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """Connect to the served model: the artifact lies on the server."""
        return self._connect(spec)

    def _connect(self, spec: EngineSpec) -> Engine:
        if self.endpoint is None:
            raise BackendUnavailableError(self.name, [NO_ENDPOINT])
        wire = Wire(self.endpoint)
        try:
            served = find_served(wire, self.models.get(spec.name, served_name(spec)), spec, self.version)
        except BaseException:
            wire.close()
            raise
        program = TritonProgram(spec, wire, served, torch.device(self.device), self.concurrency)
        return Engine(spec=spec, program=program, backend=self.name)

    def _unreachable(self) -> str | None:
        if self.endpoint is None:
            return NO_ENDPOINT
        if importlib.util.find_spec("tritonclient") is None:
            return "tritonclient is not installed; install `tritonclient[grpc]`"
        wire = Wire(replace(self.endpoint, deadline_seconds=min(self.endpoint.deadline_seconds, PROBE_SECONDS)))
        try:
            wire.call("is_server_live")
        except BackendError as error:
            return str(error)
        finally:
            wire.close()
        return None


NO_ENDPOINT = "no server is configured; give its gRPC endpoint, host:port"


def _sent(spec: TensorSpec, value: Tensor) -> NDArray[Any]:
    """One number per row goes as a column."""
    rows: NDArray[Any] = value.detach().cpu().contiguous().numpy()
    return rows if spec.row else rows[:, None]


def _received(spec: TensorSpec, value: NDArray[Any]) -> Tensor:
    """The client's arrays are views on a message and cannot be written to."""
    return torch.tensor(value).reshape(len(value), *spec.row)

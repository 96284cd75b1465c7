"""A deployed classifier behind Triton's gRPC endpoint (or that of any Open Inference Protocol server), asked read-only."""

import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from audit_plugin.core.errors import TargetOutputError, TargetShapeError
from audit_plugin.core.protocols import Images, Scores
from audit_plugin.core.values import TargetInfo
from audit_plugin.target.contract import Contract, read_contract
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.preprocess import to_input
from audit_plugin.target.wire import MARK, QueryCounts, Wire

TAGS = {MARK: "probe", "bias-ignore": "true"}
"""Parameters of every request: ours, and the one by which TrustyAI leaves a request out of its bias metrics."""


class TritonClassifier:
    """Implements :class:`audit_plugin.core.protocols.Classifier`.  Close it, or use it as a context manager.

    Every request carries the pinned version, a request id that begins with ``audit-plugin-``, the parameters of :data:`TAGS`
    and the header ``x-audit-plugin``, so that operators can tell audit traffic from their customers'.
    """

    def __init__(self, wire: Wire, contract: Contract) -> None:
        self.contract = contract
        self._wire = wire
        self._pool = ThreadPoolExecutor(wire.options.concurrency, thread_name_prefix="audit-target")

    @classmethod
    def connect(cls, options: TargetOptions) -> Self:
        """Read what the server says about the model, pin its version and check shapes, types and labels.

        Raises:
            TargetError: the server cannot be reached, or has no such model, or the options do not fit it.
            ConfigError: labels are missing, or a file that the options name cannot be read.
        """
        wire = Wire(options)
        try:
            return cls(wire, read_contract(wire))
        except BaseException:
            wire.close()
            raise

    @property
    def info(self) -> TargetInfo:
        """Identity of what answers, pinned to one version."""
        return self.contract.info

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader of a report should know about this endpoint."""
        return self.contract.info.notes

    @property
    def labels_only(self) -> bool:
        """Whether the endpoint answers classes only, so that scores are one-hot."""
        return self.contract.labels_only

    @property
    def wire(self) -> Wire:
        """The connection, for what the server offers beside the model."""
        return self._wire

    @property
    def counts(self) -> QueryCounts:
        """What has been asked so far."""
        return self._wire.counts

    def predict(self, images: Images) -> Scores:
        """Class scores ``(n, k)`` of images ``(n, 3, h, w)`` in [0, 1]; rows in the order of the images."""
        return next(self.predict_batches([images]))

    def predict_batches(self, batches: Iterable[Images]) -> Iterator[Scores]:
        """Scores of each batch, in order, as soon as they are there.

        At most ``concurrency`` requests are under way and as many batches held; batches are taken from the iterable as needed.
        """
        pending: deque[list[Future[Scores]]] = deque()
        try:
            for images in batches:
                pending.append([self._pool.submit(self._ask, part) for part in self._parts(images)])
                if len(pending) > self._wire.options.concurrency:
                    yield self._collect(pending[0])
                    pending.popleft()
            while pending:
                yield self._collect(pending[0])
                pending.popleft()
        finally:
            for future in (future for futures in pending for future in futures):
                future.cancel()

    def close(self) -> None:
        """Close the connection; requests that nobody waits for any more are given up."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._wire.close()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _parts(self, images: Images) -> Iterator[Images]:
        size = self.contract.max_batch
        return (images[start : start + size] for start in range(0, len(images), size))

    def _collect(self, futures: list[Future[Scores]]) -> Scores:
        return np.concatenate([np.empty((0, len(self.info.labels))), *(future.result() for future in futures)])

    def _ask(self, images: Images) -> Scores:
        """One request, at most ``max_batch`` images."""
        contract = self.contract
        tensor = to_input(images, contract.preprocess)
        wants = contract.input.shape[-3:]
        if any(want not in (-1, got) for want, got in zip(wants, tensor.shape[1:], strict=True)):
            raise TargetShapeError(self.info.model, wants, tensor.shape[1:])
        result = self._wire.call("infer", self.info.model, [self._input(tensor)], **self._request())
        scores = contract.scores(self._output(result), len(images))
        self._wire.count(images=len(images))
        return scores

    def _input(self, tensor: NDArray[np.generic]) -> Any:
        contract = self.contract
        sent = tensor if contract.batch_axis else tensor[0]
        tensor_input = triton.InferInput(contract.input.name, list(sent.shape), contract.input.datatype)
        tensor_input.set_data_from_numpy(sent)
        return tensor_input

    def _request(self) -> dict[str, Any]:
        """Version, tags and, where the model honours them, priority and queue timeout."""
        contract = self.contract
        request: dict[str, Any] = {
            "model_version": contract.request_version,
            "outputs": [triton.InferRequestedOutput(contract.output.name)],
            "request_id": f"{MARK}-{uuid.uuid4().hex}",
            "parameters": TAGS,
        }
        if contract.priority:
            request |= {"priority": contract.priority, "timeout": int(self._wire.options.deadline_seconds * 1e6)}
        return request

    def _output(self, result: Any) -> NDArray[np.generic]:
        """The output tensor with a batch axis, from the version that was asked for."""
        answered = result.get_response().model_version
        if answered and self.contract.request_version and answered != self.contract.request_version:
            raise TargetOutputError(
                f"version {self.contract.request_version} was asked but {answered} answered; the server ignores versions"
            )
        try:
            output: NDArray[np.generic] | None = result.as_numpy(self.contract.output.name)
        except ValueError as error:
            raise TargetOutputError(f"output {self.contract.output.name!r} does not fill its own shape: {error}") from error
        if output is None:
            raise TargetOutputError(f"the answer has no output {self.contract.output.name!r}; set `output`")
        return output if self.contract.batch_axis else output[None]

"""A worker seen as an engine: pipelines run on it without knowing that others do too."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engines.engine import Engine
from engines.errors import NotRefittableError
from engines.protocols import Replay, Stream
from engines.rows import Rows
from engines.spec import Profile
from engines.streams import on
from engines.worker import EngineWorker, WorkerClient

MOST_ROWS = 2**16
"""Of one call; a worker cuts them into batches."""


@dataclass(frozen=True, eq=False)
class SharedProgram:
    """Submits and waits.  On a GPU the host waits until the rows are enqueued, not until they are computed."""

    client: WorkerClient
    device: torch.device
    captures: int = 0

    def run(self, feeds: Rows, out: Rows | None, stream: Stream | None) -> Rows:
        """Rows of one audit, computed together with those of others."""
        with on(stream):
            request = self.client.submit(feeds, out)
            try:
                return request.result()
            except BaseException:  # an interrupted audit does not leave its rows in the queue
                request.cancel()
                raise

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """Nothing is settled ahead: batches are other ones every time."""

        def replay() -> None:
            self.run(feeds, outs, None)

        return replay

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """The weights are everybody's."""
        raise NotRefittableError(self.client.worker.buckets.spec.name, "other audits use it at the same time")

    def close(self) -> None:
        """The client leaves; the worker stays."""
        self.client.close()


def shared_engine(worker: EngineWorker, client: str, weight: float = 1.0) -> Engine:
    """The worker's network for one audit: takes any number of rows, and closing it leaves the worker to the others.

    Its statistics count the time that rows waited too; the worker's own tell how long the device worked.
    """
    inner = worker.buckets.engine
    largest = worker.buckets.times.largest
    return Engine(
        spec=replace(inner.spec, profile=Profile(1, largest, MOST_ROWS)),
        program=SharedProgram(worker.client(client, weight), inner.device),
        backend=inner.backend,
        certificate=inner.certificate,
    )

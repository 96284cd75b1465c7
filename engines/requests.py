"""One audit's rows on their way through an engine that others use too."""

import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import torch

from engines.engine import check_rows
from engines.errors import FeedError
from engines.protocols import Stream
from engines.rows import Part, Rows, empty_rows
from engines.spec import EngineSpec
from engines.streams import event_on, follow, lend, mark, tensors_in


class Request:
    """Rows, the place for their results, and a future that is done when all are there.  A client waits by :meth:`result`."""

    def __init__(self, client: str, whole: Part, device: torch.device, forget: Callable[["Request"], None]) -> None:
        self.client, self.whole, self.left = client, whole, len(whole)
        self.submitted = time.monotonic()
        self.future: Future[Rows] = Future()
        self._device, self._forget = device, forget
        self._fed, self._computed = mark(device), event_on(device)

    def __len__(self) -> int:
        return len(self.whole)

    def result(self, timeout: float | None = None) -> Rows:
        """Results (n rows each), in the ``out`` that was given.  On a GPU they are valid in the order of the current stream.

        Raises what the engine raised, TimeoutError, or CancelledError.
        """
        outs = self.future.result(timeout)
        follow(self._computed)
        return outs

    def cancel(self) -> bool:
        """Give up, which is possible until the first row is taken; whether it was."""
        if not self.future.cancel():
            return False
        self._forget(self)
        return True

    def begin(self) -> bool:
        """Whether its rows are still wanted; from then on it cannot be cancelled."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def part(self, start: int, stop: int, stream: Stream | None) -> Part:
        """Some rows, for use on the current stream, which is ``stream``."""
        follow(self._fed)
        lend(tensors_in((self.whole.feeds, self.whole.outs)), stream)
        return self.whole.rows(start, stop)

    def served(self, rows: int) -> None:
        """So many more rows were computed, on the current stream."""
        self.left -= rows
        if self.left == 0:
            if self._computed is not None:
                self._computed.record()
            with suppress(InvalidStateError):
                self.future.set_result(self.whole.outs)

    def fail(self, error: Exception) -> bool:
        """No results will come.  What is done already, perhaps by another thread just now, stays as it is; whether it was not."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)
            return True
        return False


def checked(spec: EngineSpec, feeds: Rows, out: Rows | None, device: torch.device) -> Part:
    """Feeds on the engine's device, with room for their results.

    Raises FeedError for a wrong name, type, shape or number of rows, and for a number that is not finite.  Feeds that lie on a GPU
    are not read for that, since the host would have to wait; a bad row spoils its own results only.
    """
    rows = check_rows(spec.inputs, feeds, spec.name, "input")
    if out is not None and check_rows(spec.outputs, out, spec.name, "output") != rows:
        raise FeedError(f"engine {spec.name!r} got {rows} rows and room for the results of another number")
    for name, value in feeds.items():
        if value.device.type == "cpu" and value.is_floating_point() and not bool(value.isfinite().all()):
            raise FeedError(f"input {name!r} of engine {spec.name!r} holds NaN or infinity; find the step that made it")
    placed = {name: value.detach().to(device, non_blocking=True) for name, value in feeds.items()}
    return Part(placed, out if out is not None else empty_rows(spec.outputs, rows, device))

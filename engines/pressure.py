"""Does production wait?  Asked of the metrics of the inference server that shares the device.

A Triton server counts the requests it has answered and the time they spent in its queues, per model; from two readings follows how long
those in between have waited.  Our own requests to that server count too: an audit that floods it is slowed down as well.
"""

import re
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass

SAMPLE = re.compile(r"^(?P<name>nv_inference_\w+)\{(?P<labels>[^}]*)\}\s+(?P<value>\S+)")
MODEL = re.compile(r'model="(?P<model>[^"]*)"')


@dataclass(frozen=True)
class QueueCounts:
    """State of a server's queues, summed over models."""

    answered: float = 0.0
    """Requests since it started."""
    queued_seconds: float = 0.0
    """That they waited, in all."""
    pending: float = 0.0
    """Requests that wait now."""


class QueueTime:
    """Whether requests wait longer than they should; what :class:`engines.duty.Sharing` asks as ``pressed``."""

    def __init__(self, read: Callable[[], QueueCounts], *, most_seconds: float = 0.005, most_pending: int = 8) -> None:
        self._read, self._most_seconds, self._most_pending = read, most_seconds, most_pending
        self._before: QueueCounts | None = None

    def __call__(self) -> bool:
        """By the mean of the requests answered since the last call; a server that started again is one without a past."""
        now = self._read()
        before, self._before = self._before, now
        if now.pending > self._most_pending:
            return True
        if before is None or now.answered <= before.answered:
            return False
        return (now.queued_seconds - before.queued_seconds) / (now.answered - before.answered) > self._most_seconds


def triton_queues(metrics: str, models: Collection[str] | None = None) -> QueueCounts:
    """Counts out of a Triton server's metrics, a text in Prometheus' form; of some models, or of all.

    >>> triton_queues('nv_inference_queue_duration_us{model="a",version="1"} 2500').queued_seconds
    0.0025
    """
    totals = {"request_success": 0.0, "request_failure": 0.0, "queue_duration_us": 0.0, "pending_request_count": 0.0}
    for line in metrics.splitlines():
        found = SAMPLE.match(line)
        model = MODEL.search(found["labels"]) if found else None
        name = found["name"].removeprefix("nv_inference_") if found else ""
        if found and name in totals and (models is None or (model is not None and model["model"] in models)):
            totals[name] += float(found["value"])
    answered = totals["request_success"] + totals["request_failure"]
    return QueueCounts(answered, totals["queue_duration_us"] / 1e6, totals["pending_request_count"])


def triton_pressure(
    url: str,
    models: Collection[str] | None = None,
    *,
    timeout_seconds: float = 1.0,
    most_seconds: float = 0.005,
    most_pending: int = 8,
) -> QueueTime:
    """The same, read from the metrics address of a Triton server, usually ``http://host:8002/metrics``.  A call raises OSError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"metrics are read from an address that begins with http:// or https://, got {url!r}")

    def read() -> QueueCounts:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:  # noqa: S310  # the scheme is checked above
            return triton_queues(answer.read().decode(), models)

    return QueueTime(read, most_seconds=most_seconds, most_pending=most_pending)

"""Do requests wait on the server?  From two looks at its counters; our own requests count too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from engines.pressure import QueueCounts, triton_queues

MANY_TIMES = 3.0
"""A wait counts as grown when it is so many times what it was before the audit."""
_TIMEOUT_SECONDS = 1.0
_LONGEST = 16 * 1024 * 1024
"""Bytes of metrics that are read."""


class Wired(Protocol):
    """What is asked for statistics."""

    def once(self, method: str, *arguments: Any, **options: Any) -> Any:
        """One call of the vendor's client."""
        ...


@dataclass(eq=False)
class Queues:
    """Whether requests wait longer than they did before the audit, and than they may."""

    most_seconds: float
    most_pending: int
    before: QueueCounts | None = None
    quiet_seconds: float | None = None
    """Mean wait between the first two looks with requests between them: what was usual before the audit asked."""

    def pressed(self, now: QueueCounts) -> str:
        """Why to pause, by the requests that were answered since the last look; empty: no reason.  A server that began anew has no past."""
        before, self.before = self.before, now
        if now.pending > self.most_pending:
            return f"{now.pending:.0f} requests wait on the server"
        if before is None or now.answered <= before.answered:
            return ""
        wait = (now.queued_seconds - before.queued_seconds) / (now.answered - before.answered)
        if self.quiet_seconds is None:
            self.quiet_seconds = wait
        if wait > max(self.most_seconds, MANY_TIMES * self.quiet_seconds):
            return (
                f"requests wait {1000 * wait:.1f} ms in the server's queues ({1000 * self.quiet_seconds:.1f} ms before the audit)"
            )
        return ""


def statistics_of(wire: Wired) -> Callable[[], QueueCounts]:
    """Reads the counters of all models over the connection; they say nothing about requests that wait now.  A call raises TargetError."""

    def read() -> QueueCounts:
        told = wire.once("get_inference_statistics", "", as_json=True).get("model_stats", [])
        queues = [each.get("inference_stats", {}).get("queue", {}) for each in told]
        answered, nanoseconds = (sum(float(each.get(key, 0)) for each in queues) for key in ("count", "ns"))
        return QueueCounts(answered=answered, queued_seconds=nanoseconds / 1e9)

    return read


def metrics_of(url: str) -> Callable[[], QueueCounts]:
    """Reads the server's metrics page; redirects are not followed.  A call raises OSError."""
    import urllib.request

    class Straight(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    opener = urllib.request.build_opener(Straight)

    def read() -> QueueCounts:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            return triton_queues(answer.read(_LONGEST).decode("utf-8", "replace"))

    return read

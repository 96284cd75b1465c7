"""What audits asked of production servers, and how long they stepped aside."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoadCounts:
    """What the guard did so far."""

    requests: int = 0
    """Let through."""
    images: int = 0
    pauses: int = 0
    """Times that queues had grown."""
    paused_seconds: float = 0.0
    """Of requests, in all, spent waiting for queues to empty."""
    throttled_seconds: float = 0.0
    """Of requests, in all, spent waiting for the budget."""
    yielded_seconds: float = 0.0
    """Of requests, in all, spent waiting because others ask the server, too."""
    closed_seconds: float = 0.0
    """Of requests, in all, spent waiting for a window of time."""
    blind: int = 0
    """Looks at the queues that failed."""


@dataclass(frozen=True, kw_only=True)
class LoadTotals:
    """Of all guards of this process."""

    counts: LoadCounts
    paused: bool

"""What was refused and why, counted for the metrics."""

import threading
from collections import Counter
from collections.abc import Mapping

REASONS = {
    "unauthenticated": "No token, or one that is unknown or void.",
    "forbidden": "A token whose role is not enough.",
    "foreign_origin": "A page of another site, or a name that is not ours, was behind the request.",
    "bad_path": "A path that climbs out of where it is, or holds what no path holds.",
    "address": "A request that names an address: where we connect to is in the configuration alone.",
    "invalid": "A body or parameter that is not what the interface takes.",
    "too_large": "A body over the limit.",
    "too_slow": "A body that took too long to come.",
    "busy": "More requests at a time, or more runs in the queue, than are allowed.",
    "signature": "A webhook without the right signature.",
}
"""Reason -> meaning; each is a value of the label ``reason``."""


class Refusals:
    """Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))

    def count(self, reason: str) -> None:
        """One more."""
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not among the reasons of a refusal")
        with self._lock:
            self._counts[reason] += 1

    @property
    def counts(self) -> Mapping[str, int]:
        """Snapshot."""
        with self._lock:
            return dict(self._counts)

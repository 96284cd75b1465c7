"""Hard stops of one audit (specification 12): what it may spend, and how many more edits that pays for.

No limit on rows or queries is ever passed: an edit is asked for only where what it may cost at most is left.  Time is foreseen from the pace
so far.  What was made stays in the bank, so that the next run goes on from there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

PICTURES = 2
"""Of an edit that a model may have to be asked about: its null edit, and itself."""
_MANY = 10**9
_FIRST = 16
"""Edits after which the pace is known."""


@dataclass(frozen=True, kw_only=True)
class DiffexLimits:
    """Most that one audit of one model may take; where one is reached the report is partial, and the next run goes on from the bank."""

    network_rows: int | None = 2_000_000
    """Network evaluations for edits, the pilot's with them; unlimited when null."""
    classifier_queries: int | None = 200_000
    """Pictures that the model is asked about for the tree; unlimited when null."""
    wall_minutes: float | None = 120.0
    """From the first edit to the last; unlimited when null."""

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 0 for limit in (self.network_rows, self.classifier_queries, self.wall_minutes)):
            raise ValueError("a limit is 0 or more, or null for none")


class Budget:
    """What is left of the limits of one audit.  The clock runs from its making."""

    def __init__(
        self,
        limits: DiffexLimits,
        *,
        rows: Callable[[], int],
        queries: Callable[[], int],
        rows_per_edit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rows`` and ``queries`` tell what was spent so far; ``rows_per_edit`` is the most that one costs, its null edit with it."""
        self.limits, self._rows, self._queries, self._rows_per_edit, self._clock = limits, rows, queries, rows_per_edit, clock
        self._started, self._granted = clock(), 0

    def affordable(self, wanted: int, *, pictures: int = PICTURES) -> int:
        """How many of so many edits may be made now; ``pictures`` of each are sent to the model, 0 in a pilot."""
        most = wanted if self._granted or self.limits.wall_minutes is None else min(wanted, _FIRST)
        granted = max(0, min([most, *self._rooms(pictures).values()]))
        self._granted += granted
        return granted

    def stopped(self, wanted: int = 1, *, pictures: int = PICTURES) -> str:
        """Name of the limit that does not pay for so many edits more; empty where all do."""
        return next((name for name, room in self._rooms(pictures).items() if room < wanted), "")

    def stops_pilot(self, wanted: int) -> str:
        """The same for a trial of the pilot, which is made as a whole and shown to no model."""
        stopped = self.stopped(wanted, pictures=0)
        self._granted += 0 if stopped else wanted
        return stopped

    def _rooms(self, pictures: int) -> dict[str, int]:
        """Limit -> edits that it still pays for."""
        rooms, limits = dict[str, int](), self.limits
        if limits.network_rows is not None:
            left = limits.network_rows - self._rows()
            rooms["network_rows"] = left // max(1, self._rows_per_edit)
        if limits.classifier_queries is not None and pictures:
            rooms["classifier_queries"] = (limits.classifier_queries - self._queries()) // pictures
        if limits.wall_minutes is not None:
            spent = self._clock() - self._started
            left_seconds = 60 * limits.wall_minutes - spent
            rooms["wall_minutes"] = _within(left_seconds, spent, self._granted)
        return rooms


def _within(left: float, spent: float, granted: int) -> int:
    """Edits that the time left is enough for, at the pace so far."""
    if left <= 0:
        return 0
    return int(min(left * granted / max(spent, 1e-9), _MANY)) if granted else _MANY


def reached(limit: str) -> str:
    """What is said of a node that a limit kept from being measured."""
    return f"limit reached: {limit}"

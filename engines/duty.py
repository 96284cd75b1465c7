"""Sharing a device with production: never more than a share of its time, and not while production waits.

Duty cycle: work of d seconds that began at s lets the next begin at s + d / share.  In any window of W seconds the device then works
for us at most  share * W + (1 - share) * d_max  seconds, d_max being the longest batch.  A device that is time-sliced makes our work
look longer than it is, which errs on production's side.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from threading import Lock

LOG = logging.getLogger(__name__)

DEFAULT_SHARE = 0.3
WINDOW_SECONDS = 60.0
"""The achieved share is that of the last minute."""

RETRY_SECONDS = 1e-3
"""When another worker has the device, ask again after this."""


class DutyCycle:
    """At most a share of the time, over any window.  Says when the next batch may begin; does not wait itself."""

    def __init__(self, share: float = DEFAULT_SHARE) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"a share of device time is in (0, 1], got {share}")
        self.share = share
        self._free = -math.inf

    def pause(self, now: float) -> float:
        """Seconds until work may begin; 0 when it may begin now."""
        return max(self._free - now, 0.0)

    def worked(self, start: float, seconds: float) -> None:
        """Work that began at ``start`` took so long."""
        self._free = max(self._free, start + seconds / self.share)


class Sharing:
    """A device that others use too.  Thread safe: hand the same object to all workers of one device, which then take turns.

    ``pressed`` says whether production waits now, for instance whether its server's queue time rises; an error counts as yes.
    """

    def __init__(
        self,
        share: float = DEFAULT_SHARE,
        *,
        pressed: Callable[[], bool] | None = None,
        poll_seconds: float = 0.05,
        patience_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._duty, self._pressed, self._clock = DutyCycle(share), pressed, clock
        self.poll_seconds, self.patience_seconds = poll_seconds, patience_seconds
        self._lock = Lock()
        self._busy, self._start, self._born = False, 0.0, clock()
        self._blind = False
        self._worked: deque[tuple[float, float]] = deque()

    @property
    def share(self) -> float:
        """Most that may be used, of the device's time."""
        return self._duty.share

    @property
    def achieved(self) -> float:
        """Share that was used in the last minute, or since the start where that is shorter."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            window = min(max(now - self._born, 1e-9), WINDOW_SECONDS)
            return min(sum(seconds for _, seconds in self._worked) / window, 1.0)

    def begin(self) -> float:
        """0: the device is the caller's until :meth:`end`.  Otherwise: ask again in so many seconds."""
        with self._lock:
            if self._busy:
                return RETRY_SECONDS
            pause = self._duty.pause(self._clock())
            if pause > 0:
                return pause
            if self._asked():
                return self.poll_seconds
            self._busy, self._start = True, self._clock()
            return 0.0

    def end(self, seconds: float) -> None:
        """The device was used for so long."""
        with self._lock:
            self._busy = False
            self._duty.worked(self._start, seconds)
            now = self._clock()
            self._worked.append((now, seconds))
            self._forget(now)

    def _asked(self) -> bool:
        try:
            pressed = self._pressed is not None and self._pressed()
        except Exception as error:  # noqa: BLE001  # whatever the callable reads may be away
            if not self._blind:
                LOG.warning("cannot tell whether production waits (%s); assuming that it does", error)
            self._blind = True
            return True
        self._blind = False
        return pressed

    def _forget(self, now: float) -> None:
        while self._worked and self._worked[0][0] < now - WINDOW_SECONDS:
            self._worked.popleft()

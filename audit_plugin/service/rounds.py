"""Rounds of audits on an interval, one at a time, in one thread."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from structlog.typing import FilteringBoundLogger

from audit_plugin.core.errors import AuditError, StoppedError
from audit_plugin.metrics.process import ProcessHealth


class Rounds:
    """Calls ``run_all`` at once and then every ``interval_seconds``.

    A round that fails is counted, logged and followed by the next; one that is due while another runs is counted as missed.
    """

    def __init__(self, run_all: Callable[[], object], *, interval_seconds: float, log: FilteringBoundLogger) -> None:
        if not interval_seconds > 0:
            raise ValueError(f"interval_seconds must be positive, got {interval_seconds}")
        self._run_all = run_all
        self._interval = interval_seconds
        self._log = log
        self._stop = threading.Event()
        self._health = ProcessHealth(interval_seconds=interval_seconds, next_run_timestamp_seconds=time.time())
        self._thread = threading.Thread(target=self._loop, name="audit-rounds", daemon=True)

    @property
    def health(self) -> ProcessHealth:
        """Counts so far and when the next round is due."""
        return self._health

    @property
    def alive(self) -> bool:
        """Whether rounds are still being started."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the first round."""
        self._thread.start()

    def stop(self, *, grace_seconds: float) -> bool:
        """Start no further round and wait for the current one.  False when it did not end in time; it leaves nothing half done."""
        self._stop.set()
        self._thread.join(grace_seconds)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._one_round()
            passed = int((time.monotonic() - due) // self._interval)  # whole periods that this round took
            due += (passed + 1) * self._interval
            self._health = replace(
                self._health,
                missed=self._health.missed + passed,
                next_run_timestamp_seconds=time.time() + max(0.0, due - time.monotonic()),
            )

    def _one_round(self) -> None:
        self._health = replace(self._health, attempts=self._health.attempts + 1)
        started = time.monotonic()
        try:
            self._run_all()
        except StoppedError:
            self._log.info("round_stopped", effect="what was answered is kept; the next round goes on from it")
        except Exception as error:  # noqa: BLE001  (whatever a round raises, the next one must still start)
            self._health = replace(self._health, failures=self._health.failures + 1, last_round_failed=True)
            self._log.error(
                "run_failed", error=type(error).__name__, message=str(error), exc_info=not isinstance(error, AuditError)
            )
        else:
            self._health = replace(self._health, last_round_failed=False)
            self._log.info("round_finished", seconds=round(time.monotonic() - started, 3))

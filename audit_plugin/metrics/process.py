"""What only the running process knows; everything else is read from the store."""

from collections.abc import Mapping
from dataclasses import dataclass

from audit_plugin.core.capture import CaptureCounts
from audit_plugin.core.load import LoadTotals


@dataclass(frozen=True, kw_only=True)
class ProcessHealth:
    """A snapshot of the service, taken anew for every scrape.  ``None`` means not known, and is not exported."""

    attempts: int = 0
    """Runs begun."""
    failures: int = 0
    """Runs that ended with an error."""
    missed: int = 0
    """Runs that were due while the one before was not over, or nobody was there."""
    last_round_failed: bool = False
    next_run_timestamp_seconds: float | None = None
    interval_seconds: float | None = None
    target_up: bool | None = None
    config_reload_successful: bool | None = None
    config_reload_timestamp_seconds: float | None = None
    engine_cache_bytes: float | None = None
    engine_share: float | None = None
    load: LoadTotals | None = None
    capture: CaptureCounts | None = None
    """None where capture is off."""
    leader: bool | None = None
    """Whether this process runs the audits; of several replicas one does."""
    waiting: int | None = None
    """Runs in the queue."""
    refused: Mapping[str, int] | None = None
    """Reason -> requests that were refused."""

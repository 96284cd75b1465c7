"""What only the running process knows; everything else is read from the store."""

from dataclasses import dataclass

from audit_plugin.core.load import LoadTotals


@dataclass(frozen=True, kw_only=True)
class ProcessHealth:
    """A snapshot of the service, taken anew for every scrape.  ``None`` means not known, and is not exported."""

    attempts: int = 0
    """Rounds of audits started."""
    failures: int = 0
    """Rounds that raised an error."""
    missed: int = 0
    """Rounds that were due while another one was running."""
    last_round_failed: bool = False
    next_run_timestamp_seconds: float | None = None
    interval_seconds: float | None = None
    target_up: bool | None = None
    config_reload_successful: bool | None = None
    config_reload_timestamp_seconds: float | None = None
    engine_cache_bytes: float | None = None
    engine_share: float | None = None
    load: LoadTotals | None = None

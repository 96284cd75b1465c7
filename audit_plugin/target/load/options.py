"""What an audit may ask of a production server.  Defaults are for servers that are busy with customers."""

import zoneinfo
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from audit_plugin.target.load.windows import Window, window


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Budget, times, and when to step aside."""

    requests_per_second: float = 20.0
    """Inference requests, over all models and threads; 0: as fast as answers come."""
    images_per_second: float = 32.0
    """The same for pictures, of which a large request holds up customers longer; 0: whatever the requests hold."""
    in_flight: int = 4
    """Requests under way at a time, of all models together; ``concurrency`` says it for one."""
    busy_share: float = 0.005
    """Most of the time, as a share in (0, 1], that requests of the audit may be under way while others ask the same server, or nobody can tell;
    1: the other bounds alone.  Of customers' requests no larger share meets one of the audit's, so that their slowest hundredth stays what it is."""
    windows: tuple[str, ...] = ()
    """When the server may be asked, e.g. ``22:00-06:00`` or ``Sat,Sun 00:00-24:00``; always when empty.  Outside of them the audit waits."""
    timezone: str = "UTC"
    """Of the windows, e.g. ``Europe/Berlin``."""
    back_off: bool = True
    """Stop asking while requests wait on the server."""
    metrics: str = ""
    """Address of the server's metrics, usually ``http://host:8002/metrics``, which say how many requests wait; its statistics are read over the
    connection when empty, which say how long those that were answered had waited."""
    most_pending: int = 8
    """Requests waiting on the server, of all its models, above which the audit pauses (with ``metrics`` alone)."""
    most_queue_ms: float = 5.0
    """Mean wait in the server's queues since the last look above which the audit pauses; and three times what it was before the audit."""
    look_seconds: float = 1.0
    """Between two looks at the queues."""
    calm_seconds: float = 5.0
    """How long queues must be short again before the audit goes on, at half its pace; the pace comes back within a minute.  And how long nobody else
    must have asked for the audit to believe that it is alone."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        if min(self.requests_per_second, self.images_per_second, self.most_pending, self.most_queue_ms) < 0:
            raise ValueError("rates and limits of `load` are not negative; 0 lifts a rate")
        if not 0 < self.busy_share <= 1:
            raise ValueError(f"`load.busy_share` is a share in (0, 1], got {self.busy_share:g}; 1 lifts it")
        if self.in_flight < 1:
            raise ValueError("`load.in_flight` is at least 1")
        if min(self.look_seconds, self.calm_seconds) <= 0:
            raise ValueError("`load.look_seconds` and `load.calm_seconds` are above 0")
        if self.metrics and not self.metrics.startswith(("http://", "https://")):
            raise ValueError(f"`load.metrics` begins with http:// or https://, got {self.metrics!r}")
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"`load.timezone` {self.timezone!r} is not known here; give one such as UTC or Europe/Berlin"
            ) from error
        for text in self.windows:
            window(text)

    @cached_property
    def open(self) -> tuple[Window, ...]:
        """The windows, read."""
        return tuple(map(window, self.windows))

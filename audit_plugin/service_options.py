"""How the long-running service is configured; apart from it, so that reading a configuration needs no web framework."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import Any, ClassVar

DEFAULT_PORT = 18877
"""Of metrics and health: outside the range that Prometheus' list allocates to exporters (9100-9999, all taken) and below Linux's ephemeral
ports."""
DEFAULT_WEB_PORT = 18878
DAY = 86_400.0
_FORBID: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}


def loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Audits at times of a clock."""

    cron: str
    """Five fields as in crontab: minute, hour, day of month, month, day of week (0 or 7 is Sunday, or ``mon``); where both days are given, either
    will do."""
    timezone: str = "UTC"
    """Of these times, e.g. ``Europe/Berlin``."""
    models: tuple[str, ...] = ()
    """Which models; all that are configured when empty."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        from audit_plugin.crontab import trigger_of

        try:
            comes = trigger_of(self.cron, self.timezone).get_next_fire_time(None, dt.datetime.now(dt.UTC))
        except (ValueError, LookupError) as error:
            raise ValueError(f"{self.cron!r} in {self.timezone!r} is no time of a clock: {error}") from error
        if comes is None:
            raise ValueError(f"{self.cron!r} never comes; give a day that there is")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The long-running service."""

    host: str = "127.0.0.1"
    """Address of metrics and health, which need no token and show no picture."""
    port: int = DEFAULT_PORT
    """Their port; 0 takes a free one."""
    web_host: str = "127.0.0.1"
    """Address of pages and REST API; on anything but loopback nobody gets an answer without a token."""
    web_port: int = DEFAULT_WEB_PORT
    """Their port; 0 takes a free one."""
    tokens: str = ""
    """File of who may do what, kept by `audit-plugin token`; asked for on loopback too once it is named."""
    tls_cert: str = ""
    """PEM certificate chain of pages and REST API; plain HTTP when empty."""
    tls_key: str = ""
    """Its PEM key."""
    interval_seconds: float | None = None
    """Time between the starts of two audits of all models; a day where there are no ``schedules``, else none."""
    schedules: tuple[Schedule, ...] = ()
    """Audits at times of a clock."""
    on_new_version: bool = True
    """Audit a model as soon as its server answers with another version or configuration than the one that was audited last."""
    watch_seconds: float = 30.0
    """Time between two looks at the audited servers: are they there, and which versions do they serve?"""
    webhook_secret_file: str = ""
    """File of the secret by which a model registry signs what it posts to ``/v1/hooks/model-version``; refused without it."""
    grace_seconds: float = 25.0
    """How long a run may take to stop after a signal; below Kubernetes' default of 30."""
    body_bytes: int = 1_000_000
    """Most bytes of a request's body."""
    requests: int = 64
    """Most requests that are answered at a time; more are told to come back."""
    queued: int = 100
    """Most runs that wait; more are refused."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if self.interval_seconds is not None and not self.interval_seconds > 0:
            raise ValueError("interval_seconds must be positive")
        if not self.tokens and not loopback(self.web_host):
            raise ValueError(
                f"pages and API on {self.web_host} need a file of `tokens`; `audit-plugin token FILE --name NAME --role read` makes one; "
                "or leave `web_host` at 127.0.0.1"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key belong together")
        if not self.watch_seconds > 0 or self.body_bytes < 1 or self.requests < 1 or self.queued < 1:
            raise ValueError("need watch_seconds > 0, body_bytes >= 1, requests >= 1 and queued >= 1")
        if self.port == self.web_port != 0:
            raise ValueError("port and web_port must differ: metrics are open to whoever scrapes them, pages are not")

    @property
    def every(self) -> float | None:
        """Seconds between two audits of everything, where there is such an interval."""
        return self.interval_seconds or (None if self.schedules else DAY)

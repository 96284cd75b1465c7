"""``audit-plugin serve``: rounds of audits in one thread, read-only pages in others, until SIGTERM or SIGINT.

The default port lies outside the range that Prometheus' list allocates to exporters (9100-9999, all taken) and below Linux's ephemeral
ports.
"""

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from pydantic import ConfigDict
from structlog.typing import FilteringBoundLogger

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.service.logs import json_logger
from audit_plugin.service.pages import Pages
from audit_plugin.service.rounds import Rounds
from audit_plugin.store.store import Store

DEFAULT_PORT = 18877


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How the service runs."""

    host: str = "127.0.0.1"
    """Address to bind; anything but loopback lets others read the metrics."""
    port: int = DEFAULT_PORT
    """Port of metrics, health and pages; 0 takes a free one."""
    interval_seconds: float = 86_400.0
    """Time between the starts of two rounds of audits."""
    grace_seconds: float = 25.0
    """How long a running round may go on after a signal; below Kubernetes' default of 30."""
    open_reports: bool = False
    """Serve reports, which hold pictures, on other addresses than loopback too."""
    __pydantic_config__ = ConfigDict(extra="forbid")


def serve(
    store: Store,
    run_all: Callable[[], object],
    render: Callable[[AuditResult], str],
    options: ServiceOptions | None = None,
    *,
    health: Callable[[], ProcessHealth] = ProcessHealth,
    audits: Callable[[], Collection[tuple[str, str]] | None] = lambda: None,
    halt: Callable[[], object] = lambda: None,
    log: FilteringBoundLogger | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; ``halt`` then ends what a running round asks of servers.  To be called from the main thread.

    ``run_all`` audits everything once and saves it; ``health`` says what wiring knows (target, configuration); ``audits`` are the
    configured (model, label) pairs.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with running(store, run_all, render, options, health=health, audits=audits, log=log):
            stop.wait()
            halt()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def running(
    store: Store,
    run_all: Callable[[], object],
    render: Callable[[AuditResult], str],
    options: ServiceOptions | None = None,
    *,
    health: Callable[[], ProcessHealth] = ProcessHealth,
    audits: Callable[[], Collection[tuple[str, str]] | None] = lambda: None,
    log: FilteringBoundLogger | None = None,
) -> Iterator[str]:
    """The service as a context; yields its URL."""
    chosen, logger = options or ServiceOptions(), log or json_logger()
    rounds = Rounds(run_all, interval_seconds=chosen.interval_seconds, log=logger)
    pages = Pages(
        store=store,
        collector=AuditCollector(store=store, health=lambda: _together(health(), rounds.health), audits=audits),
        render=render,
        working=lambda: rounds.alive,
        reports=chosen.open_reports or _loopback(chosen.host),
    )
    server = _listen(chosen)
    server.set_app(pages.app())
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    url = f"http://{host}:{server.server_port}"
    threading.Thread(target=server.serve_forever, name="audit-pages", daemon=True).start()
    rounds.start()
    logger.info("service_started", url=url, interval_seconds=chosen.interval_seconds)
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        if not rounds.stop(grace_seconds=chosen.grace_seconds):
            logger.warning("round_abandoned", grace_seconds=chosen.grace_seconds, effect="its scores are kept, its result is not")
        logger.info("service_stopped")


def _together(outside: ProcessHealth, rounds: ProcessHealth) -> ProcessHealth:
    """What wiring knows and what the scheduler knows."""
    return replace(
        rounds,
        target_up=outside.target_up,
        config_reload_successful=outside.config_reload_successful,
        config_reload_timestamp_seconds=outside.config_reload_timestamp_seconds,
        engine_cache_bytes=outside.engine_cache_bytes,
        engine_share=outside.engine_share,
        load=outside.load,
    )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(options: ServiceOptions) -> "_Server":
    kind = _Server6 if ":" in options.host else _Server
    try:
        return kind((options.host, options.port), _QuietHandler)
    except OSError as error:
        raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error}; choose another `host` or `port`") from error


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    timeout = 30  # seconds of silence after which a connection is closed

    def log_message(self, *_: object) -> None:
        """Requests are not logged: scrapes and probes would be all there is."""

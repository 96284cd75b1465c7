"""``audit-plugin serve``: audits in one thread, metrics on one port, pages and REST API on another, until SIGTERM or SIGINT."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

import uvicorn
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from audit_plugin.core.errors import ConfigError
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.service.api import HOOK, read_secret
from audit_plugin.service.backend import Backend
from audit_plugin.service.connections import Bounded
from audit_plugin.service.desk import Desk
from audit_plugin.service.exporter import exporter
from audit_plugin.service.logs import json_logger
from audit_plugin.service.pages import pages
from audit_plugin.service.refusals import Refusals
from audit_plugin.service.security import Gate, tokens_of
from audit_plugin.service.watch import Watch
from audit_plugin.service.web import web
from audit_plugin.service.worker import Worker
from audit_plugin.service_options import ServeOptions

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_WAKE_SECONDS = 1.0
"""How late a signal's handler may run at worst."""
_CLOSE_SECONDS = 3.0
"""How long answers under way may take when the service ends; live streams are cut."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a running service answers."""

    metrics: str
    """URL of the exporter's port."""
    web: str
    """URL of pages and REST API."""


def serve(
    backend: Backend,
    options: ServeOptions | None = None,
    *,
    log: FilteringBoundLogger | None = None,
    reload: Callable[[], bool] = lambda: False,
) -> bool:
    """Serve until SIGTERM or SIGINT, or until a SIGHUP after which ``reload`` says that there is something new to serve: True then.

    To be called from the main thread.
    """
    asked: SimpleQueue[int] = SimpleQueue()  # safe to be put to by a signal's handler
    before = {number: signal.signal(number, lambda given, _: asked.put(given)) for number in _SIGNALS}
    try:
        with running(backend, options, log=log):
            while _next(asked) == signal.SIGHUP:
                if reload():
                    return True
            return False
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _next(asked: SimpleQueue[int]) -> int:
    """The next signal.  One that comes just before the main thread falls asleep does not wake it, so it never sleeps for long."""
    while True:
        with suppress(Empty):
            return asked.get(timeout=_WAKE_SECONDS)


@contextmanager
def running(
    backend: Backend, options: ServeOptions | None = None, *, log: FilteringBoundLogger | None = None
) -> Iterator[Addresses]:
    """The service as a context.  Raises ConfigError for ports, tokens or certificates that cannot be used."""
    chosen, logger = options or ServeOptions(), log or json_logger()
    tokens, secret, refusals = tokens_of(chosen), read_secret(chosen.webhook_secret_file), Refusals()
    worker = Worker(backend, chosen, logger)
    watch = Watch(backend, worker, logger, seconds=chosen.watch_seconds, trigger=chosen.on_new_version)
    audits = frozenset((one.model, one.label) for one in backend.audited)
    collector = AuditCollector(store=backend.store, health=_health(backend, worker, watch, refusals), audits=lambda: audits or None)
    desk = Desk(
        backend=backend, worker=worker, watch=watch, collector=collector, refusals=refusals, queued=chosen.queued, tokens=tokens
    )
    with ExitStack() as leave:
        metrics_socket, web_socket = (
            leave.enter_context(_listen(host, port, key))
            for host, port, key in ((chosen.host, chosen.port, "port"), (chosen.web_host, chosen.web_port, "web_port"))
        )
        where = Addresses(
            metrics=_url("http", chosen.host, metrics_socket),
            web=_url("https" if chosen.tls_cert else "http", chosen.web_host, web_socket),
        )
        gate = Gate(
            app=web(desk, [pages(desk), *backend.routers], webhook_secret=secret),
            tokens=tokens,
            refusals=refusals,
            body_bytes=chosen.body_bytes,
            requests=chosen.requests,
            bounded=backend.bounded,
            signed=frozenset({HOOK}),
        )
        leave.enter_context(_answering(exporter(desk, web=where.web), metrics_socket, "audit-metrics"))
        leave.enter_context(_answering(gate, web_socket, "audit-web", cert=chosen.tls_cert, key=chosen.tls_key))
        worker.start()
        watch.start()
        threading.Thread(
            target=collector.samples, name="audit-first-samples", daemon=True
        ).start()  # large results take seconds to read
        logger.info("service_started", metrics=where.metrics, web=where.web, tokens=tokens is not None)
        try:
            yield where
        finally:
            watch.stop()
            if not worker.stop(grace_seconds=chosen.grace_seconds):
                logger.warning(
                    "run_abandoned",
                    grace_seconds=chosen.grace_seconds,
                    effect="its scores are kept; it is resumed at the next start",
                )
    logger.info("service_stopped")


def _health(backend: Backend, worker: Worker, watch: Watch, refusals: Refusals) -> Callable[[], ProcessHealth]:
    """What wiring knows and what the threads know, put together at every scrape."""

    def health() -> ProcessHealth:
        outside, inside = backend.health(), worker.health
        return replace(
            outside,
            attempts=inside.attempts,
            failures=inside.failures,
            missed=inside.missed,
            last_round_failed=inside.last_round_failed,
            next_run_timestamp_seconds=inside.next_run_timestamp_seconds,
            interval_seconds=inside.interval_seconds,
            leader=inside.leader,
            waiting=worker.waiting,
            target_up=outside.target_up if watch.up is None else watch.up,
            refused=refusals.counts,
        )

    return health


def _listen(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}; choose another `serve.{key}`") from error


def _url(scheme: str, host: str, listening: socket.socket) -> str:
    named = "127.0.0.1" if host in {"0.0.0.0", "::"} else f"[{host}]" if ":" in host else host  # noqa: S104  (compared, not bound)
    return f"{scheme}://{named}:{listening.getsockname()[1]}"


@contextmanager
def _answering(app: ASGIApp, listening: socket.socket, name: str, *, cert: str = "", key: str = "") -> Iterator[None]:
    """A server in a thread of its own, which no signal reaches."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # scrapes and probes would be all there is
        lifespan="off",
        timeout_graceful_shutdown=int(_CLOSE_SECONDS),
        timeout_keep_alive=30,
        server_header=False,
        http=Bounded,
        h11_max_incomplete_event_size=32_768,
        ws="none",
        ssl_certfile=cert or None,
        ssl_keyfile=key or None,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"serve.tls_cert, serve.tls_key: {error}") from error
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_CLOSE_SECONDS + 2)

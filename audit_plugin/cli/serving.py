"""``audit-plugin serve``: the service with a configuration's parts plugged in."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from audit_plugin.config import Loaded
from audit_plugin.report.html import render
from audit_plugin.service.app import ServiceOptions, serve
from audit_plugin.target.health import check_target
from audit_plugin.target.load import stop_all
from audit_plugin.target.options import TargetOptions
from audit_plugin.wiring import Installation, open_store, parted, process_health

_HEALTH_SECONDS = 30.0
"""Time between two questions whether the audited servers are there."""


def serve_forever(loaded: Loaded) -> None:
    """Until SIGTERM or SIGINT."""
    options = loaded.config.serve
    service = ServiceOptions(
        host=options.host, port=options.port, interval_seconds=options.interval_seconds, open_reports=options.open_reports
    )
    audited = frozenset((model.target.model, model.label) for model in loaded.models)
    pictures = _installation(loaded).pictures()
    with open_store(loaded) as store, watched([model.target for model in loaded.models]) as targets:

        def run_all() -> None:
            installation = _installation(loaded)
            results, errors = parted(installation.attempts(store))
            if results:
                installation.report(results, store)
            if errors:
                raise errors[0]

        serve(
            store,
            run_all,
            lambda result: render([result], pictures),
            service,
            health=lambda: process_health(loaded, target_up=targets.up),
            audits=lambda: audited,
            halt=stop_all,
        )


class TargetWatch:
    """Whether all audited servers answered when last asked; None before the first answer."""

    up: bool | None = None


@contextmanager
def watched(targets: Sequence[TargetOptions], *, seconds: float = _HEALTH_SECONDS) -> Iterator[TargetWatch]:
    """Asks in a thread of its own, so that neither scrapes nor probes ever wait for a server."""
    watch, stop = TargetWatch(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            watch.up = all(check_target(target)[0].ok for target in targets)
            stop.wait(seconds)

    thread = threading.Thread(target=ask, name="audit-target-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()


def _installation(loaded: Loaded) -> Installation:
    return Installation(loaded, lambda _done, _total, _what: None)

"""``audit-plugin serve``: the service with a configuration's parts plugged in."""

import time
from dataclasses import dataclass

from audit_plugin.config import Loaded
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.report.html import render
from audit_plugin.service.app import ServiceOptions, serve
from audit_plugin.target.health import check_target
from audit_plugin.wiring import Installation, open_store

_HEALTH_SECONDS = 30.0
"""How long an answer about the target is passed on; a scrape never waits for the server longer than once in this time."""


@dataclass
class _Targets:
    """Whether the audited servers answered, asked between rounds and kept for a while."""

    loaded: Loaded
    up: bool | None = None
    asked: float = float("-inf")

    def ask(self) -> None:
        self.up = all(check_target(model.target)[0].ok for model in self.loaded.models)
        self.asked = time.monotonic()

    def health(self) -> ProcessHealth:
        if time.monotonic() - self.asked > _HEALTH_SECONDS:
            self.ask()
        return ProcessHealth(target_up=self.up, config_reload_successful=True)


def serve_forever(loaded: Loaded) -> None:
    """Until SIGTERM or SIGINT."""
    options, targets = loaded.config.serve, _Targets(loaded)
    with open_store(loaded) as store:

        def run_all() -> None:
            installation = Installation(loaded, lambda _done, _total, _what: None)
            installation.report(installation.audit(store), store)

        pictures = Installation(loaded, lambda _done, _total, _what: None).pictures

        def page(result: AuditResult) -> str:
            return render([result], pictures())

        service = ServiceOptions(
            host=options.host, port=options.port, interval_seconds=options.interval_seconds, open_reports=options.open_reports
        )
        audited = frozenset((model.target.model, model.label) for model in loaded.models)
        serve(store, run_all, page, service, health=targets.health, audits=lambda: audited)

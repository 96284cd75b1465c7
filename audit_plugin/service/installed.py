"""The service of an installation: what a configuration names, plugged in."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from audit_plugin.capture.intake import Intake, capturing
from audit_plugin.capture.receiver import router
from audit_plugin.config import AuditedModel, Loaded
from audit_plugin.core.protocols import Progress
from audit_plugin.core.results import AuditResult
from audit_plugin.report.html import render
from audit_plugin.samples import all_samples
from audit_plugin.service.app import serve
from audit_plugin.service.backend import Attempts, Audited, Backend, Seen
from audit_plugin.store.store import Store
from audit_plugin.target.health import served
from audit_plugin.target.load import resume_all, stop_all
from audit_plugin.wiring import Installation, open_store, parted, process_health

CAPTURE = "/v1/capture"
"""Where production's requests are sent to."""
_LOOKERS = 8


def serve_forever(loaded: Loaded) -> None:
    """Until SIGTERM or SIGINT."""
    with open_store(loaded) as store, _captured(loaded) as intake:
        serve(backend_of(loaded, store, intake), loaded.config.serve)


@contextmanager
def _captured(loaded: Loaded) -> Iterator[Intake | None]:
    """Whatever takes production's requests in, where that is configured."""
    if loaded.config.capture is None:
        yield None
        return
    with capturing(loaded.config.capture, [model.target for model in loaded.models], seed=loaded.config.audit) as intake:
        yield intake


def backend_of(loaded: Loaded, store: Store, intake: Intake | None = None) -> Backend:
    """What the service is told of a configuration."""
    picture = Installation(loaded, _silent).pictures()

    def run(model: str, progress: Progress) -> Attempts:
        installation = Installation(loaded, progress)
        results, errors = parted(installation.attempts(store, only=model or None))
        if results:
            installation.report(results, store)
        return results, errors

    def page(result: AuditResult) -> str:
        return render([result], picture)

    return Backend(
        store=store,
        audit=loaded.config.audit,
        audited=tuple(Audited(model=model.target.model, label=model.label) for model in loaded.models),
        run=run,
        render=page,
        picture=picture,
        samples=all_samples(Path(loaded.config.bank.path), _folder(Path(loaded.config.report)), store.scores),
        look=lambda: _seen(loaded.models),
        health=lambda: replace(process_health(loaded, target_up=None), capture=intake.sink.counts if intake else None),
        halt=stop_all,
        go_on=resume_all,
        routers=(router(intake),) if intake else (),
        bounded=frozenset({CAPTURE}) if intake else frozenset(),
    )


def _folder(report: Path) -> Path:
    """Where the tables beside the report lie."""
    return report.parent if report.suffix in {".html", ".json", ".md"} else report


def _seen(models: Sequence[AuditedModel]) -> tuple[Seen, ...]:
    """Several at a time, so that a server that is away does not keep all others waiting."""
    with ThreadPoolExecutor(min(len(models), _LOOKERS), thread_name_prefix="audit-look") as pool:
        return tuple(pool.map(_look, models))


def _look(model: AuditedModel) -> Seen:
    found = served(model.target)
    return Seen(
        model=model.target.model,
        label=model.label,
        up=found.up,
        detail=found.detail,
        version=found.version,
        config_hash=found.config_hash,
    )


def _silent(done: int, total: int, what: str) -> None:
    """Nobody waits."""

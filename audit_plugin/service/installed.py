"""The service of an installation: what a configuration names, plugged in."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from audit_plugin.capture.intake import Intake, capturing
from audit_plugin.capture.receiver import router
from audit_plugin.config import AuditedModel, Loaded, load
from audit_plugin.core.errors import AuditError, ConfigError, StoreError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.report.html import render
from audit_plugin.samples import all_samples
from audit_plugin.service.app import serve
from audit_plugin.service.backend import Attempts, Audited, Backend, Seen
from audit_plugin.service.logs import json_everywhere
from audit_plugin.store.store import Store
from audit_plugin.target.health import served
from audit_plugin.target.load import resume_all, stop_all
from audit_plugin.wiring import Installation, open_store, parted, process_health, run_before

CAPTURE = "/v1/capture"
"""Where production's requests are sent to."""
_LOOKERS = 8
LOG = structlog.get_logger(__name__)


def serve_forever(path: Path) -> None:
    """Until SIGTERM or SIGINT; SIGHUP reads the configuration again, and one that cannot be used leaves everything as it is."""
    json_everywhere()
    known: Loaded | None = None
    loaded: Loaded | None = load(path)
    reads = _Reads()
    while loaded is not None:
        try:
            fresh = _served(path, loaded, reads)
        except ConfigError as error:
            if known is None:
                raise
            reads.failed(error)
            known, loaded = None, known
        else:
            known, loaded = loaded, fresh


def _served(path: Path, loaded: Loaded, reads: "_Reads") -> Loaded | None:
    """Serve one configuration; the next one, or None at the end."""
    fresh = list[Loaded]()

    def reload() -> bool:
        try:
            fresh.append(load(path))
        except AuditError as error:
            reads.failed(error)
            return False
        reads.worked()
        return True

    resume_all()
    with open_store(loaded) as store, _captured(loaded) as intake:
        backend = backend_of(loaded, store, intake)
        health = backend.health
        return (
            fresh[-1] if serve(replace(backend, health=lambda: reads.told(health())), loaded.config.serve, reload=reload) else None
        )


class _Reads:
    """Whether the configuration could be read when it was last asked for, and when it could."""

    def __init__(self) -> None:
        self._worked, self._at = True, time.time()

    def worked(self) -> None:
        self._worked, self._at = True, time.time()

    def failed(self, error: Exception) -> None:
        self._worked = False
        LOG.error("configuration_not_used", message=str(error), effect="the one before is served on")

    def told(self, health: ProcessHealth) -> ProcessHealth:
        return replace(health, config_reload_successful=self._worked, config_reload_timestamp_seconds=self._at)


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
        return results, (*errors, *_reported(installation, results, store))

    def page(result: AuditResult) -> str:
        before = run_before(result, store)
        return render([result], picture, history=[] if before is None else [before])

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


def _reported(installation: Installation, results: Sequence[AuditResult], store: Store) -> tuple[AuditError, ...]:
    """The report as files; where it cannot be written the results are in the store all the same."""
    try:
        if results:
            installation.report(results, store)
    except (AuditError, OSError) as error:
        return (error if isinstance(error, AuditError) else StoreError(f"the report cannot be written: {error}"),)
    return ()


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

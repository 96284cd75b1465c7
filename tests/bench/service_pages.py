"""How quick the pages are on a store, as a browser gets them: through the gate, one after the other, those of the largest results among them."""

import io
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.testclient import TestClient

from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.service.backend import Audited, Backend
from audit_plugin.service.desk import Desk
from audit_plugin.service.logs import json_logger
from audit_plugin.service.pages import pages
from audit_plugin.service.refusals import Refusals
from audit_plugin.service.security import Gate
from audit_plugin.service.watch import Watch
from audit_plugin.service.web import web
from audit_plugin.service.worker import Worker
from audit_plugin.service_options import ServeOptions
from audit_plugin.store.jobs import JobState
from audit_plugin.store.store import Store
from tests.bench.report import Cell, Report

TIMES = 7


def page_times(path: Path, *, jobs: int = 1_000) -> Mapping[str, Sequence[float]]:
    """Page -> milliseconds of every visit, the first one of a process that was just started first.

    The largest results have been read before, as they are at the first scrape after a start.  ``jobs``: so many runs are asked for before.
    """
    store = Store.open(path)
    try:
        last = store.pages.last()
        for at in range(jobs):
            store.jobs.ask(model=last[at % len(last)].model, cause="api", by="bench")
            job = store.jobs.begin()
            assert job is not None
            store.jobs.line(job.id, "info", "score")
            store.jobs.end(job, JobState.SUCCEEDED, "", [last[at % len(last)].run])
        told = Backend(store=store, audit="bench", audited=tuple(Audited(model=one.model, label=one.label) for one in last))
        desk = _desk(told)
        for _ in range(3):  # the first scrape does not wait for large results to be read
            desk.collector.samples()
        with TestClient(_gate(desk), base_url="http://127.0.0.1", headers={"Accept": "text/html"}) as browser:
            return {page: [_visit(browser, page) for _ in range(TIMES)] for page in _pages(store)}
    finally:
        store.close()


def _pages(store: Store) -> Sequence[str]:
    last = store.pages.last()
    job, finding = store.jobs.jobs(limit=1)[0].id, store.pages.findings(limit=1)[0].finding
    return (
        "/", "/runs", f"/runs/{job}", "/findings?state=all", f"/findings/{finding}", "/help",
        *(f"/models/{one.model}" for one in last),
        *(f"/results/{one.run}" for one in last),
        *(f"/results/{one.run}/pictures" for one in last),
    )  # fmt: skip


def _visit(browser: TestClient, page: str) -> float:
    clock = time.perf_counter()
    answer = browser.get(page)
    spent = 1_000 * (time.perf_counter() - clock)
    answer.raise_for_status()
    return spent


def _desk(told: Backend) -> Desk:
    log = json_logger(io.StringIO())
    worker = Worker(told, ServeOptions(), log)
    return Desk(
        backend=told,
        worker=worker,
        watch=Watch(told, worker, log, seconds=1e9, trigger=False),
        collector=AuditCollector(store=told.store),
        refusals=Refusals(),
        queued=100,
    )


def _gate(desk: Desk) -> Gate:
    app = web(desk, [pages(desk)], webhook_secret=None)
    return Gate(app=app, tokens=None, refusals=desk.refusals, body_bytes=1_000_000, requests=64)


def visits(path: Path, report: Report) -> None:
    """Rows and figures of all pages; of pages of one kind the slowest has the row."""
    times = page_times(path)
    kinds: dict[str, list[Sequence[float]]] = {}
    for page, spent in times.items():
        kinds.setdefault(_kind(page), []).append(spent)
    for kind, found in kinds.items():
        first, later = max(one[0] for one in found), max((one[1:] for one in found), key=statistics.median)
        report.rows += [_row(f"first visit of {kind} after a start", [first]), _row(kind, later)]
    report.figures |= {
        "pages_ms": max(statistics.median(spent[1:]) for spent in times.values()),
        "pages_ms_worst": max(max(spent[1:]) for spent in times.values()),
        "pages_first_ms": max(spent[0] for spent in times.values()),
    }


def _kind(page: str) -> str:
    """The page with ``…`` for what it is about."""
    _, first, *rest = page.partition("?")[0].split("/")
    return "/" + "/".join([first, *(("…", *rest[1:]) if rest else ())])


def _row(what: str, milliseconds: Sequence[float]) -> dict[str, Cell]:
    return {
        "what": what,
        "times": len(milliseconds),
        "median ms": round(statistics.median(milliseconds), 1),
        "worst ms": round(max(milliseconds), 1),
    }

"""Runs that were asked for: the list, one of them, asking for one, cancelling one."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from audit_plugin.service.api import Cursor, Id, Who
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages.shown import back, shown
from audit_plugin.store.jobs import JobState

_RUNS = 50
_LINES = 500
"""Lines of a log on one page."""


def add(router: APIRouter, desk: Desk) -> None:
    """Its routes."""
    store = desk.backend.store

    @router.get("/runs")
    def runs(
        request: Request,
        model: Annotated[str, Query(max_length=500)] = "",
        state: Annotated[str, Query(max_length=40)] = "",
        cursor: Cursor = None,
    ) -> Response:
        """All of them, newest first."""
        wanted = next((one for one in JobState if one == state), None)
        found = store.jobs.jobs(model=model or None, state=wanted, before=cursor, limit=_RUNS + 1)
        return shown(
            request,
            "runs.html.j2",
            jobs=found[:_RUNS],
            next_cursor=found[_RUNS - 1].id if len(found) > _RUNS else None,
            cursor=cursor,
            models=desk.backend.names,
            model=model,
            state=wanted,
        )

    @router.post("/runs")
    def ask(who: Who, model: Annotated[str, Form(max_length=500)] = "") -> Response:
        """Ask for one."""
        return back(f"/runs/{desk.ask(model, cause='page', who=who).id}")

    @router.get("/runs/{run}")
    def run(request: Request, run: Id, after: Annotated[int, Query(ge=0, le=2**62)] = 0) -> Response:
        """One of them: how far it is, what it said, what it left."""
        job = desk.job(run)
        lines = store.jobs.lines(run, after=after)
        return shown(
            request,
            "run.html.j2",
            job=job,
            lines=lines,
            after=after,
            more=len(lines) >= _LINES,
            results=store.pages.summaries(job.runs),
        )

    @router.post("/runs/{run}/cancel")
    def cancel(run: Id, who: Who) -> Response:
        """End it."""
        desk.cancel(run, who=who)
        return back(f"/runs/{run}")

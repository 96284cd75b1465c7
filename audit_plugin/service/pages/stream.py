"""Live progress of a run as server-sent events: ``progress``, ``line`` and ``end``.

Lines of the log carry their ids, so that a browser that was cut off goes on after the last one it saw (``Last-Event-ID``).
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from audit_plugin.core.errors import StoreError
from audit_plugin.service.api import Id
from audit_plugin.service.desk import Desk
from audit_plugin.service.rendering import STATES, share
from audit_plugin.store.jobs import Job, JobLine, Jobs

_TURN: Final = 0.5
"""Seconds between two looks at the store."""
_HEARTBEAT: Final = 15.0
"""Longest silence, in seconds; proxies cut connections that say nothing."""


def add(router: APIRouter, desk: Desk) -> None:
    """Its route, for pages and for programs."""

    @router.get("/v1/runs/{run}/stream")
    @router.get("/runs/{run}/stream")
    def stream(
        run: Id,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        last: Annotated[str, Header(alias="Last-Event-ID", max_length=40)] = "",
    ) -> Response:
        """Until the run ends, or whoever listens goes."""
        desk.job(run)
        begin = int(last) if last.isascii() and last.isdecimal() and int(last) <= 2**62 else after
        return StreamingResponse(
            events(desk.backend.store.jobs, run, after=begin),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )


async def events(jobs: Jobs, run: str, *, after: int, turn: float = _TURN, heartbeat: float = _HEARTBEAT) -> AsyncIterator[str]:
    """The events of one run, from a line of its log on."""
    yield "retry: 2000\n\n"
    said, spoke = "", time.monotonic()
    while True:
        try:
            job = await run_in_threadpool(jobs.job, run)
            lines = await run_in_threadpool(partial(jobs.lines, run, after=after))
        except StoreError:
            job, lines = None, ()
            yield ": the store is away\n\n"
        else:
            if job is None:
                yield _event("end", {"state": "gone"})
                return
        for line in lines:
            after = line.id
            yield _line(line)
        if job is not None and (now := _progress(job)) != said:
            said, spoke = now, time.monotonic()
            yield now
        if lines:
            spoke = time.monotonic()
            continue  # there may be more of them than come at a time
        if job is not None and job.state.ended:
            yield _event("end", {"state": job.state.value, "words": STATES[job.state][1]})
            return
        if time.monotonic() - spoke >= heartbeat:
            spoke = time.monotonic()
            yield ": still there\n\n"
        await asyncio.sleep(turn)


def _progress(job: Job) -> str:
    mark, words = STATES[job.state]
    about = {
        "state": job.state.value, "mark": mark, "words": words, "done": job.done, "total": job.total, "doing": job.doing,
        "percent": share(job.done, job.total),
    }  # fmt: skip
    return _event("progress", about)


def _line(line: JobLine) -> str:
    at = line.at.strftime("%H:%M:%S")
    return _event("line", {"at": at, "level": line.level, "text": line.text}, number=line.id)


def _event(name: str, data: object, *, number: int | None = None) -> str:
    """JSON has no line breaks, so that nothing in a log can end an event."""
    mark = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{mark}data: {json.dumps(data)}\n\n"

"""The HTTP door: ``POST /v1/capture`` takes one CloudEvent; bodies are bounded one by one and all together, while they arrive.

Authentication is the application's that mounts the router.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from audit_plugin.capture.intake import Intake, too_large
from audit_plugin.core.errors import CaptureError

READ_SECONDS = 10.0
"""Longest time that a body may take to arrive."""
_BODIES = 64
_TOGETHER = 4
"""Bodies of full size that may be in memory at a time."""
_THREADS = 2


class Room:
    """What bodies under way may take together."""

    def __init__(self, most_bytes: int, most_bodies: int = _BODIES) -> None:
        self._most_bytes, self._most_bodies = most_bytes, most_bodies
        self._bytes = self._bodies = 0
        self._lock = threading.Lock()

    @contextmanager
    def body(self) -> Iterator["_Body"]:
        """Room for one body, that grows as it arrives.  Raises CaptureError where there is none."""
        self.take(0, bodies=1)
        body = _Body(self)
        try:
            yield body
        finally:
            self.give(len(body.data), bodies=1)

    def take(self, size: int, *, bodies: int = 0) -> None:
        """Raises CaptureError where there is no more."""
        with self._lock:
            if self._bytes + size > self._most_bytes or self._bodies + bodies > self._most_bodies:
                raise CaptureError("queue_full", "too many events arrive at a time; this one was dropped", status=429)
            self._bytes += size
            self._bodies += bodies

    def give(self, size: int, *, bodies: int = 0) -> None:
        """Room that is free again."""
        with self._lock:
            self._bytes -= size
            self._bodies -= bodies


class _Body:
    def __init__(self, room: Room) -> None:
        self._room = room
        self.data = bytearray()

    def add(self, chunk: bytes) -> None:
        self._room.take(len(chunk))
        self.data += chunk


def router(intake: Intake, *, body_bytes: int | None = None, read_seconds: float = READ_SECONDS) -> APIRouter:
    """``POST /v1/capture``: 202, or a problem document with the reason as its code.

    Args:
        intake: what is done with an event.
        body_bytes: largest body; the configuration's when absent, and never more than that.
        read_seconds: longest time that a body may take to arrive.
    """
    options = intake.sink.options
    most = min(body_bytes or options.body_bytes, options.body_bytes)
    room = Room(_TOGETHER * most)
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="audit-capture-reader")
    routes = APIRouter(tags=["capture"])

    async def read(request: Request, body: _Body) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdecimal() and (len(declared) > 15 or int(declared) > most):
            raise too_large(options)
        async for chunk in request.stream():
            if len(body.data) + len(chunk) > most:
                raise too_large(options)
            body.add(chunk)
        return bytes(body.data)

    @routes.post(
        "/v1/capture",
        status_code=202,
        response_model=None,
        summary="Offer one inference event of production for the captured sample",
        responses={code: {"description": said, "content": {"application/problem+json": {}}} for code, said in _REFUSALS.items()},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    kind: {"schema": {}}
                    for kind in ("application/json", "application/octet-stream", "application/cloudevents+json")
                },
            }
        },
    )
    async def capture(request: Request) -> JSONResponse:
        try:
            with room.body() as body:
                try:
                    async with asyncio.timeout(read_seconds):
                        data = await read(request, body)
                except ClientDisconnect as error:
                    raise CaptureError("malformed", "the sender went away before the event was whole") from error
                except TimeoutError as error:
                    raise CaptureError("malformed", f"the event did not arrive within {read_seconds:g} s", status=408) from error
                headers = dict(request.headers)
                taken = await asyncio.get_running_loop().run_in_executor(threads, _accept, intake, headers, data)
        except CaptureError as error:
            intake.sink.received()
            intake.sink.drop(error.reason)
            return problem(error)
        return problem(taken) if isinstance(taken, CaptureError) else JSONResponse({"captured": taken}, status_code=202)

    return routes


def _accept(intake: Intake, headers: dict[str, str], data: bytes) -> int | CaptureError:
    """What the intake took, or its refusal, which it has counted: a new one, for a raised one holds on to all that was read."""
    try:
        return intake.accept(headers, data)
    except CaptureError as error:
        return CaptureError(error.reason, str(error), status=error.status)


_REFUSALS: dict[int | str, str] = {
    400: "The event, or its payload, is malformed.",
    408: "The event did not arrive in time.",
    413: "The event is over the limit.",
    415: "Its content type or encoding is not read.",
    422: "Its model, tensor or picture is not one that is captured.",
    429: "The writer is behind; the event was dropped.",
}


def problem(error: CaptureError) -> JSONResponse:
    """The refusal as a problem document (RFC 9457)."""
    document: dict[str, Any] = {
        "type": f"urn:audit-plugin:problem:capture-{error.reason.replace('_', '-')}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": str(error),
        "reason": error.reason,
    }
    headers = {"Retry-After": "1"} if error.status == HTTPStatus.TOO_MANY_REQUESTS else {}
    return JSONResponse(document, status_code=error.status, media_type="application/problem+json", headers=headers)

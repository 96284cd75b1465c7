"""One result: verdicts, findings, gates; its report and its pictures' bytes."""

import re
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from audit_plugin.report import gates, words
from audit_plugin.service.api import Id, unchanged
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages.shown import shown
from audit_plugin.service.problems import ProblemError
from audit_plugin.service.security import REPORT_POLICY

_MOST: Final = 200
"""Rows of a table on the page; the report has all."""
_KEPT: Final = "private, max-age=86400, immutable"
"""Of pictures: a day, as they may be deleted by request."""
_SHA = re.compile(r"[0-9a-f]{64}")
_MAGIC: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))
"""First bytes of what is ever stored as a picture."""


def add(router: APIRouter, desk: Desk) -> None:
    """Its routes."""
    pages = desk.backend.store.pages

    @router.get("/results/{run}")
    def result(request: Request, run: Id) -> Response:
        """What one audit of one model version found."""
        found = desk.result(run)
        summary = pages.summaries([run])[0]
        failing = gates.not_passed([found])
        return shown(
            request,
            "result.html.j2",
            it=found,
            summary=summary,
            concepts=[(one, words.mark(one)) for one in found.concepts[:_MOST]],
            nodes=[point for point in summary.points if point.class_name],
            findings=found.findings[:_MOST],
            gates=gates.summary([found]),
            failing=[gate for gate, _ in failing[:_MOST]],
            left_out=max(0, len(failing) - _MOST),
            figure=gates.figure,
            importance=words.importance_words,
        )

    @router.get("/reports/{result}")
    def report(result: Id, etag: Annotated[str | None, Header(alias="If-None-Match", max_length=200)] = None) -> Response:
        """A result as its self-contained report."""
        body = desk.backend.render(desk.result(result))
        return unchanged(body, "text/html", etag, {"Content-Security-Policy": REPORT_POLICY})

    @router.get("/pictures/{sha}")
    def picture(sha: str) -> Response:
        """A picture, by the hash of its bytes: what it is called never changes what it shows."""
        content = desk.backend.picture(sha) if _SHA.fullmatch(sha) else None
        kind = None if content is None else next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)
        if content is None or kind is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-picture", "there is no such picture, or it was deleted")
        return Response(content, media_type=kind, headers={"Cache-Control": _KEPT, "ETag": f'"{sha}"'})

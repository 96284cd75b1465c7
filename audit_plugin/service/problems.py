"""Errors as RFC 9457 problem documents: a stable ``type``, one sentence that says what to do, never a stack trace."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

PREFIX = "urn:audit-plugin:problem:"
MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """Raised by whoever answers a request; becomes the answer."""

    def __init__(self, status: HTTPStatus, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})


def problem(status: HTTPStatus, code: str, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """The document."""
    document = {"type": PREFIX + code, "title": status.phrase, "status": status.value, "detail": detail}
    return Response(json.dumps(document) + "\n", status.value, dict(headers or {}), MEDIA_TYPE)


def answer(error: ProblemError) -> Response:
    """The document of an error."""
    return problem(error.status, error.code, error.detail, headers=error.headers)

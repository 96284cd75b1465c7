"""Style, script and icon: read once, kept by browsers until this program changes them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Header
from fastapi.responses import Response

from audit_plugin.service.problems import ProblemError

_KINDS: Final = {"app.css": "text/css", "app.js": "text/javascript", "icon.svg": "image/svg+xml"}
_KEPT = "private, max-age=31536000, immutable"


@dataclass(frozen=True, kw_only=True)
class _File:
    content: bytes
    digest: str


@cache
def _file(name: str) -> _File:
    content = files("audit_plugin.service").joinpath("static", name).read_bytes()
    return _File(content=content, digest=hashlib.sha256(content).hexdigest()[:16])


def asset(name: str) -> str:
    """Path of a file, another one whenever its content is."""
    return f"/static/{name}?v={_file(name).digest}"


def add(router: APIRouter) -> None:
    """Its route."""

    @router.get("/static/{name}")
    def static(
        name: str, v: str = "", etag: Annotated[str | None, Header(alias="If-None-Match", max_length=200)] = None
    ) -> Response:
        if name not in _KINDS:
            raise ProblemError(HTTPStatus.NOT_FOUND, "not-found", "there is no such file")
        file = _file(name)
        tag = f'"{file.digest}"'
        headers = {"ETag": tag, "Cache-Control": _KEPT if v == file.digest else "private, no-cache"}
        if etag is not None and tag in etag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(file.content, media_type=_KINDS[name], headers=headers)

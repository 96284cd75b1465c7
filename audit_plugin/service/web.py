"""The web port: REST API, reports, pictures and pages, behind the gate."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

import audit_plugin
from audit_plugin.core.errors import StoreError
from audit_plugin.service.api import api
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages.shown import problem_page, wants_page
from audit_plugin.service.problems import ProblemError, problem

_ADDRESSES = frozenset({"address", "callback", "callback_url", "endpoint", "host", "href", "target", "uri", "url", "webhook"})
"""Names of fields by which callers elsewhere say what is to be connected to; there are none here."""


def web(desk: Desk, pages: Sequence[APIRouter], *, webhook_secret: bytes | None) -> FastAPI:
    """The application, without the gate."""
    app = FastAPI(
        title="audit_plugin",
        version=audit_plugin.__version__,
        summary="Audits of deployed image classifiers: runs, results, findings.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url="/v1/openapi.json",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    bearer = HTTPBearer(
        auto_error=False, description="A token that `audit-plugin token` made; asked for unless on loopback without tokens."
    )
    app.include_router(api(desk, webhook_secret=webhook_secret), dependencies=[Depends(bearer)])
    for router in pages:
        app.include_router(router)
    _problems(app, desk)
    return app


def _problems(app: FastAPI, desk: Desk) -> None:
    """Whatever goes wrong is a problem document, or for a browser a page that says the same."""

    def told(request: Request, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
        if wants_page(request):
            return problem_page(request, status, detail, headers or {})
        return problem(status, code, detail, headers=headers)

    @app.exception_handler(ProblemError)
    def ours(request: Request, error: ProblemError) -> Response:
        return told(request, error.status, error.code, error.detail, error.headers)

    @app.exception_handler(StoreError)
    def away(request: Request, error: StoreError) -> Response:
        return told(request, HTTPStatus.SERVICE_UNAVAILABLE, "store", str(error), {"Retry-After": "5"})

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        desk.refusals.count("address" if any(map(_names_address, error.errors())) else "invalid")
        return told(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "; ".join(map(_told, error.errors()[:5])))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        detail = (
            "there is nothing here; / and /v1/openapi.json list what there is"
            if status == HTTPStatus.NOT_FOUND
            else str(error.detail)
        )
        return told(request, status, status.phrase.lower().replace(" ", "-"), detail, error.headers)

    @app.exception_handler(Exception)
    def unexpected(request: Request, _error: Exception) -> Response:  # the server logs it
        return told(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "something went wrong here; the service's log says what")


def _names_address(error: Mapping[str, object]) -> bool:
    where = error.get("loc")
    return error.get("type") == "extra_forbidden" and isinstance(where, tuple) and str(where[-1]).lower() in _ADDRESSES


def _told(error: Mapping[str, object]) -> str:
    """Where and what, without repeating what was sent."""
    where = error.get("loc")
    place = ".".join(map(str, where)) if isinstance(where, tuple) else ""
    if error.get("type") == "extra_forbidden":
        return f"{place}: there is no such field"
    return f"{place}: {error.get('msg')}"

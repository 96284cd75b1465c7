"""How every page is answered: a template with who asks, what he may do, and where style and script lie."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse

import audit_plugin
from audit_plugin.service.pages.static import asset
from audit_plugin.service.rendering import TEMPLATES
from audit_plugin.service.tokens import Principal, Role


def shown(request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **what: Any) -> HTMLResponse:
    """A page."""
    who = getattr(request.state, "principal", None)
    body = TEMPLATES.get_template(template).render(
        who=who,
        may_run=isinstance(who, Principal) and who.role.allows(Role.RUN),
        path=request.url.path,
        style=asset("app.css"),
        script=asset("app.js"),
        icon=asset("icon.svg"),
        version=audit_plugin.__version__,
        **what,
    )
    return HTMLResponse(body, status)


def wants_page(request: Request) -> bool:
    """Whether whoever asks is a browser that shows pages, and not a client of the REST API."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")


def problem_page(request: Request, status: HTTPStatus, detail: str, headers: Mapping[str, str]) -> HTMLResponse:
    """What went wrong, as a page."""
    page = shown(request, "problem.html.j2", status=status, title=status.phrase, number=status.value, detail=detail)
    page.headers.update(headers)
    return page


def back(to: str) -> RedirectResponse:
    """To a page, after something was done: reloading does it no second time."""
    return RedirectResponse(to, HTTPStatus.SEE_OTHER)

"""The exporter's port: metrics, health, version and a landing page.  Everything is read from the store; nothing asks an audited server."""

import platform
from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

import audit_plugin
from audit_plugin.core.errors import StoreError
from audit_plugin.metrics.collector import registry
from audit_plugin.service.desk import Desk
from audit_plugin.service.rendering import TEMPLATES

_OK = "ok"


def exporter(desk: Desk, *, web: str) -> FastAPI:
    """The application; ``web`` is where pages and API are."""
    app = FastAPI(title="audit_plugin exporter", version=audit_plugin.__version__, openapi_url=None, docs_url=None, redoc_url=None)
    metrics = registry(desk.collector)

    @app.get("/metrics")
    def scrape(request: Request) -> Response:
        return exposition(metrics, request.headers.get("accept", ""))

    @app.get("/livez")
    def live() -> Response:
        alive = desk.worker.alive
        status = HTTPStatus.OK if alive else HTTPStatus.INTERNAL_SERVER_ERROR
        return PlainTextResponse("ok\n" if alive else "no more runs are begun\n", status)

    @app.get("/readyz")
    def ready(request: Request) -> Response:
        return readiness(desk.readable(), verbose="verbose" in request.query_params)

    @app.get("/version")
    def version() -> Response:
        return JSONResponse({"audit_plugin": audit_plugin.__version__, "python": platform.python_version()})

    @app.get("/")
    def landing() -> Response:
        try:
            audits, problem = [(run.model, run.label, run.state.value) for run in desk.backend.store.newest_records()], ""
        except StoreError as error:
            audits, problem = [], str(error)
        page = TEMPLATES.get_template("exporter.html.j2")
        return HTMLResponse(
            page.render(version=audit_plugin.__version__, web=web, audits=audits, problem=problem), _status(problem)
        )

    return app


def exposition(metrics: CollectorRegistry, accept: str) -> Response:
    """One scrape: OpenMetrics for whoever asks for it, else text 0.0.4."""
    encode, kind = choose_encoder(accept)
    return Response(encode(metrics), headers={"Content-Type": kind})


def readiness(checks: Sequence[tuple[str, str]], *, verbose: bool) -> Response:
    """A line for each check that failed, or for all."""
    well = all(state == _OK for _, state in checks)
    lines = [f"{name}: {state}" for name, state in checks if verbose or state != _OK]
    return PlainTextResponse("\n".join(lines or [_OK]) + "\n", HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)


def _status(problem: str) -> HTTPStatus:
    return HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK

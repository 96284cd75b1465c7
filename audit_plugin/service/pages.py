"""The pages: metrics, health, version, a landing page and reports.  Everything is read from the store; nothing asks the audited server."""

import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from jinja2 import Environment, PackageLoader
from prometheus_client import make_wsgi_app

import audit_plugin
from audit_plugin.alerts.evaluate import firing
from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.collector import AuditCollector, registry
from audit_plugin.store.store import Store

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    kind: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Pages:
    """A WSGI application over one store."""

    store: Store
    collector: AuditCollector
    render: Callable[[AuditResult], str]
    """One result as a self-contained HTML page."""
    working: Callable[[], bool]
    """Whether the service still starts rounds."""
    reports: bool = True
    """Whether pictures and verdicts may be shown to whoever reaches the port."""

    def app(self) -> WSGIApplication:
        """The application; metrics are negotiated by ``prometheus_client``."""
        metrics: WSGIApplication = make_wsgi_app(registry(self.collector))

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/metrics":
                return metrics(environ, start)
            response = self.respond(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""))
            body = response.body.encode()
            headers = {"Content-Type": response.kind, "Content-Length": str(len(body)), "Cache-Control": "no-store", **_HEADERS}
            start(f"{response.status.value} {response.status.phrase}", list(headers.items()))
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

        return answer

    def respond(self, method: str, path: str, query: str = "") -> Response:
        """The page at a path."""
        if method not in {"GET", "HEAD"}:
            return _text(HTTPStatus.METHOD_NOT_ALLOWED, "these pages can only be read")
        if path.startswith("/reports/"):
            return self._guarded(lambda: self._report(unquote(path.removeprefix("/reports/"))))
        fixed: Mapping[str, Callable[[], Response]] = {
            "/": lambda: self._guarded(self._landing),
            "/livez": self._live,
            "/readyz": lambda: self._ready(verbose="verbose" in query),
            "/version": _version,
        }
        page = fixed.get(path)
        return page() if page else _text(HTTPStatus.NOT_FOUND, "no such page; the landing page is at /")

    def _guarded(self, page: Callable[[], Response]) -> Response:
        try:
            return page()
        except StoreError as error:
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    def _live(self) -> Response:
        return (
            _text(HTTPStatus.OK, "ok") if self.working() else _text(HTTPStatus.INTERNAL_SERVER_ERROR, "no more rounds are started")
        )

    def _ready(self, *, verbose: bool) -> Response:
        checks = {"rounds": "ok" if self.working() else "no more rounds are started", "store": "ok"}
        try:
            self.store.runs(limit=1)
        except StoreError as error:
            checks["store"] = str(error)
        status = HTTPStatus.OK if set(checks.values()) == {"ok"} else HTTPStatus.SERVICE_UNAVAILABLE
        lines = [f"{name}: {state}" for name, state in checks.items() if verbose or state != "ok"]
        return _text(status, "\n".join(lines) or "ok")

    def _landing(self) -> Response:
        body = _TEMPLATES.get_template("index.html").render(
            version=audit_plugin.__version__,
            runs=self.store.last_runs(),
            alerts=firing(self.collector.samples(), now=time.time()),
            reports=self.reports,
        )
        return Response(body=body, kind="text/html; charset=utf-8")

    def _report(self, run: str) -> Response:
        if not self.reports:
            return _text(HTTPStatus.FORBIDDEN, "reports are served on loopback only, unless the service is told to open them")
        result = self.store.lookup(run)
        if result is None:
            return _text(HTTPStatus.NOT_FOUND, "there is no such run; the landing page lists the last ones")
        return Response(body=self.render(result), kind="text/html; charset=utf-8")


def _text(status: HTTPStatus, words: str) -> Response:
    return Response(status=status, body=words + "\n")


def _version() -> Response:
    facts: dict[str, Any] = {"audit_plugin": audit_plugin.__version__, "python": platform.python_version()}
    return Response(body=json.dumps(facts) + "\n", kind="application/json")


_TEMPLATES = Environment(loader=PackageLoader("audit_plugin.service"), autoescape=True)

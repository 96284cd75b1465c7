"""The REST API, ``/v1``: OpenAPI 3.1, problem documents, pages by cursor; whoever asks has been let in by :mod:`security` before."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi import Path as InPath

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.results import to_json
from audit_plugin.findings.history import LifeCycle
from audit_plugin.service import schemas
from audit_plugin.service.desk import Desk
from audit_plugin.service.problems import MEDIA_TYPE, ProblemError
from audit_plugin.service.tokens import Principal, Role
from audit_plugin.store.jobs import JobState

HOOK = "/v1/hooks/model-version"
SIGNATURE = "X-Audit-Signature"
_WEBHOOK = Principal(name="webhook", role=Role.RUN)

Id = Annotated[str, InPath(max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Model = Annotated[str | None, Query(description="Of this model only.", max_length=500)]
Limit = Annotated[int, Query(ge=1, le=schemas.MOST_ITEMS)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


def _responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Problem documents that a route may answer with, besides those that any may."""
    content = {MEDIA_TYPE: {"schema": schemas.Problem.model_json_schema()}}
    return {status.value: {"description": status.phrase, "content": content} for status in statuses}


ANYWHERE = _responses(
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_NOT_FOUND = _responses(HTTPStatus.NOT_FOUND)


def who_asks(request: Request) -> Principal:
    """Let in by the gate."""
    found = request.state.principal
    assert isinstance(found, Principal)
    return found


Who = Annotated[Principal, Depends(who_asks)]


def api(desk: Desk, *, webhook_secret: bytes | None) -> APIRouter:
    """All routes."""
    router = APIRouter(prefix="/v1", responses=ANYWHERE)
    _models(router, desk)
    _runs(router, desk)
    _results(router, desk)
    _findings(router, desk)
    _hooks(router, desk, webhook_secret)
    return router


def _models(router: APIRouter, desk: Desk) -> None:
    @router.get("/models", tags=["models"])
    def list_models() -> schemas.Page[schemas.AuditedModel]:
        """All configured models: as their servers show them, and as they were audited last."""
        return schemas.Page(items=[_model(one) for one in desk.standings()])

    @router.get("/models/{model}", tags=["models"], responses=_NOT_FOUND)
    def get_model(
        model: Annotated[str, InPath(max_length=500, pattern=r"^[^\\/\x00-\x1f\x7f]+$")],
    ) -> schemas.Page[schemas.AuditedModel]:
        """One model, once for every column that it is judged by."""
        found = [_model(one) for one in desk.standings() if one.audited.model == model]
        if not found:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-model", "this model is not configured; /v1/models lists those that are"
            )
        return schemas.Page(items=found)


def _model(one: "Any") -> schemas.AuditedModel:
    return schemas.model_of(
        one.seen,
        one.last,
        model=one.audited.model,
        label=one.audited.label,
        findings=sum(each.state is LifeCycle.OPEN for each in one.findings),
    )


def _runs(router: APIRouter, desk: Desk) -> None:
    jobs = desk.backend.store.jobs

    @router.post(
        "/runs",
        tags=["runs"],
        status_code=HTTPStatus.ACCEPTED,
        responses=_responses(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
    )
    def ask_for_a_run(
        who: Who,
        response: Response,
        body: schemas.RunRequest | None = None,
        key: Annotated[
            str | None, Header(alias="Idempotency-Key", max_length=200, description="The same key asks for the same run.")
        ] = None,
    ) -> schemas.Run:
        """Ask for an audit; it is queued, and `Location` says where to look how far it is."""
        job = desk.ask((body and body.model) or "", cause="api", who=who, key=key)
        response.headers["Location"] = f"/v1/runs/{job.id}"
        return schemas.run_of(job)

    @router.get("/runs", tags=["runs"])
    def list_runs(
        model: Model = None, state: JobState | None = None, limit: Limit = 50, cursor: Cursor = None
    ) -> schemas.Page[schemas.Run]:
        """Runs that were asked for, newest first."""
        found = jobs.jobs(model=model, state=state, before=cursor, limit=limit)
        return schemas.Page(items=[schemas.run_of(job) for job in found], next_cursor=_next([job.id for job in found], limit))

    @router.get("/runs/{run}", tags=["runs"], responses=_NOT_FOUND)
    def get_run(run: Id) -> schemas.Run:
        """One run and how far it is."""
        return schemas.run_of(desk.job(run))

    @router.delete(
        "/runs/{run}",
        tags=["runs"],
        status_code=HTTPStatus.ACCEPTED,
        responses=_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    def cancel_run(run: Id, who: Who) -> schemas.Run:
        """Cancel a run: one that waits ends at once, one under way stops asking servers within a second; what was answered is kept."""
        return schemas.run_of(desk.cancel(run, who=who))

    @router.get("/runs/{run}/log", tags=["runs"], responses=_NOT_FOUND)
    def get_log(run: Id, after: Annotated[int, Query(ge=0, le=2**62)] = 0) -> schemas.Page[schemas.LogLine]:
        """Its log, oldest line first, from a line on."""
        desk.job(run)
        lines = jobs.lines(run, after=after)
        return schemas.Page(items=[schemas.LogLine(id=line.id, at=line.at, level=line.level, text=line.text) for line in lines])


def _results(router: APIRouter, desk: Desk) -> None:
    store = desk.backend.store

    @router.get("/results", tags=["results"])
    def list_results(model: Model = None, limit: Limit = 50, cursor: Cursor = None) -> schemas.Page[schemas.Result]:
        """Finished audits of single model versions, newest first."""
        found = store.runs(model=model, limit=limit, before=cursor)
        return schemas.Page(items=[schemas.result_of(one) for one in found], next_cursor=_next([one.run for one in found], limit))

    @router.get(
        "/results/{result}",
        tags=["results"],
        responses=_NOT_FOUND
        | {200: {"content": {"application/json": {"schema": {"type": "object"}}}}, 304: {"description": "Unchanged"}},
        response_class=Response,
    )
    def get_result(result: Id, etag: Annotated[str | None, Header(alias="If-None-Match", max_length=200)] = None) -> Response:
        """The whole document of one result, as the report is rendered from; it never changes but by retention."""
        return unchanged(to_json(desk.result(result)), "application/json", etag)


def _findings(router: APIRouter, desk: Desk) -> None:
    store = desk.backend.store

    @router.get("/findings", tags=["findings"])
    def list_findings(model: Model = None, state: LifeCycle | None = None) -> schemas.Page[schemas.Finding]:
        """Causes of concern, the last seen first."""
        found = [one for one in store.findings(model=model) if state is None or one.state is state]
        return schemas.Page(items=[schemas.finding_of(one) for one in found[: schemas.MOST_ITEMS]])

    @router.get("/findings/{finding}", tags=["findings"], responses=_NOT_FOUND)
    def get_finding(finding: Id) -> schemas.Finding:
        """One of them."""
        return schemas.finding_of(desk.finding(finding))

    @router.post("/findings/{finding}/acknowledgement", tags=["findings"], responses=_NOT_FOUND)
    def acknowledge(finding: Id, body: schemas.Acknowledgement, who: Who) -> schemas.Finding:
        """Answer for a finding until a date; it counts as open again afterwards, and when it comes back after it was gone."""
        return schemas.finding_of(desk.acknowledge(finding, who=who, reason=body.reason, until=body.until))

    @router.get("/alerts", tags=["findings"])
    def list_alerts() -> schemas.Page[schemas.Alert]:
        """What fires by the last stored results, without Prometheus' waiting times."""
        return schemas.Page(items=[schemas.alert_of(one) for one in desk.alerts()])

    @router.get("/events", tags=["findings"])
    def list_events(who: Who, limit: Limit = 50) -> schemas.Page[schemas.AuditEvent]:
        """The append-only audit log, newest first; for role admin."""
        desk.allowed(who, Role.ADMIN)
        return schemas.Page(items=[schemas.event_of(event) for event in store.events(limit=limit)])


def _hooks(router: APIRouter, desk: Desk, secret: bytes | None) -> None:
    @router.post("/hooks/model-version", tags=["runs"], status_code=HTTPStatus.ACCEPTED, responses=_responses(HTTPStatus.NOT_FOUND))
    async def new_version(
        request: Request,
        body: schemas.NewVersion,
        signature: Annotated[
            str | None, Header(alias=SIGNATURE, max_length=200, description="`sha256=` and the HMAC-SHA256 of the body, in hex.")
        ] = None,
    ) -> schemas.Run:
        """For model registries: a model has a new version, audit what its server serves now."""
        if secret is None or not signed(secret, await request.body(), signature or ""):
            desk.refusals.count("signature")
            detail = f"{SIGNATURE} must be sha256= and the HMAC of the body by the secret of `serve.webhook_secret_file`"
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "signature", detail)
        if (going := desk.worker.going(body.model)) is not None and going.model:
            return schemas.run_of(going)  # said again, or sent again by somebody else
        cause = f"webhook {body.model}:{body.version}" if body.version else "webhook"
        return schemas.run_of(desk.ask(body.model, cause=cause, who=_WEBHOOK))


def signed(secret: bytes, body: bytes, signature: str) -> bool:
    """Whether a body was signed with the secret."""
    wanted = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.encode())


def read_secret(path: str) -> bytes | None:
    """The webhook's secret; None where none is configured.  Raises ConfigError."""
    if not path:
        return None
    try:
        secret = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"serve.webhook_secret_file: {error}") from error
    if not secret:
        raise ConfigError(f"serve.webhook_secret_file: {path} is empty")
    return secret


def unchanged(body: str, kind: str, etag: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """A document with an ETag, or 304 for whoever has it already."""
    tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    known = {"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})}
    if etag is not None and tag in _tags(etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=known)
    return Response(body, media_type=kind, headers=known)


def _tags(header: str) -> Iterable[str]:
    return (tag.strip().removeprefix("W/") for tag in header.split(","))


def _next(ids: Sequence[str], limit: int) -> str | None:
    return ids[-1] if len(ids) == limit else None

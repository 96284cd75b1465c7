"""Findings: the list, one of them with its evidence and history, and the form by which somebody answers for it."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from audit_plugin.core.results import AuditResult
from audit_plugin.findings.history import LifeCycle
from audit_plugin.samples import Kind, Sample
from audit_plugin.samples import stored as of_result
from audit_plugin.service.api import Id, Who
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages.shown import back, shown
from audit_plugin.service.problems import ProblemError
from audit_plugin.store.records import FindingRecord

_PAGE: Final = 50
_EVIDENCE: Final = 8
_TEXT: Final = 500
"""Characters of a reason at most."""
PRESETS: Final = {"week": ("1 week", 7), "month": ("1 month", 30), "quarter": ("3 months", 91)}
"""How long an acknowledgement holds: name -> words, days."""


class Sent(BaseModel):
    """The form as a browser sends it."""

    reason: str = Field("", max_length=10_000)
    held: str = Field("", max_length=20)
    day: str = Field("", max_length=20)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """The form as it is shown."""

    reason: str = ""
    held: str = "month"
    day: str = ""
    error: str = ""


def add(router: APIRouter, desk: Desk) -> None:
    """Its routes."""
    pages = desk.backend.store.pages

    @router.get("/findings")
    def findings(
        request: Request,
        state: Annotated[str, Query(max_length=20)] = "open",
        model: Annotated[str, Query(max_length=500)] = "",
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    ) -> Response:
        """A list, the last seen first."""
        wanted = next((one for one in LifeCycle if one == state), None)
        counts = pages.counts(model=model or None)
        total = sum(counts.values()) if wanted is None else counts[wanted]
        last = max(1, -(-total // _PAGE))
        at = min(page, last)
        return shown(
            request,
            "findings.html.j2",
            findings=pages.findings(model=model or None, state=wanted, limit=_PAGE, offset=(at - 1) * _PAGE),
            counts=counts,
            state=wanted,
            model=model,
            models=desk.backend.names,
            page=at,
            pages=last,
            total=total,
        )

    @router.get("/findings/{finding}")
    def finding(request: Request, finding: Id) -> Response:
        """One of them."""
        return _page(request, desk, desk.finding(finding), Filled())

    @router.post("/findings/{finding}")
    def acknowledge(
        request: Request,
        finding: Id,
        who: Who,
        sent: Annotated[Sent, Form()],
    ) -> Response:
        """Answer for it until a date."""
        record = desk.finding(finding)
        filled = Filled(reason=sent.reason.replace("\r\n", "\n").strip(), held=sent.held, day=sent.day)
        try:
            until = ends(filled, dt.datetime.now(dt.UTC))
            desk.acknowledge(finding, who=who, reason=filled.reason, until=until)
        except ValueError as error:
            problem = str(error)
        except ProblemError as error:
            problem = error.detail
        else:
            return back(f"/findings/{finding}#acknowledged")
        return _page(request, desk, record, replace(filled, error=problem), status=HTTPStatus.UNPROCESSABLE_ENTITY)


def ends(filled: Filled, now: dt.datetime) -> dt.datetime:
    """When the acknowledgement ends: a number of days from now, or the end of a day in UTC.  Raises ValueError for a form that cannot be."""
    if not filled.reason:
        raise ValueError("Say why this finding may stand: the reason is empty.")
    if len(filled.reason) > _TEXT:
        raise ValueError(f"The reason has {len(filled.reason)} characters; it may have {_TEXT}.")
    if any(ord(character) < 32 and character not in "\n\t" for character in filled.reason):
        raise ValueError("The reason holds control characters; write it as plain text.")
    if filled.held in PRESETS:
        return now + dt.timedelta(days=PRESETS[filled.held][1])
    if filled.held != "day":
        raise ValueError("Choose until when the acknowledgement holds.")
    try:
        day = dt.date.fromisoformat(filled.day)
    except ValueError:
        raise ValueError("Choose a date, as in 2027-01-31.") from None
    return dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)


def _page(request: Request, desk: Desk, record: FindingRecord, filled: Filled, *, status: HTTPStatus = HTTPStatus.OK) -> Response:
    result = desk.backend.store.lookup(record.last_run)
    told = next((one for one in result.findings if one.id == record.finding), None) if result else None
    return shown(
        request,
        "finding.html.j2",
        status=status,
        it=record,
        told=told,
        result=result,
        evidence=tuple(islice(evidence(result, record), _EVIDENCE)) if result else (),
        kind=_KINDS.get(record.kind),
        history=desk.backend.store.pages.events(record.finding),
        presets=PRESETS,
        filled=filled,
        longest=_TEXT,
        today=dt.datetime.now(dt.UTC).date(),
    )


_KINDS: Final = {
    "reliance": Kind.CONCEPT,
    "fairness": Kind.CONCEPT,
    "semantic": Kind.NODE,
    "counterfactual": Kind.COUNTERFACTUAL,
    "discovered_cue": Kind.WORD,
    "object_absent": Kind.WORD,
}
"""Kind of a finding -> experiment that it rests on."""


def evidence(result: AuditResult, record: FindingRecord) -> Iterator[Sample]:
    """Pictures of what was found."""
    kind = _KINDS.get(record.kind)
    if kind is Kind.CONCEPT:
        found = (one for one in of_result.pairs(result) if one.subject == record.concept)
        yield from sorted(found, key=lambda one: not one.flipped)
    elif kind is Kind.NODE:
        yield from of_result.exemplars(result, {(record.metric.partition(":")[2], record.concept)})
    elif kind is Kind.COUNTERFACTUAL:
        yield from (one for one in of_result.flips(result) if one.flipped)
    elif kind is Kind.WORD:
        yield from (one for one in of_result.words(result) if record.concept in {one.subject, one.of})

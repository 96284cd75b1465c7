"""The first page: every configured model, what fires, what is under way."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from audit_plugin.service.backend import Audited, Seen
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages import trends
from audit_plugin.service.pages.shown import shown
from audit_plugin.store.jobs import JobState
from audit_plugin.store.pages import Summary

_SPARK_RUNS = 12
_LAST = 20
_WAITING = 20
_ALERTS = 30


@dataclass(frozen=True, kw_only=True)
class Card:
    """One configured model."""

    audited: Audited
    seen: Seen | None
    last: Summary | None
    findings: Mapping[str, int]
    """Severity -> open findings."""
    spark: trends.Spark | None

    @property
    def worst(self) -> str:
        """Gravest severity among them; empty without any."""
        return "critical" if "critical" in self.findings else min(self.findings, default="")

    @property
    def open(self) -> int:
        """All of them."""
        return sum(self.findings.values())


def add(router: APIRouter, desk: Desk) -> None:
    """Its route."""

    @router.get("/")
    def fleet(request: Request) -> Response:
        """Everything at a glance."""
        jobs, alerts = desk.backend.store.jobs, desk.alerts()
        return shown(
            request,
            "fleet.html.j2",
            cards=cards(desk),
            alerts=alerts[:_ALERTS],
            more_alerts=max(0, len(alerts) - _ALERTS),
            running=jobs.jobs(state=JobState.RUNNING, limit=_WAITING),
            waiting=jobs.jobs(state=JobState.QUEUED, limit=_WAITING),
            queued=jobs.waiting(),
            last=jobs.jobs(limit=_LAST),
            spark_size=(trends.SPARK_WIDTH, trends.SPARK_HEIGHT),
        )


def cards(desk: Desk) -> tuple[Card, ...]:
    """All configured models, in their order."""
    pages = desk.backend.store.pages
    seen = {(one.model, one.label): one for one in desk.watch.seen}
    found = pages.open_by_model()
    made = []
    for one in desk.backend.audited:
        runs = pages.trend(one.model, one.label, limit=_SPARK_RUNS)
        made.append(
            Card(
                audited=one,
                seen=seen.get((one.model, one.label)),
                last=runs[0] if runs else None,
                findings=found.get((one.model, one.label), {}),
                spark=trends.spark(runs),
            )
        )
    return tuple(made)

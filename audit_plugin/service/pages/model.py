"""One model: importance over time and versions, findings, pictures, results."""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response

from audit_plugin.core.results import AuditResult
from audit_plugin.findings.history import LifeCycle
from audit_plugin.samples import Sample
from audit_plugin.samples import stored as of_result
from audit_plugin.service.api import Cursor
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages import trends
from audit_plugin.service.pages.shown import shown
from audit_plugin.service.problems import ProblemError
from audit_plugin.store.pages import Summary

_TREND_RUNS = 30
_RESULTS = 20
_FINDINGS = 50
_CHARTS = 12
"""Charts that are open at first."""
_GALLERY = 4
"""Pictures of each experiment."""


def add(router: APIRouter, desk: Desk) -> None:
    """Its route."""
    pages = desk.backend.store.pages

    @router.get("/models/{model:path}")
    def model(
        request: Request,
        model: Annotated[str, InPath(max_length=500)],
        label: Annotated[str, Query(max_length=500)] = "",
        cursor: Cursor = None,
    ) -> Response:
        """One model, judged by one column."""
        labels = tuple(dict.fromkeys([*(one.label for one in desk.backend.audited if one.model == model), *pages.labels(model)]))
        if not labels or (label and label not in labels):
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-model", "this model is neither configured nor was it ever audited")
        chosen = label or labels[0]
        runs = pages.trend(model, chosen, limit=_TREND_RUNS)
        results = pages.trend(model, chosen, limit=_RESULTS + 1, before=cursor)
        counts = pages.counts(model=model, label=chosen)
        return shown(
            request,
            "model.html.j2",
            model=model,
            label=chosen,
            labels=labels,
            configured=model in desk.backend.names,
            seen=next((one for one in desk.watch.seen if (one.model, one.label) == (model, chosen)), None),
            last=runs[0] if runs else None,
            runs=len(runs),
            concepts=trends.charts(runs, nodes=False),
            nodes=trends.charts(runs, nodes=True),
            charts=_CHARTS,
            size=(trends.WIDTH, trends.HEIGHT),
            findings=[
                one
                for state in (LifeCycle.OPEN, LifeCycle.ACKNOWLEDGED)
                for one in pages.findings(model=model, label=chosen, state=state, limit=_FINDINGS)
            ],
            counts=counts,
            gallery=_pictures(desk, runs[0]) if runs and runs[0].pictures else (),
            results=results[:_RESULTS],
            next_cursor=results[_RESULTS - 1].run if len(results) > _RESULTS else None,
            cursor=cursor,
        )


def _pictures(desk: Desk, last: Summary) -> tuple[Sample, ...]:
    """Some pictures of the last run: pairs whose decision flips first, edits of the nodes that matter most."""
    result = desk.backend.store.lookup(last.run)
    if result is None:
        return ()
    wanted = frozenset((point.class_name, point.name) for point in last.points if point.class_name and point.must_not)
    return tuple(gallery(result, wanted))


def gallery(result: AuditResult, nodes: frozenset[tuple[str, str]]) -> Iterator[Sample]:
    """A few of every experiment."""
    flipped_first = sorted(of_result.pairs(result), key=lambda one: not one.flipped)
    yield from flipped_first[:_GALLERY]
    yield from islice(of_result.exemplars(result, nodes), _GALLERY)
    yield from islice((one for one in of_result.flips(result) if one.flipped), _GALLERY)
    yield from islice(of_result.shortcuts(result), _GALLERY)
    yield from islice(of_result.words(result), _GALLERY)

"""Before and after: all samples of a result, those that do not count too, in the order of the images unless asked otherwise."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from pydantic import BaseModel, Field

from audit_plugin.core.results import AuditResult
from audit_plugin.samples import Kind, Sample, Samples
from audit_plugin.service.api import Id
from audit_plugin.service.desk import Desk
from audit_plugin.service.pages.shown import shown
from audit_plugin.service.problems import ProblemError

PAGE: Final = 24
SORTS: Final = {"image": "order of the images", "change": "largest change first", "least": "smallest change first"}
FLIPPED: Final = {"any": "flipped or not", "yes": "flipped only", "no": "not flipped"}
COUNTS: Final = {"any": "whether it counts or not", "yes": "those that count", "no": "those that do not count"}
_MOST_CHOICES: Final = 300
"""Concepts or classes to choose from; the rest can be reached by the address."""
_KEPT: Final = 4
"""Results whose samples are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Which samples are wanted, in which order."""

    kind: Kind | None = None
    subject: str = ""
    of: str = ""
    flipped: str = "any"
    counts: str = "any"
    sort: str = "image"
    page: int = 1

    def query(self, **changes: str | int) -> str:
        """As part of an address; what is as by default is left out."""
        asked = replace(self, **changes)  # type: ignore[arg-type]
        plain = Look()
        named = {name: getattr(asked, name) for name in ("kind", "subject", "of", "flipped", "counts", "sort", "page")}
        return urlencode({name: value for name, value in named.items() if value and value != getattr(plain, name)})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What there is to choose from."""

    name: str
    samples: int


class Asked(BaseModel):
    """The choices as they stand in an address; what is not known is as by default."""

    kind: str = Field("", max_length=40)
    subject: str = Field("", max_length=2000)
    of: str = Field("", max_length=500)
    flipped: str = Field("any", max_length=10)
    counts: str = Field("any", max_length=10)
    sort: str = Field("image", max_length=10)
    page: int = Field(1, ge=1, le=1_000_000)

    @property
    def look(self) -> Look:
        """What is meant."""
        return Look(
            kind=next((one for one in Kind if one == self.kind), None),
            subject=self.subject,
            of=self.of,
            flipped=self.flipped if self.flipped in FLIPPED else "any",
            counts=self.counts if self.counts in COUNTS else "any",
            sort=self.sort if self.sort in SORTS else "image",
            page=self.page,
        )


def chosen(samples: Sequence[Sample], look: Look) -> list[Sample]:
    """Those that are wanted, in order; samples without scores stand last where they are sorted by change."""
    found = [
        one
        for one in samples
        if (not look.subject or one.subject == look.subject)
        and (not look.of or one.of == look.of)
        and (look.flipped == "any" or one.flipped is (look.flipped == "yes"))
        and (look.counts == "any" or one.counts is (look.counts == "yes"))
    ]
    if look.sort != "image":
        sign = -1 if look.sort == "change" else 1
        found.sort(key=lambda one: (one.moved is None, sign * abs(one.moved or 0.0)))
    return found


def add(router: APIRouter, desk: Desk) -> None:
    """Its routes."""
    kept = _Kept(desk)

    @router.get("/results/{run}/pictures")
    def explorer(request: Request, run: Id, asked: Annotated[Asked, Query()]) -> Response:
        """A page of samples."""
        result = desk.result(run)
        samples = kept.samples(result)
        own = replace(asked.look, kind=_kind(samples, asked.look))
        of_kind = samples.of(own.kind) if own.kind else ()
        found = chosen(of_kind, own)
        pages = max(1, -(-len(found) // PAGE))
        own = replace(own, page=min(own.page, pages))
        first = (own.page - 1) * PAGE
        return shown(
            request,
            "pictures.html.j2",
            it=result,
            look=own,
            pages=pages,
            total=len(found),
            of_kind=len(of_kind),
            counting=sum(one.counts for one in of_kind),
            samples=list(enumerate(found[first : first + PAGE], first + 1)),
            there=[Choice(name=kind, samples=len(samples.of(kind))) for kind in samples.kinds],
            subjects=_choices(one.subject for one in of_kind),
            classes=_choices(one.of for one in of_kind if one.of),
            partial=samples.partial,
            sorts=SORTS,
            flips=FLIPPED,
            counts=COUNTS,
        )

    @router.get("/results/{run}/pictures/{position}")
    def sample(
        request: Request, run: Id, position: Annotated[int, InPath(ge=1, le=10_000_000)], asked: Annotated[Asked, Query()]
    ) -> Response:
        """One sample, large, and the way to its neighbours."""
        result = desk.result(run)
        samples = kept.samples(result)
        own = replace(asked.look, kind=_kind(samples, asked.look))
        found = chosen(samples.of(own.kind) if own.kind else (), own)
        if position > len(found):
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-sample", f"there are {len(found)} such samples")
        return shown(
            request,
            "sample.html.j2",
            it=result,
            look=replace(own, page=1 + (position - 1) // PAGE),
            at=position,
            total=len(found),
            sample=found[position - 1],
        )


class _Kept:
    """Samples of the last few results that were looked at."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._lock = desk, threading.Lock()
        self._found: OrderedDict[str, tuple[int, Samples]] = OrderedDict()

    def samples(self, result: AuditResult) -> Samples:
        changes = self._desk.backend.store.changes()
        with self._lock:
            before, found = self._found.get(result.run, (-1, None))
        if found is None or before != changes:
            found = self._desk.backend.samples(result)
        with self._lock:
            self._found[result.run] = changes, found
            self._found.move_to_end(result.run)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return found


def _kind(samples: Samples, look: Look) -> Kind | None:
    return look.kind if look.kind in samples.kinds else next(iter(samples.kinds), None)


def _choices(names: Iterable[str]) -> list[Choice]:
    counted = Counter(names)
    return [Choice(name=name, samples=counted[name]) for name in sorted(counted)[:_MOST_CHOICES]]

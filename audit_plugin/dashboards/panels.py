"""Panels as Grafana's classic JSON has them: numbers, lines, intervals as bands, tables and states over time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.dashboards.queries import Query, bound
from audit_plugin.metrics.names import METRICS

Json = dict[str, Any]
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GOOD, WATCH, BAD = "green", "orange", "red"
NO_DATA = "no data"
_RUNBOOK = {alert.name: alert.runbook for alert in ALERTS}
_UNIT = {"ratio": "percentunit", "seconds": "s", "bytes": "bytes"}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How values are written and coloured."""

    unit: str = "short"
    steps: tuple[tuple[str, float | None], ...] = ((GOOD, None),)
    """Colour and the value from which on it holds, ascending, the first from minus infinity."""
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Value -> word and colour, so that nothing is told by colour alone."""
    decimals: int | None = None
    signed: bool = False
    """Whether values may be negative; the axis begins at zero otherwise."""

    def defaults(self) -> Json:
        """Grafana's field defaults."""
        options = {str(value): {"text": word, "color": colour} for value, (word, colour) in self.words.items()}
        steps = [{"color": colour, "value": value} for colour, value in self.steps]
        shown: Json = {"unit": self.unit, "noValue": NO_DATA, "thresholds": {"mode": "absolute", "steps": steps}}
        shown |= {"mappings": [{"type": "value", "options": options}]} if options else {}
        shown |= {} if self.decimals is None else {"decimals": self.decimals}
        return shown | ({} if self.signed else {"min": 0})


def unit_of(metric: str) -> str:
    """Grafana's name of the metric's unit."""
    return _UNIT.get(METRICS[metric].unit, "short")


def alarming(metric: str, **changes: Any) -> Look:
    """Red where the alert on the metric fires; orange from one breach on, where the alert waits for more."""
    condition = bound(metric)
    if (condition.op, condition.bound) == ("==", 0):
        return Look(**{"steps": ((BAD, None), (GOOD, 1)), "words": {0: ("no", BAD), 1: ("yes", GOOD)}} | changes)
    waits: tuple[tuple[str, float | None], ...] = ((WATCH, 1),) if condition.op == ">=" and condition.bound > 1 else ()
    words = {0: ("no", GOOD), 1: ("yes", BAD)} if condition.op == "==" else {}
    steps = ((GOOD, None), *waits, (BAD, condition.bound))
    return Look(**{"unit": unit_of(metric), "steps": steps, "words": words} | changes)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One query of a panel; its legend may name labels of the series: ``{{concept}}``."""

    query: Query
    legend: str = "__auto"
    instant: bool = False
    table: bool = False

    def __post_init__(self) -> None:
        self.query.check(*re.findall(r"\{\{(\w+)\}\}", self.legend))

    def target(self, number: int) -> Json:
        """Grafana's query."""
        shown = {"format": "table"} if self.table else {"legendFormat": self.legend}
        kind = {"instant": True, "range": False} if self.instant else {"instant": False, "range": True}
        return {"refId": ref(number), "datasource": SOURCE, "expr": self.query.text, "editorMode": "code", **kind, **shown}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.  Without ``about`` its description is what the table of names says of its metrics."""

    title: str
    kind: str
    lines: tuple[Line, ...] = ()
    about: str = ""
    look: Look = field(default_factory=Look)
    width: int = 12
    height: int = 8
    alerts: tuple[str, ...] = ()
    """Alerts on what it shows; their runbooks are linked."""
    repeat: str = ""
    """Variable for whose every value the panel is drawn."""
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()

    def document(self, number: int, x: int, y: int) -> Json:
        """Grafana's panel at a place of the grid, 24 wide."""
        defaults = self.look.defaults() | ({"custom": self.custom} if self.custom else {})
        repeated = {"repeat": self.repeat, "repeatDirection": "h", "maxPerRow": 24 // self.width} if self.repeat else {}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.about or self._told(),
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "links": [*_links(self.alerts)],
            "targets": [line.target(place) for place, line in enumerate(self.lines)],
            "fieldConfig": {"defaults": defaults, "overrides": list(self.overrides)},
            "options": self.options,
            "transformations": list(self.transformations),
            **repeated,
        }

    def _told(self) -> str:
        metrics = dict.fromkeys(name for line in self.lines for name in line.query.metrics)
        return "\n\n".join(METRICS[name].help for name in metrics)


def stat(
    title: str, query: Query, look: Look, *, about: str = "", alerts: Sequence[str] = (), legend: str = "", width: int = 4
) -> Panel:
    """The latest value as a number, or as a word."""
    shown: Json = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
    }
    shown |= {"textMode": "value_and_name" if legend else "auto"}
    line = Line(query=query, legend=legend or "__auto", instant=True)
    return Panel(
        title=title, kind="stat", lines=(line,), about=about, look=look, width=width, height=4, alerts=tuple(alerts), options=shown
    )


def graph(title: str, lines: Sequence[Line], look: Look, **more: Any) -> Panel:
    """Lines over time."""
    custom = {"drawStyle": "line", "lineInterpolation": "stepAfter", "spanNulls": False, "showPoints": "never", "fillOpacity": 0}
    return Panel(title=title, kind="timeseries", lines=tuple(lines), look=look, options=_READING, custom=custom, **more)


def band(
    title: str,
    estimate: Query,
    limits: tuple[Query, Query],
    look: Look,
    *,
    others: Sequence[Line] = (),
    counts: Query | None = None,
    **more: Any,
) -> Panel:
    """An estimate within its interval, one series of each; ``counts`` is the number of samples behind them, on an axis of its own."""
    low, high = limits
    lines = [Line(query=low, legend="low"), Line(query=high, legend="high"), Line(query=estimate, legend="estimate"), *others]
    edge = {"lineWidth": 0, "fillOpacity": 0}
    overrides = [
        _override("low", custom=edge, color=_fixed("blue")),
        _override("high", custom=edge | {"fillBelowTo": "low", "fillOpacity": 25}, color=_fixed("blue")),
        _override("estimate", custom={"lineWidth": 2}, color=_fixed("blue")),
    ]
    if counts is not None:
        lines.append(Line(query=counts, legend="samples"))
        apart = {"axisPlacement": "right", "lineStyle": {"fill": "dot", "dash": [2, 6]}, "axisLabel": "samples"}
        overrides.append(_override("samples", custom=apart, color=_fixed("text"), unit="short", min=0))
    overrides += [
        _override(line.legend, custom={"lineStyle": {"fill": "dash", "dash": [8, 6]}}, color=_fixed(BAD)) for line in others
    ]
    drawn = graph(title, lines, look, **more)
    return Panel(**{**vars(drawn), "overrides": tuple(overrides)})


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of a table's rows; without a title only the labels of the query are shown."""

    query: Query
    title: str = ""
    look: Look = field(default_factory=Look)


def table(title: str, columns: Sequence[Column], *, links: Mapping[str, str] | None = None, sort: str = "", **more: Any) -> Panel:
    """One row per combination of the labels that all queries share.  ``links``: column -> address that its cells lead to."""
    hidden = {"Time": True} | {f"Value #{ref(place)}": True for place, column in enumerate(columns) if not column.title}
    named = {f"Value #{ref(place)}": column.title for place, column in enumerate(columns) if column.title}
    overrides = [
        {
            "matcher": {"id": "byName", "options": column.title},
            "properties": [
                *({"id": key, "value": value} for key, value in column.look.defaults().items()),
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ],
        }
        for column in columns
        if column.title
    ]
    overrides += [_linked(name, url) for name, url in (links or {}).items()]
    tidy = {"excludeByName": hidden, "renameByName": named, "indexByName": {}}
    return Panel(
        title=title,
        kind="table",
        lines=tuple(Line(query=column.query, instant=True, table=True) for column in columns),
        options={"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": sort, "desc": True}] if sort else []},
        custom={"align": "auto", "filterable": True},
        overrides=tuple(overrides),
        transformations=({"id": "merge", "options": {}}, {"id": "organize", "options": tidy}),
        **more,
    )


def timeline(title: str, lines: Sequence[Line], look: Look, **more: Any) -> Panel:
    """Words over time."""
    shown = {"mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9, "legend": {"showLegend": False}}
    return Panel(
        title=title, kind="state-timeline", lines=tuple(lines), look=look, options=shown, custom={"fillOpacity": 80}, **more
    )


def text(words: str, *, height: int = 3) -> Panel:
    """A note across the board."""
    return Panel(title="", kind="text", about=" ", options={"mode": "markdown", "content": words}, width=24, height=height)


def ref(number: int) -> str:
    """Grafana's name of a panel's n-th query, from 0.

    >>> ref(0), ref(27)
    ('A', 'AB')
    """
    head, tail = divmod(number, 26)
    return (ref(head - 1) if head else "") + chr(ord("A") + tail)


_READING: Json = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def _links(alerts: Sequence[str]) -> list[Json]:
    books = [{"title": f"Runbook: {name}", "url": "${runbooks}" + _RUNBOOK[name], "targetBlank": True} for name in alerts]
    return [*books, {"title": "Reports", "url": "${service}/", "targetBlank": True}]


def _override(name: str, *, custom: Json, **rest: Any) -> Json:
    properties = {**{f"custom.{key}": value for key, value in custom.items()}, **rest}
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _linked(name: str, url: str) -> Json:
    links = [{"title": "Open", "url": url}]
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "links", "value": links}]}


def _fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}

"""A board: variables, rows of panels, and the document that Grafana reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit_plugin.dashboards.panels import SOURCE, Json, Panel
from audit_plugin.dashboards.queries import Query

_WIDTH = 24
_SCHEMA = 39  # of Grafana 10.3; newer ones migrate it when they load it


@dataclass(frozen=True, kw_only=True)
class Variable:
    """Values of one label of a query, to choose from."""

    name: str
    label: str
    of: Query
    several: bool = False
    """Whether several may be chosen, all at first."""
    column: str = ""
    """The label, where the variable is not called by it."""

    def document(self) -> Json:
        """Grafana's variable."""
        column = self.column or self.name
        self.of.check(column)
        asked = f"label_values({self.of.text}, {column})"
        many: Json = (
            {"multi": True, "includeAll": True, "allValue": ".*"} if self.several else {"multi": False, "includeAll": False}
        )
        chosen: Json = {"current": {"text": ["All"], "value": ["$__all"]}} if self.several else {"current": {}}
        shown: Json = {"type": "query", "name": self.name, "label": self.label, "datasource": SOURCE, "definition": asked}
        return shown | {"query": {"query": asked, "refId": self.name}, "refresh": 2, "sort": 1, "hide": 0} | many | chosen


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels under a heading, laid out from left to right."""

    title: str
    panels: Sequence[Panel]
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    about: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    annotations: Sequence[Json] = ()

    def document(self, *, runbooks: str, service: str) -> Json:
        """Grafana's dashboard.  ``runbooks`` and ``service`` are where the links lead at first; both are variables of the board."""
        fixed = [
            {
                "type": "datasource",
                "name": "datasource",
                "label": "Data source",
                "query": "prometheus",
                "current": {},
                "hide": 0,
                "refresh": 1,
            },
            *(variable.document() for variable in self.variables),
            _place("service", "Audit service", service),
            _place("runbooks", "Runbooks", runbooks),
        ]
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["audit-plugin"],
            "schemaVersion": _SCHEMA,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": {"from": "now-30d", "to": "now"},
            "refresh": "5m",
            "links": [
                {
                    "type": "dashboards",
                    "tags": ["audit-plugin"],
                    "title": "Audits",
                    "asDropdown": False,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                },
                {"type": "link", "title": "Reports", "url": "${service}/", "icon": "doc", "targetBlank": True},
            ],
            "templating": {"list": fixed},
            "annotations": {"list": list(self.annotations)},
            "panels": _laid_out(self.rows),
        }


def audits_ended(of: Query) -> Json:
    """A mark at the end of every audit, from a timestamp's value."""
    of.check("version")
    return {
        "name": "Audits",
        "datasource": SOURCE,
        "enable": True,
        "expr": of.text,
        "useValueForTime": True,
        "step": "5m",
        "titleFormat": "Audited",
        "textFormat": "version {{version}}",
        "iconColor": "blue",
    }


def _place(name: str, label: str, value: str) -> Json:
    chosen: Mapping[str, str] = {"text": value, "value": value}
    return {"type": "textbox", "name": name, "label": label, "query": value, "current": chosen, "hide": 0, "options": []}


def _laid_out(rows: Sequence[Row]) -> list[Json]:
    """Row headings and panels with ids and places.  Panels of a folded row lie inside it."""
    done: list[Json] = []
    number, y = 1, 0
    for row in rows:
        heading: Json = {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.folded,
            "gridPos": _grid(y),
            "panels": [],
        }
        number, y = number + 1, y + 1
        inside: list[Json] = []
        x = tallest = 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y, tallest = 0, y + tallest, 0
            inside.append(panel.document(number, x, y))
            number, x, tallest = number + 1, x + panel.width, max(tallest, panel.height)
        y += tallest
        if row.folded:
            heading["panels"] = inside
            done.append(heading)
        else:
            done += [heading, *inside]
    return done


def _grid(y: int) -> Json:
    return {"x": 0, "y": y, "w": _WIDTH, "h": 1}

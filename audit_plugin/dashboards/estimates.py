"""Estimates of the chosen model and task, as columns of a table and as bands."""

from audit_plugin.dashboards.panels import Column, Look, alarming
from audit_plugin.dashboards.queries import Query, exported

CHOSEN = {"model": "$model", "task": "$task"}
RATIO = Look(unit="percentunit", decimals=1, signed=True)
SHARE = Look(unit="percentunit", decimals=1)
LOGODDS = Look(decimals=2, signed=True)
COUNT = Look(decimals=0)


def one(metric: str, only: dict[str, str] | None = None) -> Query:
    """Series of the chosen model and task."""
    return exported(metric, {**CHOSEN, **(only or {})})


def breach(name: str, *labels: str) -> tuple[Column, ...]:
    """The two conditions on which an alert about it fires."""
    told = ((f"{name}_runs", "breaches in a row"), (f"{name}_strong", "twice over"))
    return tuple(Column(query=one(metric).by(*labels), title=title, look=alarming(metric)) for metric, title in told)


def interval(name: str, unit: str, look: Look, *labels: str) -> tuple[Column, ...]:
    """Columns of an estimate and its limits."""
    said = (
        (f"{name}_{unit}", name.split("_", 1)[1].replace("_", " ")),
        (f"{name}_low_{unit}", "low"),
        (f"{name}_high_{unit}", "high"),
    )
    return tuple(Column(query=one(metric).by(*labels), title=title, look=look) for metric, title in said)


def limits(name: str, unit: str, only: dict[str, str]) -> tuple[Query, tuple[Query, Query]]:
    """An estimate and its limits, as ``band`` takes them."""
    estimate, low, high = (one(metric, only).by() for metric in (f"{name}_{unit}", f"{name}_low_{unit}", f"{name}_high_{unit}"))
    return estimate, (low, high)

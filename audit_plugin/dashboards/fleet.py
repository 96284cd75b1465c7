"""The board of all audited models: who was audited when, and what was found."""

from audit_plugin.dashboards.board import Board, Row, Variable
from audit_plugin.dashboards.panels import BAD, GOOD, WATCH, Column, Line, Look, Panel, alarming, graph, stat, table, text
from audit_plugin.dashboards.queries import Query, ago, exported, lateness, series
from audit_plugin.metrics.names import METRICS

_CHOSEN = {"model": "~$model"}
_AUDIT = ("model", "version", "task")
MODEL_BOARD = (
    "/d/audit-plugin-model?${datasource:queryparam}&${job:queryparam}"
    "&var-model=${__data.fields.model:percentencode}&var-task=${__data.fields.task:percentencode}"
)
_NONE_IS_GOOD = Look(steps=((GOOD, None), (BAD, 1)))
_LATE = Look(unit="percentunit", steps=((GOOD, None), (WATCH, 0.75), (BAD, 1)), decimals=0)


def fleet() -> Board:
    """One line per model and task; below it everything that breached the policy."""
    return Board(
        uid="audit-plugin-fleet",
        title="Audits / Fleet",
        about="All audited classifiers: when they were audited last, whether that audit worked, and what it found.",
        variables=(
            Variable(name="job", label="Job", of=series("build_info"), several=True),
            Variable(name="model", label="Model", of=exported("last_completion_timestamp_seconds"), several=True),
        ),
        rows=(
            Row(title="Now", panels=(_NOTE, *_numbers())),
            Row(title="Models", panels=(_models(), _findings())),
            Row(title="What must not matter, and does", panels=_breaches()),
        ),
    )


_NOTE = text(
    "A model that is not listed is not audited, and **no data does not mean no bias**. Values are those of the last working audit; "
    "an audit that is broken or overdue says nothing, in either direction."
)


def _last(metric: str, *labels: str, state: str = "") -> Query:
    """The metric per model and task, or finer."""
    return exported(metric, _CHOSEN | ({"state": state} if state else {})).by(*(labels or ("model", "task")))


def _count(which: Query) -> Query:
    """How many; zero where audits have ended and none of them is such."""
    return which.by(how="count").or_zero(_last("last_completion_timestamp_seconds").by(how="count"))


def _numbers() -> tuple[Panel, ...]:
    broken, late = _last("audit_broken").compares("== 1"), lateness(_CHOSEN, "model", "task").compares("> 1")
    found = _last("audit_state", state="succeeded_with_findings").compares("== 1")
    missed = (_last("control_missed") + _last("control_false_alarm")).compares("> 0")
    firing = {"alertstate": "firing", "alertname": "~AuditPlugin.*"}
    return (
        stat(
            "Audited",
            _last("last_completion_timestamp_seconds").by(how="count"),
            Look(),
            about="Models and tasks that were ever audited.",
        ),
        stat("With findings", _count(found), _NONE_IS_GOOD, about="Audits whose last run breached the policy.", alerts=_BIAS[:2]),
        stat("Broken", _count(broken), _NONE_IS_GOOD, about="Audits that do not work.", alerts=("AuditPluginAuditBroken",)),
        stat("Overdue", _count(late), _NONE_IS_GOOD, about="Audits that should have ended.", alerts=("AuditPluginAuditStale",)),
        stat(
            "Controls misjudged",
            _count(missed),
            _NONE_IS_GOOD,
            about="Planted models that were judged wrongly; while there are any, silence about others means nothing.",
            alerts=("AuditPluginControlFailed",),
        ),
        stat(
            "Alerts firing",
            series("ALERTS", firing).by(how="count").or_zero(_last("last_completion_timestamp_seconds").by(how="count")),
            _NONE_IS_GOOD,
            about="As Prometheus sees them, waiting times included; needs the shipped rules.",
        ),
    )


def _models() -> Panel:
    columns = (
        Column(query=_last("audit_state", *_AUDIT, "state")),
        Column(
            query=ago(_last("last_completion_timestamp_seconds", *_AUDIT)),
            title="last audited, ago",
            look=Look(unit="s", decimals=0),
        ),
        Column(query=lateness(_CHOSEN, *_AUDIT), title="of the age allowed", look=_LATE),
        Column(query=_last("audit_broken", *_AUDIT), title="broken", look=alarming("audit_broken")),
        Column(query=_last("rows", *_AUDIT), title="rows", look=Look(decimals=0)),
        Column(query=exported("findings", _CHOSEN).by(*_AUDIT, how="sum"), title="findings", look=_NONE_IS_GOOD),
        Column(query=_last("series_dropped", *_AUDIT), title="series left out", look=alarming("series_dropped")),
    )
    return table(
        "Last audits",
        columns,
        about="One line per model and task. The name leads to the board of the model.",
        links={"model": MODEL_BOARD},
        width=24,
        height=9,
        alerts=("AuditPluginAuditBroken", "AuditPluginAuditStale", "AuditPluginSeriesDropped"),
    )


def _findings() -> Panel:
    line = Line(
        query=exported("findings", _CHOSEN).by("model", "task", "severity", how="sum"), legend="{{model}} {{task}}: {{severity}}"
    )
    return graph("Findings", (line,), Look(decimals=0), width=24, height=7)


def _breaches() -> tuple[Panel, ...]:
    """A table per method, of what breached the policy in the last audit alone."""
    concept, node = (*_AUDIT, "concept", "metric"), (*_AUDIT, "class", "node", "kind")
    attribute, cue = (*_AUDIT, "class", "attribute", "role", "method"), (*_AUDIT, "class", "word", "part")
    return (
        _breaching("Concepts", "concept", "concept_importance", concept, _BIAS[:1], samples="concept_rows"),
        _breaching("Groups", "fairness", "fairness_gap", concept, _BIAS[1:2], samples="fairness_rows"),
        _breaching("Nodes of concept trees", "semantic", "semantic_effect", node, _BIAS[2:4], unit="logodds"),
        _breaching("Attributes that flip along", "counterfactual", "counterfactual_attribute_gap", attribute, _BIAS[4:5]),
        _breaching("Words found with no data", "discovered_cue", "cue_uplift", cue, _BIAS[5:6]),
        _breaching("Classes without their object", "class_object_absent", "class_object_absent", (*_AUDIT, "class"), _BIAS[6:]),
    )


def _breaching(
    title: str, breach: str, of: str, labels: tuple[str, ...], alerts: tuple[str, ...], *, samples: str = "", unit: str = "ratio"
) -> Panel:
    """Estimate and limits of what breaches now, its samples, and the audits in a row where the alert waits for two."""
    now = _last(f"{breach}_breach", *labels).compares("== 1")
    look = Look(unit="percentunit", decimals=1, signed=True) if unit == "ratio" else Look(decimals=2, signed=True)
    said = [(f"{of}_{unit}", "estimate", look), (f"{of}_low_{unit}", "low", look), (f"{of}_high_{unit}", "high", look)]
    said += [(samples, "samples", Look(decimals=0))] if samples else []
    runs = f"{breach}_breach_runs"
    said += [(runs, "audits in a row", alarming(runs))] if runs in METRICS else []
    columns = [
        Column(query=_last(name, *labels).where(now, *labels), title=heading, look=shown)
        for name, heading, shown in said
        if name in METRICS
    ]
    return table(title, columns, links={"model": MODEL_BOARD}, alerts=alerts, height=7)


_BIAS = (
    "AuditPluginReliesOnSpuriousConcept",
    "AuditPluginFairnessGap",
    "AuditPluginSpuriousFeature",
    "AuditPluginProtectedAttributeEffect",
    "AuditPluginCounterfactualAttributeGap",
    "AuditPluginDiscoveredCue",
    "AuditPluginClassObjectAbsent",
)

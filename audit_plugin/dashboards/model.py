"""The board of one model: every estimate within its interval, with its samples, and whether the audit can be trusted."""

from audit_plugin.dashboards import rows
from audit_plugin.dashboards.board import Board, Row, Variable, audits_ended
from audit_plugin.dashboards.estimates import CHOSEN, COUNT, LOGODDS, RATIO, SHARE, one
from audit_plugin.dashboards.panels import BAD, GOOD, WATCH, Line, Look, Panel, alarming, graph, stat, text, timeline
from audit_plugin.dashboards.queries import Query, ago, exported, lateness, series


def model() -> Board:
    """Everything that is said about one model in one task."""
    ended, importance, gap = "last_completion_timestamp_seconds", one("concept_importance_ratio"), one("fairness_gap_ratio")
    effect = "semantic_effect_logodds"
    return Board(
        uid="audit-plugin-model",
        title="Audits / One model",
        about="What one classifier relies on, with 95 % intervals, and whether its audits can be trusted.",
        variables=(
            Variable(name="job", label="Job", of=series("build_info"), several=True),
            Variable(name="model", label="Model", of=exported(ended)),
            Variable(name="task", label="Task", of=exported(ended, {"model": "$model"})),
            Variable(name="concept", label="Concept", of=importance, several=True),
            Variable(name="metric", label="Performance metric", of=importance),
            Variable(name="group", label="Groups by", of=gap, several=True, column="concept"),
            Variable(name="figure", label="Fairness figure", of=gap, column="metric"),
            Variable(name="class", label="Class", of=one(effect)),
            Variable(name="node", label="Node of the tree", of=one(effect, {"class": "$class"}), several=True),
            Variable(name="method", label="Counterfactuals by", of=one("counterfactual_flip_ratio"), several=True),
        ),
        rows=(
            Row(title="Last audit", panels=(_NOTE, *_last())),
            Row(title="Concepts: what the performance rests on", panels=rows.concepts()),
            Row(title="Groups", panels=rows.groups()),
            Row(title="Concept tree, on real images", panels=rows.tree(), folded=True),
            Row(title="Counterfactual images", panels=rows.counterfactuals(), folded=True),
            Row(title="Found with no data", panels=rows.discovered(), folded=True),
            Row(title="Suspected shortcuts", panels=rows.shortcuts(), folded=True),
            Row(title="Can it be trusted", panels=_trust()),
        ),
        annotations=(audits_ended(_ended()),),
    )


def _ended() -> Query:
    """When audits ended, in milliseconds as Grafana's annotations want it."""
    ended = exported("last_completion_timestamp_seconds", CHOSEN).by("version")
    return Query(text=f"{ended.text} * 1000", labels=ended.labels, metrics=ended.metrics)


_NOTE = text(
    "Bands are 95 % intervals. **No data does not mean no bias**: what was not tested has no line. After a broken audit the lines go on with the "
    "values of the last working one. A finding says what the model does on drawn or changed pictures; the report shows them."
)


def _last() -> tuple[Panel, ...]:
    late = Look(unit="percentunit", steps=((GOOD, None), (WATCH, 0.75), (BAD, 1)), decimals=0)
    found = Look(steps=((GOOD, None), (WATCH, 1)))
    state = one("audit_state").by("version", "state")
    return (
        stat(
            "State, by version",
            state,
            Look(words={1: ("●", "text")}),
            legend="{{state}}, version {{version}}",
            alerts=("AuditPluginAuditBroken",),
            width=6,
        ),
        stat("Last audited, ago", ago(one("last_completion_timestamp_seconds").by()), Look(unit="s", decimals=0)),
        stat(
            "Age, of what is allowed",
            lateness(CHOSEN),
            late,
            about="1 fires the alert that the audit is overdue.",
            alerts=("AuditPluginAuditStale",),
        ),
        stat("Last working audit, ago", ago(one("last_success_timestamp_seconds").by()), Look(unit="s", decimals=0)),
        stat("Findings", one("findings").by("severity", how="sum"), found, legend="{{severity}}", width=3),
        stat("Rows", one("rows").by(), COUNT, width=3),
    )


def _trust() -> tuple[Panel, ...]:
    gates = Look(words={0: ("pass", GOOD), 1: ("warn", WATCH), 2: ("fail", BAD)})
    real = Line(query=one("performance_real_ratio").by("metric"), legend="{{metric}}, real")
    drawn = Line(query=one("performance_generated_ratio").by("metric"), legend="{{metric}}, drawn")
    placebo = Line(query=one("semantic_placebo_effect_logodds").by("class"), legend="meaningless edits: {{class}}")
    null = Line(query=one("semantic_null_shift_logodds").by("class"), legend="no edit: {{class}}")
    stable = Line(query=one("semantic_stability_tau_ratio").by("class"), legend="order of effects: {{class}}")
    valid = Line(query=one("semantic_tree_valid_edit_ratio").by("class"), legend="valid edits: {{class}}")
    word = Line(query=one("semantic_verifier_precision_ratio").by(), legend="a person agreed")
    return (
        timeline(
            "Gates", (Line(query=one("gate_status").by("gate"), legend="{{gate}}"),), gates, alerts=("AuditPluginAuditBroken",)
        ),
        graph(
            "Performance on real and on drawn pictures",
            (real, drawn),
            SHARE,
            about="The model has to treat drawn pictures like real ones.",
        ),
        graph("Edits that should move nothing", (placebo, null), LOGODDS, alerts=("AuditPluginEffectsUntrustworthy",)),
        graph("Edits", (stable, valid, word), RATIO, alerts=("AuditPluginEffectsUntrustworthy",)),
        stat("Too little data", one("insufficient_data").by(), Look(words={0: ("no", GOOD), 1: ("yes", WATCH)})),
        stat(
            "Tree cannot be relied on",
            one("semantic_untrustworthy").by(),
            alarming("semantic_untrustworthy"),
            alerts=("AuditPluginEffectsUntrustworthy",),
        ),
        stat("Series left out", one("series_dropped").by(), alarming("series_dropped"), alerts=("AuditPluginSeriesDropped",)),
        stat("Pictures drawn", one("images").by(), COUNT),
        stat("Duration", one("last_duration_seconds").by(), Look(unit="s")),
    )

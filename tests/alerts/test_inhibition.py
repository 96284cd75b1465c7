"""Which alerts wait for which: the example Alertmanager configuration, evaluated with Alertmanager's own matching."""

import re
from pathlib import Path

import pytest
import yaml

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.metrics.names import METRICS

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
TREE = ["AuditPluginSpuriousFeature", "AuditPluginSpuriousHit", "AuditPluginVersionDrift", "AuditPluginProtectedAttributeEffect"]
NO_DATA = ["AuditPluginDiscoveredCue", "AuditPluginClassObjectAbsent"]
BIAS = ["AuditPluginReliesOnSpuriousConcept", "AuditPluginFairnessGap", "AuditPluginCounterfactualAttributeGap", *NO_DATA, *TREE]
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def alert(name, model="ham", task="lesion", **labels):
    """Labels of a firing alert."""
    return {"alertname": name, "job": "audit_plugin", "instance": "a:18877", "model": model, "task": task, **labels}


def matches(matchers, labels):
    """All of them, as Alertmanager does: a missing label is empty, regular expressions match in full."""
    for matcher in matchers:
        name, operator, value = MATCHER.fullmatch(matcher).groups()
        told = labels.get(name, "")
        hit = re.fullmatch(value, told) is not None if "~" in operator else told == value
        if hit is operator.startswith("!"):
            return False
    return True


def inhibited(target, source):
    """Whether the source keeps the target quiet."""
    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in CONFIG["inhibit_rules"]
    )


@pytest.mark.parametrize("source", ["AuditPluginAuditBroken", "AuditPluginAuditStale"])
@pytest.mark.parametrize("target", BIAS)
def test_a_broken_or_overdue_audit_accuses_nobody(source, target):
    """Of the same model and task, and of no other; the version may have changed."""
    labels = {"node": "scene/ruler", "version": "2"}
    assert inhibited(alert(target, **labels), alert(source, version="1"))
    assert not inhibited(alert(target, "other", **labels), alert(source))
    assert not inhibited(alert(target, task="age", **labels), alert(source))
    assert not inhibited(alert(source), alert(target))


@pytest.mark.parametrize("target", BIAS)
def test_an_untrustworthy_tree_silences_its_nodes_alone(target):
    """Concepts and groups are judged on other pictures, and their alerts stand."""
    assert inhibited(alert(target), alert("AuditPluginEffectsUntrustworthy")) is (target in TREE)
    assert not inhibited(alert(target, "other"), alert("AuditPluginEffectsUntrustworthy"))


@pytest.mark.parametrize("source", ["AuditPluginEffectsUntrustworthy", *TREE])
def test_what_is_said_about_the_audit_is_never_silenced_by_a_tree(source):
    """A finding hides no broken audit, and doubt does not hide itself."""
    rest = [one.name for one in ALERTS if one.name not in TREE]
    assert not [name for name in rest if inhibited(alert(name), alert(source))]


@pytest.mark.parametrize(
    ("cause", "consequences"),
    [
        ("AuditPluginTargetDown", {"AuditPluginRunFailed", "AuditPluginAuditStale", "AuditPluginAuditBroken"}),
        ("AuditPluginRunFailed", {"AuditPluginAuditStale"}),
    ],
)
def test_a_cause_silences_its_consequences_in_the_same_service(cause, consequences):
    """One ticket, not four; another service's stay."""
    assert {one.name for one in ALERTS if inhibited(alert(one.name), alert(cause))} == consequences
    assert not [one for one in ALERTS if inhibited(alert(one.name) | {"instance": "b:18877"}, alert(cause))]


def test_every_alert_is_about_a_model_or_about_audits():
    """A new finding has to be added to the inhibitions; what is left speaks about the service and its audits."""
    rest = {one.name.removeprefix("AuditPlugin") for one in ALERTS} - {name.removeprefix("AuditPlugin") for name in BIAS}
    service = {"RunFailed", "TargetDown", "ConfigReloadFailed", "SeriesDropped", "CaptureDropping", "Absent"}
    assert rest == service | {"AuditBroken", "AuditStale", "ControlFailed", "EffectsUntrustworthy"}


def test_equal_labels_are_on_both_sides():
    """Two missing labels are equal, too: an inhibition over a label that no series has would reach every model."""
    for metric in (
        "semantic_breach_runs",
        "semantic_breach_strong",
        "spurious_hit_low_ratio",
        "semantic_version_drift_breach",
        "semantic_untrustworthy",
        "counterfactual_breach_runs",
        "discovered_cue_breach",
        "class_object_absent_breach",
        "audit_broken",
    ):
        assert {"model", "task"} <= set(METRICS[metric].labels)


@pytest.mark.parametrize("name", BIAS)
def test_control_models_file_no_ticket_about_themselves(name):
    """The first route that matches takes the alert."""
    takes = [
        next(route["receiver"] for route in CONFIG["route"]["routes"] if matches(route["matchers"], alert(name, model)))
        for model in ("control-planted", "ham")
    ]
    assert takes == ["silent", "tickets"]

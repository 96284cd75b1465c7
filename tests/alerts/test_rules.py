"""The rules that are shipped are the rules that were tested."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.alerts.rules import prometheus_rule, rule_groups, rules_file, write
from audit_plugin.findings.findings import RUNBOOKS
from audit_plugin.metrics.names import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
CASES = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))


def tool(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: prometheus, prometheus-alertmanager)")
    return found


@cache
def document(case):
    """One test file, read once: it is long."""
    return yaml.load(case.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def cases_of(alert):
    """Every evaluated moment of one alert in the committed test files: (title, whether it fires)."""
    for path in CASES:
        for test in document(path)["tests"]:
            for moment in test.get("alert_rule_test", []):
                if moment["alertname"] == alert.name:
                    yield test, bool(moment["exp_alerts"])


@pytest.mark.parametrize(("file", "text"), [("rules.yml", rules_file()), ("prometheusrule.yml", prometheus_rule())])
def test_committed_rules_are_the_generated_ones(file, text):
    """Regenerate with `python -m audit_plugin.alerts deploy/prometheus`."""
    assert (DEPLOY / "prometheus" / file).read_text() == text


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_rules_behave(case, tmp_path):
    """`promtool test rules` over every committed case, with the rules that it speaks of: to evaluate all of them takes four times as long."""
    told = case.read_text()
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if "alert" not in rule or rule["alert"] in told]}
        for group in rule_groups()
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": groups}))
    assert "- ../rules.yml\n" in told
    (tmp_path / "case.yml").write_text(told.replace("- ../rules.yml\n", "- rules.yml\n"))
    done = subprocess.run([tool("promtool"), "test", "rules", tmp_path / "case.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_is_tested_firing_silent_missing_and_stale(alert):
    """Four kinds of input: true, false, `_` and `stale`."""
    cases = list(cases_of(alert))
    inputs = " ".join(series["values"] for test, _ in cases for series in test["input_series"])
    assert {fires for _, fires in cases} == {True, False}
    assert "_" in inputs
    assert "stale" in inputs


@pytest.mark.parametrize(("expression", "fires"), [("vector(1)", True), ("vector(1) == 2", False)], ids=["always", "never"])
@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_cases_notice_a_wrong_rule(alert, expression, fires, tmp_path):
    """An alert that always or never fires fails a case of its own that says otherwise; no other rule is evaluated.  JSON is YAML."""
    (rule,) = (rule for rule in rule_groups()[1]["rules"] if rule["alert"] == alert.name)
    groups = [{"name": "wrong", "rules": [{**rule, "expr": expression}]}]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": groups}))
    case = next(path for path in CASES if f"alertname: {alert.name}\n" in path.read_text())
    own = {**document(case), "rule_files": ["rules.yml"], "tests": [own_case(case, alert, fires=not fires)]}
    (tmp_path / "case.yml").write_text(json.dumps(own))
    command = [tool("promtool"), "test", "rules", tmp_path / "case.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"alertname: {alert.name}" in done.stdout + done.stderr


def own_case(case, alert, *, fires):
    """A test of a file in which this alert fires, or at no moment does, without what it says of others."""
    for test in document(case)["tests"]:
        moments = [moment for moment in test.get("alert_rule_test", []) if moment["alertname"] == alert.name]
        if moments and any(moment["exp_alerts"] for moment in moments) is fires:
            return {key: value for key, value in test.items() if key != "promql_expr_test"} | {"alert_rule_test": moments}
    return pytest.fail(f"no case of {alert.name}, fires={fires}")


def test_rules_speak_of_exported_metrics_only():
    """Every metric name in an expression is in the table."""
    known = {spec.name for spec in METRICS.values()}
    expressions = " ".join(rule["expr"] for group in rule_groups() for rule in group["rules"])
    assert set(re.findall(r"audit_plugin_\w+", expressions)) <= known


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alerts_have_text_severity_and_runbook(alert):
    """CamelCase with one prefix, and a runbook of four chapters."""
    runbook = (DEPLOY / "runbooks" / alert.runbook).read_text()
    assert re.findall(r"^#+ (.*)", runbook, re.MULTILINE) == [alert.name, "Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert re.fullmatch(r"AuditPlugin([A-Z][a-z]+)+", alert.name)
    assert set(re.findall(r"audit_plugin_\w+", runbook)) <= {spec.name for spec in METRICS.values()}


def test_no_runbook_is_orphaned():
    """One file per alert, no more."""
    assert {path.name for path in (DEPLOY / "runbooks").iterdir()} == {alert.runbook for alert in ALERTS}


def test_findings_point_to_runbooks_that_exist():
    """A finding in a report leads to the runbook of its alert."""
    assert set(RUNBOOKS.values()) <= {alert.runbook for alert in ALERTS}


def test_the_manifest_holds_the_same_groups(tmp_path):
    """The operator gets what the plain file has, with the user's own runbook address."""
    write(tmp_path, "https://wiki.example/")
    plain, manifest = (yaml.safe_load((tmp_path / name).read_text()) for name in ("rules.yml", "prometheusrule.yml"))
    assert manifest["spec"] == plain
    assert plain["groups"][1]["rules"][0]["annotations"]["runbook_url"].startswith("https://wiki.example/auditplugin")


def test_the_examples_are_valid():
    """Prometheus and Alertmanager accept the example configurations."""
    checks = [
        ("promtool", "check", "config", "prometheus/prometheus.yml"),
        ("amtool", "check-config", "alertmanager/alertmanager.yml"),
    ]
    for name, *arguments, file in checks:
        done = subprocess.run([tool(name), *arguments, DEPLOY / file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_routes_send_controls_nowhere_and_models_to_tickets():
    """A control model proves the alarm without filing a ticket about itself."""
    config, routes = DEPLOY / "alertmanager" / "alertmanager.yml", []
    for model in ("control-planted", "ham"):
        labels = ["alertname=AuditPluginReliesOnSpuriousConcept", f"model={model}"]
        command = [tool("amtool"), "config", "routes", "test", f"--config.file={config}", *labels]
        routes.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    assert routes == ["silent", "tickets"]

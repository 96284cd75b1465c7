"""The jsonnet mixin gives what the generated files hold, evaluated by a real jsonnet."""

import json
from pathlib import Path

import pytest
import yaml

from audit_plugin.alerts.rules import rule_groups
from audit_plugin.dashboards.files import dashboards

jsonnet = pytest.importorskip("_gojsonnet", reason="gojsonnet is not installed")
MIXIN = Path(__file__).parents[2] / "deploy" / "mixin" / "mixin.libsonnet"


def evaluated(config="{}"):
    """Alerts, rules and dashboards under a user's configuration."""
    text = f"""
        local mixin = (import '{MIXIN}') + {{ _config+:: {config} }};
        [mixin.prometheusAlerts, mixin.prometheusRules, mixin.grafanaDashboards]
    """
    return json.loads(jsonnet.evaluate_snippet("test.jsonnet", text))


def test_the_mixin_holds_what_the_files_hold():
    """Same groups, same dashboards."""
    alerts, rules, boards = evaluated()
    assert [*rules["groups"], *alerts["groups"]] == yaml.safe_load(json.dumps(rule_groups()))
    assert boards == {f"audit-plugin-{name}": json.loads(text) for name, text in dashboards().items()}


def test_a_user_may_say_where_things_are():
    """Runbooks, service, labels and severities, as `_config` has them."""
    config = """{
        runbookUrlPrefix: 'https://wiki.example/', serviceUrl: 'https://audits.example', alertLabels: { team: 'ml' },
        severities: { AuditPluginAbsent: 'critical' },
    }"""
    alerts, _, boards = evaluated(config)
    rules = {rule["alert"]: rule for rule in alerts["groups"][0]["rules"]}
    assert rules["AuditPluginAbsent"]["labels"] == {"severity": "critical", "team": "ml"}
    assert rules["AuditPluginFairnessGap"]["labels"] == {"severity": "warning", "team": "ml"}
    assert rules["AuditPluginAbsent"]["annotations"]["runbook_url"] == "https://wiki.example/auditpluginabsent.md"
    said = dashboards("https://wiki.example/", "https://audits.example")
    assert boards == {f"audit-plugin-{name}": json.loads(text) for name, text in said.items()}

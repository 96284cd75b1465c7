"""Policies: who decided what, and errors that say what to do."""

import datetime as dt

import pytest

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.values import Role
from audit_plugin.findings.policy import Policy, Threshold, default_policy, load_policy, policy_from
from tests.findings.examples import gap

OWNED = {"owner": "ML platform", "reason": "agreed in review", "date": "2026-11-01"}


def test_a_policy_file_is_read(tmp_path):
    """YAML becomes frozen thresholds with dates and roles."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        "name: skin\nthresholds:\n- {name: ruler, concepts: [ruler], threshold: 0.1, owner: A, reason: B, date: 2026-01-02}\n"
    )
    (ruler,) = load_policy(path).thresholds
    assert (ruler.threshold, ruler.date, ruler.metric) == (0.1, dt.date(2026, 1, 2), "importance")


@pytest.mark.parametrize("missing", ["owner", "reason", "date"])
def test_a_threshold_needs_owner_reason_and_date(missing):
    """Nobody can set a bound anonymously."""
    entry = {"name": "t", **OWNED}
    del entry[missing]
    with pytest.raises(ConfigError, match=missing):
        policy_from({"name": "p", "thresholds": [entry]})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"name": "p", "treshold": []}, "treshold: unknown key, did you mean `thresholds`"),
        ({"name": "p", "thresholds": [{"name": "t", **OWNED, "min_n": 3}]}, "did you mean `minimum_n`"),
        ({"name": "p", "thresholds": [{"name": "t", **OWNED}] * 2}, "must be unique, t is there more than once"),
        ({"name": "p", "thresholds": [{"name": "t", **OWNED, "owner": " "}]}, "`owner` must not be empty"),
        ({"name": "p", "thresholds": [{"name": "t", **OWNED, "roles": ["artifact"]}]}, "thresholds.0.roles.0"),
    ],
)
def test_a_broken_policy_names_the_place(document, message):
    """Every mistake is reported with its key."""
    with pytest.raises(ConfigError, match=message):
        policy_from(document)


@pytest.mark.parametrize(("text", "message"), [("- 1", "must be a mapping"), ("a: [", "cannot be read")])
def test_an_unreadable_file_is_a_config_error(tmp_path, text, message):
    """YAML mistakes do not surface as YAML exceptions."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_policy(path)


def test_the_digest_follows_every_bound():
    """Moving one bound changes the digest; rebuilding the same policy does not."""
    one, moved = ({"name": "p", "thresholds": [{"name": "t", **OWNED, "threshold": t}]} for t in (0.1, 0.2))
    assert policy_from(one).digest == policy_from(one).digest != policy_from(moved).digest


@pytest.mark.parametrize("role", list(Role))
def test_without_scope_a_threshold_covers_the_alerting_roles(role):
    """Core and context concepts may matter to the model."""
    threshold = Threshold(name="t", owner="o", reason="r", date=dt.date(2026, 1, 1))
    assert threshold.covers("anything", role) is role.alerts


def test_the_default_policy_covers_every_alerting_role_and_interventional_gaps():
    """Nobody has to write a policy before the first alert."""
    policy = default_policy()
    assert all(any(t.covers("x", role) for t in policy.thresholds) for role in Role if role.alerts)
    assert [t.name for t in policy.thresholds if t.covers_figure(gap())] == ["fairness-gap"]
    assert not any(t.covers_figure(gap(family="observational")) for t in policy.thresholds)


def test_an_empty_policy_is_allowed():
    """A user may audit without any bound."""
    assert Policy(name="none").thresholds == ()

"""What becomes a finding about an attribute that changes along with flipped decisions."""

from dataclasses import replace

import pytest

from audit_plugin.core.counterfactual_results import AttributeGap
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import RunState
from audit_plugin.core.values import Role
from audit_plugin.findings.findings import find, identity
from audit_plugin.findings.history import PastRun
from audit_plugin.findings.policy import Policy, default_policy, policy_from
from tests.findings.examples import result
from tests.methods.counterfactuals.flips import told

KNOWN = told(6)


def gap(low=0.3, *, half=0.1, rho=0.0, role=Role.ARTEFACT, flips=40, opposite="", **changes):
    """An attribute whose gap has its lower limit at ``low``."""
    value = low + half
    base = AttributeGap(
        attribute="ruler=present", gap=Estimate(value=value, low=low, high=value + half), r=value + rho, rho=rho, gained=0.5, lost=0.5,
        concept="ruler", opposite=opposite, role=role, towards=flips // 2, away=flips - flips // 2,
    )  # fmt: skip
    return replace(base, **changes)


def found(*gaps, policy=None, history=()):
    """Findings about the attributes, and no other."""
    return find(result(concepts=(), counterfactuals=replace(KNOWN, gaps=gaps)), policy or default_policy(), history)


def rule(**changes):
    words = {"name": "r", "owner": "o", "reason": "agreed", "date": "2026-11-01", "metric": "counterfactual", "threshold": 0.2}
    return policy_from({"name": "p", "thresholds": [words | changes]})


def test_an_attribute_that_must_not_matter_is_a_finding_in_the_words_of_its_record():
    (one,) = found(gap(rho=0.1))
    assert (one.kind, one.concept, one.metric, one.rule, one.n) == (
        "counterfactual",
        "ruler=present",
        "attribute_gap:square",
        "counterfactual-shortcut",
        40,
    )
    assert one.id == identity("counterfactual", "ham", "lesion", "ruler=present", "attribute_gap:square")
    assert (one.low, one.threshold, one.severity, one.strong) == (0.3, 0.2, "warning", False)
    assert (
        "correlation +0.50 against +0.10, gap +0.40 (95 % interval +0.30 to +0.50, bound 0.20, 40 flips by fastdime" in one.summary
    )
    assert one.runbook == "auditplugincounterfactualattributegap.md"


@pytest.mark.parametrize(("low", "count"), [(0.2, 0), (0.21, 1), (-0.5, 0)])
def test_the_lower_limit_has_to_exceed_the_bound(low, count):
    """At the bound is not beyond it."""
    assert len(found(gap(low))) == count


@pytest.mark.parametrize(
    ("role", "rule_name"),
    [
        (Role.CORE, None),
        (Role.CONTEXT, None),
        (Role.NUISANCE, "counterfactual-shortcut"),
        (Role.ARTEFACT, "counterfactual-shortcut"),
        (Role.PROTECTED, "counterfactual-protected"),
    ],
)
def test_the_role_of_the_concept_decides(role, rule_name):
    """Core concepts may change along, whatever the policy names."""
    assert [one.rule for one in found(gap(role=role))] == ([rule_name] if rule_name else [])
    assert len(found(gap(role=role), policy=rule(concepts=["ruler"]))) == (role is not Role.CORE)


def test_protected_attributes_are_critical():
    assert [one.severity for one in found(gap(role=Role.PROTECTED))] == ["critical"]


def test_edits_that_leave_an_attribute_alone_accuse_nobody():
    """Where the data tie it to the other class the gap is large although nothing changed along."""
    assert found(gap(0.5, rho=-0.6)) == ()
    assert len(found(gap(0.5, rho=-0.2))) == 1


def test_of_two_levels_both_directions_are_held():
    """Flips that take the ruler away are told as its absence."""
    away = gap(0.0, gap=Estimate(value=-0.6, low=-0.7, high=-0.5), r=-0.6, opposite="ruler=absent")
    (one,) = found(away)
    assert (one.concept, one.low, one.high, one.strong) == ("ruler=absent", 0.5, 0.7, True)
    assert found(replace(away, opposite="")) == ()


def test_few_flips_accuse_nobody():
    """Fewer than 20, whatever the policy says; it may ask for more."""
    assert found(gap(flips=19), policy=rule(minimum_n=1)) == ()
    assert len(found(gap(flips=20), policy=rule(minimum_n=1))) == 1
    assert found(gap(flips=40), policy=rule(minimum_n=41)) == ()


def test_twice_the_bound_is_strong_and_a_second_audit_on_other_rows_confirms():
    (one,) = found(gap(0.41))
    assert (one.strong, one.severity, one.confirmed) == (True, "critical", True)
    (alone,) = found(gap(0.3))
    past = PastRun(run="1", state=RunState.SUCCEEDED_WITH_FINDINGS, evidence="other rows", breaches=frozenset({alone.id}))
    (again,) = found(gap(0.3), history=(past,))
    assert (alone.confirmed, again.confirmed, again.breach_runs) == (False, True, 2)


def test_the_bound_is_no_bound_of_concepts_and_silence_needs_no_counterfactuals():
    """A threshold for counterfactuals does not judge permuted concepts."""
    assert [one.kind for one in find(result(counterfactuals=None), rule(threshold=0.0))] == []
    assert found(gap(), policy=Policy(name="none")) == ()

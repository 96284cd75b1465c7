"""What a release may fail on, and what it may not."""

from dataclasses import replace

import pytest

from audit_plugin.comparing import compare
from audit_plugin.core.comparison_results import UNDECIDED, Change
from audit_plugin.core.results import GateStatus, RunState, Verdict
from audit_plugin.core.values import Role
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.findings.release import FailOn, judge
from tests.bank.world import FakeScores
from tests.findings.examples import clean, concept, gap, gate, result
from tests.findings.trees import node, tree

RELIES, LITTLE, FREE = (concept("site", Role.NUISANCE, low=0.2),), (concept("site", Role.NUISANCE, low=0.05),), (clean("site"),)


def audited(number, **changes):
    return conclude(replace(result(run=f"run-{number}", bank=f"bank-{number}", version=str(number)), **changes), default_policy())


def judged(old, new, *fail_on):
    before, after = audited(1, concepts=old), audited(2, concepts=new)
    return judge(after, compare(before, after, None, FakeScores()), {FailOn(one) for one in fail_on})


@pytest.mark.parametrize(
    ("concepts", "fail_on", "fails"),
    [
        ((FREE, RELIES), ("regression",), True),
        ((RELIES, FREE), ("regression",), False),
        ((RELIES, RELIES), ("regression",), False),
        ((RELIES, RELIES), ("findings",), True),
        ((RELIES, RELIES), ("confirmed",), True),
        ((LITTLE, LITTLE), ("confirmed",), True),
        ((RELIES, RELIES), ("new-findings",), False),
        ((FREE, LITTLE), ("new-findings",), True),
        ((FREE, FREE), ("findings", "regression"), False),
        ((FREE, FREE), ("undecided",), True),
    ],
)
def test_what_is_named_fails_and_nothing_else(concepts, fail_on, fails):
    assert bool(judged(*concepts, *fail_on).of("failed")) is fails


def test_a_finding_that_is_not_asked_about_is_told_all_the_same():
    (case,) = (case for case in judged(RELIES, RELIES, "regression").cases if case.group == "concept")
    assert case.status == "passed"
    assert "site" in case.message


def test_findings_of_every_kind_have_a_case():
    """A concept, a fairness attribute, a node, and what belongs to none of them."""
    found = audited(1, fairness=(gap(),), diffex=tree(node()))
    failed = judge(found, None, {FailOn.FINDINGS}).of("failed")
    assert {case.group for case in failed} == {"concept", "fairness", "node"}
    other = replace(found, findings=(replace(found.findings[0], kind="discovered_cue", concept="sofa"),))
    assert {case.group for case in judge(other, None, {FailOn.FINDINGS}).of("failed")} == {"finding"}


def test_gates_fail_only_when_asked():
    """Else a failed validity check is skipped with its consequence: it limits what may be said."""
    found = audited(1, gates=(gate("G4", GateStatus.FAIL), gate("G1"), gate("G2", GateStatus.NOT_RUN)))
    assert [case.status for case in judge(found, None, set()).cases if case.group == "gate"] == ["skipped", "passed", "skipped"]
    assert next(case.status for case in judge(found, None, {FailOn.GATES}).cases if case.group == "gate") == "failed"


@pytest.mark.parametrize(("state", "errors"), [(RunState.FAILED, 1), (RunState.SUCCEEDED, 0)])
def test_a_broken_audit_is_an_error_and_nothing_else(state, errors):
    told = judge(audited(1, state=state, concepts=FREE), None, {FailOn.FINDINGS})
    assert len(told.of("error")) == errors
    assert (len(told.cases) == 1) is bool(errors)


def test_nothing_to_compare_with_is_an_error():
    """Neither without a baseline, nor with one that shares nothing."""
    alone = judge(audited(2, concepts=FREE), None, {FailOn.REGRESSION})
    assert [case.message for case in alone.of("error")] == ["there is no earlier run to compare with"]
    apart = judged((clean("other"),), FREE, "regression")
    assert [case.message for case in apart.of("error")] == [f"could not be decided: {UNDECIDED}"]


SILENT = (concept("site", Role.NUISANCE, low=0.05, verdict=Verdict.NOT_ASSESSABLE),)


@pytest.mark.parametrize(("fail_on", "status"), [((), "error"), (("undecided",), "failed")])
@pytest.mark.parametrize("asked", ["regression", "findings", "confirmed", "new-findings"])
def test_what_is_not_assessable_decides_nothing(asked, fail_on, status):
    """Neither that nothing regressed nor that nothing was found; --fail-on undecided makes it a failure."""
    told = judged(SILENT, SILENT, asked, *fail_on)
    assert any(case.message.startswith("could not be decided") for case in told.of(status))
    assert bool(told.of("error")) is (status == "error")
    assert not judged(SILENT, SILENT, "gates").of("error")


@pytest.mark.parametrize("asked", ["regression", "findings"])
def test_one_concept_that_is_assessable_decides(asked):
    both = (*SILENT, clean("skin"))
    assert not judged(both, both, asked).of("error")


def test_performance_alone_does_not_decide_about_bias():
    """An audit whose concepts say nothing is not released because it is as good on real images."""
    before, after = audited(1, concepts=SILENT), audited(2, concepts=SILENT)
    comparison = compare(before, after, None, FakeScores())
    same = tuple(
        replace(one, verdict=Change.UNCHANGED) if one.quantity == "performance" and one.matters else one
        for one in comparison.differences
    )
    assert same != comparison.differences
    assert not replace(comparison, differences=same).decided
    assert replace(comparison, differences=tuple(one for one in same if one.quantity == "performance")).decided

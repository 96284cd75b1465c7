"""What becomes a finding, what confirms it, and what never may."""

import datetime as dt
import json
from dataclasses import replace

import pytest

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import GateStatus, RunState, Verdict, from_json, to_json
from audit_plugin.core.values import Role
from audit_plugin.findings.findings import conclude, fairness_metric, find
from audit_plugin.findings.history import LifeCycle, PastRun, life_cycle
from audit_plugin.findings.policy import Policy, Threshold, default_policy
from tests.findings.examples import concept, gap, gate, result

POLICY = default_policy()


def past(finding, evidence="rows-0", state=RunState.SUCCEEDED_WITH_FINDINGS, run="0"):
    return PastRun(run=run, state=state, evidence=evidence, breaches=frozenset({finding} if finding else ()))


def test_reliance_on_an_artefact_is_the_only_finding():
    """The clean concept stays silent, the shortcut names model, bound and owner."""
    (found,) = find(result(), POLICY)
    assert (found.kind, found.concept, found.metric, found.threshold) == ("reliance", "watermark", "auroc", 0.02)
    assert "watermark" in found.summary
    assert found.owner


@pytest.mark.parametrize("role", [Role.CORE, Role.CONTEXT])
def test_reliance_on_what_may_matter_is_no_finding(role):
    """Core and context concepts never raise a bias finding."""
    assert find(result(concepts=(concept(role=role),)), POLICY) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": Verdict.INCONCLUSIVE},
        {"verdict": Verdict.NOT_ASSESSABLE},
        {"n_rows": 99},
        {"validity": "leaks_into=shape"},
        {"validity": "leaks_into=shape", "leak_adjusted": Estimate(value=0.05, low=0.01, high=0.09)},
    ],
)
def test_what_is_not_shown_is_not_found(changes):
    """No verdict, too few rows, or an effect that may belong to a leaked concept: no finding."""
    assert find(result(concepts=(concept(**changes),)), POLICY) == ()


def test_a_leaking_edit_counts_once_its_adjusted_interval_clears_the_margin():
    """The leak-adjusted bound may confirm what the plain one claims."""
    adjusted = Estimate(value=0.05, low=0.03, high=0.07)
    assert find(result(concepts=(concept(validity="leaks_into=shape", leak_adjusted=adjusted),)), POLICY)


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.INVALID_GENERATOR, RunState.INSUFFICIENT_DATA])
def test_a_broken_audit_never_accuses_the_model(state):
    """It yields exactly one finding, about the audit."""
    broken = result(state=state, gates=(gate(status=GateStatus.FAIL),), fairness=(gap(),))
    (found,) = find(broken, POLICY)
    assert found.kind == "audit_broken"
    assert "G1 target parity" in found.summary
    assert found.confirmed


def test_a_cancelled_audit_finds_nothing():
    """Cancelling is neither broken nor clean."""
    assert find(result(state=RunState.CANCELLED), POLICY) == ()


def test_identity_outlives_run_and_version():
    """The same cause in the next version is the same finding; another task is another finding."""
    (one,), (later,), (other,) = (find(result(**c), POLICY) for c in ({}, {"run": "z", "version": "2"}, {"label": "age"}))
    assert one.id == later.id != other.id


def test_other_rows_confirm_and_equal_rows_do_not():
    """Two audits of the same bank are one piece of evidence."""
    (alone,) = find(result(concepts=(concept(low=0.03),)), POLICY)
    runs = [find(result(concepts=(concept(low=0.03),)), POLICY, [past(alone.id, bank)])[0] for bank in ("bank-1", "bank-0")]
    assert [(one.breach_runs, one.confirmed) for one in runs] == [(1, False), (2, True)]


def test_broken_runs_neither_confirm_nor_interrupt_a_streak():
    """A streak counts working audits only and ends at a clean one."""
    finding = find(result(), POLICY)[0].id
    broken = past("", state=RunState.FAILED)
    assert find(result(), POLICY, [broken, past(finding, "a"), past(finding, "b")])[0].breach_runs == 3
    assert find(result(), POLICY, [past("", "c"), past(finding, "a")])[0].breach_runs == 1


@pytest.mark.parametrize(("low", "strong"), [(0.039, False), (0.041, True)])
def test_twice_the_margin_alerts_at_once(low, strong):
    """DEPICT output contract: one audit suffices when the bound lies over 2 margins."""
    assert find(result(concepts=(concept(low=low),)), POLICY)[0].confirmed is strong


def test_the_row_digest_outranks_the_bank_digest():
    """A bank that grew around the same rows is no fresh evidence."""
    base = result(bank="bank-2", concepts=(concept(low=0.03),))
    same_rows = replace(base, provenance=replace(base.provenance, rows_digest="rows-0"))
    finding = find(base, POLICY)[0].id
    assert find(same_rows, POLICY, [past(finding, "rows-0")])[0].breach_runs == 1


@pytest.mark.parametrize(("low", "found"), [(0.07, 1), (0.04, 0), (-0.2, 1), (-0.06, 0)])
def test_a_gap_is_held_against_its_nearest_bound(low, found):
    """Gaps are signed: what counts is the distance of the whole interval from zero."""
    assert len(find(result(concepts=(), fairness=(gap(low),)), POLICY)) == found


@pytest.mark.parametrize(("name", "subject"), [("G4", "skin->hair"), ("G3a", "skin"), ("G0", "skin"), ("G5", "skin")])
def test_a_failed_edit_accuses_nobody(name, subject):
    """Leaking, ignored, rare or unseen: the gap may not be the concept's doing."""
    failed = gate(name, GateStatus.FAIL, subject)
    assert find(result(concepts=(), fairness=(gap(),), gates=(failed,)), POLICY) == ()


@pytest.mark.parametrize("metric", ["importance", "flip_rate_excess"])
def test_what_nothing_can_separate_is_not_blamed(metric):
    """The decision changes with the concept and with what it coincides with: neither importance nor flips nor the gap of edited pictures."""
    rule = replace(POLICY.thresholds[0], name="own", metric=metric, roles=(Role.PROTECTED,))
    policy = Policy(name="p", thresholds=(rule, *POLICY.thresholds))
    skin = concept("skin", Role.PROTECTED)
    assert {one.kind for one in find(result(concepts=(skin,), fairness=(gap(),)), policy)} == {"reliance", "fairness"}
    assert find(result(concepts=(replace(skin, inseparable=("the label",)),), fairness=(gap(),)), policy) == ()


def test_what_real_pictures_show_needs_no_separation():
    rule = replace(POLICY.thresholds[3], figures=("statistical_parity_difference",), families=("observational",))
    seen = gap(0.3, figure="statistical_parity_difference", family="observational")
    found = result(concepts=(concept("skin", Role.PROTECTED, inseparable=("the label",)),), fairness=(seen,))
    assert [one.kind for one in find(found, Policy(name="p", thresholds=(rule,)))] == ["fairness"]


def test_results_from_before_inseparability_was_recorded_are_read():
    written = json.loads(to_json(result()))
    assert [one.pop("inseparable") for one in written["concepts"]] == [[], []]
    assert from_json(json.dumps(written)) == result()


def test_figures_for_reading_are_not_held_against_a_bound():
    """The plain flip rate contains what any redrawing flips; only its excess over the placebo may alert."""
    plain = gap(0.3, figure="flip_rate", concern="shown for reading the others")
    excess = gap(0.3, figure="flip_rate_excess")
    assert [one.rule for one in find(result(concepts=(), fairness=(plain, excess)), POLICY)] == ["fairness-flip-rate"]


def test_the_first_matching_threshold_decides():
    """An exception by concept name overrides the rule for its role."""
    words = {"owner": "o", "reason": "r", "date": dt.date(2026, 1, 1)}
    lenient = Threshold(name="agreed", concepts=("watermark",), threshold=0.5, **words)
    assert find(result(), Policy(name="p", thresholds=(lenient, *POLICY.thresholds))) == ()


def test_a_disparate_impact_below_its_bound_is_found():
    """Ratios are of concern when the whole interval lies below the bound."""
    words = {"owner": "o", "reason": "r", "date": dt.date(2026, 1, 1)}
    rule = Threshold(name="di", metric="fairness", side="below", threshold=0.8, families=("observational",), **words)
    figure = gap(0.6, figure="disparate_impact", family="observational", concern="below 0.8")
    (found,) = find(result(concepts=(), fairness=(figure,)), Policy(name="p", thresholds=(rule,)))
    assert found.metric == fairness_metric(figure) == "observational_disparate_impact:dark-light"


def test_concluding_sets_state_findings_and_policy():
    """A run with findings says so; the policy in force is on record."""
    done = conclude(result(), POLICY)
    assert (done.state, len(done.findings)) == (RunState.SUCCEEDED_WITH_FINDINGS, 1)
    assert done.provenance.policy_digest == POLICY.digest
    assert conclude(result(concepts=()), POLICY).state is RunState.SUCCEEDED


def test_an_acknowledgement_ends():
    """Acknowledged findings open again after their date; resolved ones stay resolved."""
    now = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    day = dt.timedelta(days=1)
    states = [life_cycle(resolved=False, acknowledged_until=until, now=now) for until in (now + day, now - day, None)]
    assert states == [LifeCycle.ACKNOWLEDGED, LifeCycle.OPEN, LifeCycle.OPEN]
    assert life_cycle(resolved=True, acknowledged_until=now + day, now=now) is LifeCycle.RESOLVED


def test_the_bound_that_decided_is_the_one_that_alerts():
    """Where the conditional importance decided, the finding carries it, and a strong marginal one confirms nothing."""
    deciding = Estimate(value=0.05, low=0.03, high=0.07)
    (found,) = find(result(concepts=(replace(concept(role=Role.ARTEFACT), decided_by=deciding),)), POLICY)
    assert (found.value, found.low, found.high) == (0.05, 0.03, 0.07)
    assert not found.strong

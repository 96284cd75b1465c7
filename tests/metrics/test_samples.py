"""What becomes a series, and which series go first when there are too many."""

import math
from dataclasses import replace

import pytest

from audit_plugin.core.control_results import Control, ControlReport
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import GateStatus, RunState, Verdict
from audit_plugin.core.values import Role
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.samples import audit_samples, process_samples
from tests.findings.examples import clean, concept, gap, gate, result


def values(result, **options):
    """Metric -> {last label: value} of one audited result."""
    done = conclude(result, default_policy())
    out = {}
    for sample in audit_samples([done], [] if done.state.broken else [done], **options):
        out.setdefault(sample.metric, {})[sample.labels] = sample.value
    return out


SHORTCUT = ("ham", "1", "lesion", "watermark", "auroc")


def test_a_breach_and_a_clean_concept_are_both_series():
    """0 is said aloud: absence would mean not known."""
    out = values(result())
    assert out["concept_breach"] == {SHORTCUT: 1, ("ham", "1", "lesion", "background", "auroc"): 0}
    assert (out["concept_breach_runs"][SHORTCUT], out["concept_breach_strong"][SHORTCUT]) == (1, 1)
    assert out["concept_importance_low_ratio"][SHORTCUT] == 0.06


def test_only_the_current_verdict_has_a_series():
    """One verdict per concept, with its role."""
    verdicts = values(result())["concept_verdict"]
    assert {labels[3:] for labels in verdicts} == {
        ("watermark", "auroc", "artefact", "relies"),
        ("background", "auroc", "nuisance", "negligible"),
    }


def test_not_assessable_exports_no_value():
    """No data is not no bias."""
    out = values(result(concepts=(concept(verdict=Verdict.NOT_ASSESSABLE),)))
    assert "concept_verdict" in out
    assert not {"concept_importance_ratio", "concept_breach"} & out.keys()


def test_core_concepts_are_measured_but_not_judged():
    """Reliance on what the task is about has values and no breach series."""
    out = values(result(concepts=(concept(role=Role.CORE),)))
    assert "concept_importance_ratio" in out
    assert "concept_breach" not in out


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_ever_nan(bad):
    """Comparisons with NaN are false, so an alert on it would never fire."""
    odd = concept(mde80=bad, importance=Estimate(value=bad, low=0.06, high=bad))
    samples = audit_samples([result(concepts=(odd,))], [result(concepts=(odd,), real_score=bad)])
    assert all(math.isfinite(sample.value) for sample in samples)
    assert "concept_mde_ratio" not in {sample.metric for sample in samples}


def test_a_broken_audit_keeps_the_last_working_values():
    """The state is new, the values are those of before, freshness is a series of its own."""
    old, broken = result(), result(run="z", state=RunState.INSUFFICIENT_DATA, finished="2026-11-23T08:05:00Z")
    out = {(s.metric, s.labels): s.value for s in audit_samples([broken], [old])}
    audit = ("ham", "1", "lesion")
    assert out["audit_broken", audit] == out["insufficient_data", audit] == 1
    assert out["concept_importance_low_ratio", SHORTCUT] == 0.06
    assert out["last_completion_timestamp_seconds", audit] - out["last_success_timestamp_seconds", audit] == 86_400


def test_gates_export_their_worst_status():
    """One code per gate over all its subjects; what was not run has no code."""
    gates = (gate(), gate(status=GateStatus.WARN), gate("G8", GateStatus.NOT_RUN))
    assert values(result(gates=gates))["gate_status"] == {("ham", "1", "lesion", "G1"): 1}


@pytest.mark.parametrize(
    ("verdict", "truth", "missed", "wrong"),
    [(Verdict.RELIES, 0.2, 0, 0), (Verdict.INCONCLUSIVE, 0.2, 1, 0), (Verdict.RELIES, 0.0, 0, 1), (Verdict.NEGLIGIBLE, 0.0, 0, 0)],
)
def test_planted_models_control_the_audit(verdict, truth, missed, wrong):
    """The dead man's audit: a planted reliance must be found, an absent one must not."""
    out = values(result(concepts=(concept(verdict=verdict),), truth={"watermark": truth}))
    assert [*out["control_missed"].values(), *out["control_false_alarm"].values()] == [missed, wrong]


@pytest.mark.parametrize(
    ("found", "accused", "truth", "expected"),
    [
        (True, False, {}, (0, 0)),
        (False, True, {}, (1, 1)),
        (True, False, {"watermark": 0.0}, (0, 1)),
        (False, False, {"watermark": 0.2}, (1, 0)),
        (None, None, {}, (None, None)),
        (None, False, {}, (None, 0)),
    ],
)
def test_the_audits_own_controls_count_beside_a_known_truth(found, accused, truth, expected):
    """Either may fail; what was not run is no success, so there is no series of it."""
    told = ControlReport(planted=Control(alarmed=found), clean=Control(alarmed=accused))
    out = values(result(controls=told, truth=truth))
    audit = ("ham", "1", "lesion")
    assert tuple(out.get(name, {}).get(audit) for name in ("control_missed", "control_false_alarm")) == expected


def test_fairness_figures_are_series_with_their_breach():
    """Interventional gaps are exported; observational ones and those for reading stay in the report."""
    reading = gap(figure="flip_rate", concern="shown for reading the others")
    out = values(result(fairness=(gap(), gap(family="observational"), reading)))
    assert out["fairness_breach"] == {("ham", "1", "lesion", "skin", "interventional_counterfactual_parity_gap:dark-light"): 1}


def many(n):
    """Concepts of falling importance: one breach, one alerting role, the rest core."""
    cores = [concept(f"core{i}", Role.CORE, low=0.9 - i / 100) for i in range(n)]
    return result(concepts=(*cores, clean("background"), concept("watermark")))


def test_the_cap_keeps_breaches_then_alerting_roles_then_the_important():
    """500 series per audit; whole concepts go, and the same ones every time."""
    out = values(many(80))
    kept = {labels[3] for labels in out["concept_verdict"]}
    assert sum(map(len, out.values())) <= 500
    assert {"watermark", "background", "core0"} <= kept
    assert "core79" not in kept
    assert out["series_dropped"]["ham", "1", "lesion"] == (82 - len(kept)) * 10


def test_the_process_cap_is_shared():
    """2,000 series per process: models lose core concepts, never their breach."""
    runs = [conclude(replace(many(40), model=f"m{i:02}", run=f"r{i}"), default_policy()) for i in range(20)]
    samples = audit_samples(runs, runs, per_audit=200, total=2000)
    assert len(samples) <= 2000
    assert sum(s.value for s in samples if s.metric == "concept_breach") == 20


def test_duplicates_never_reach_prometheus():
    """Two figures of one name would make it drop the whole scrape."""
    done = result(fairness=(gap(), gap(0.2)), concepts=(concept(), concept(low=0.1)))
    samples = audit_samples([done], [done])
    assert len({(s.metric, s.labels) for s in samples}) == len(samples)


def test_counters_exist_from_the_first_scrape():
    """At 0, so that the first increase is seen; what is not known is not claimed."""
    out = {s.metric: s.value for s in process_samples(ProcessHealth(), version="1", queries={})}
    assert out["failures_total"] == out["attempts_total"] == 0
    assert "target_up" not in out


def test_names_follow_the_conventions():
    """Prefix, no reserved labels, ratios and seconds by name, `_total` on counters only."""
    reserved = {"type", "job", "instance", "namespace", "pod", "service", "environment", "stage", "region", "le", "quantile"}
    for spec in METRICS.values():
        assert not reserved & set(spec.labels)
        assert spec.name.startswith("audit_plugin_")
        assert (spec.kind == "counter") == spec.name.endswith("_total")
        assert not spec.unit or spec.name.removesuffix("_total").endswith(spec.unit)

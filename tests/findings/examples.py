"""Small audit results for the tests of findings, store, metrics, alerts and service."""

from dataclasses import replace

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import (
    AuditResult,
    ConceptResult,
    EngineCheck,
    EngineUse,
    FairnessFigure,
    Gate,
    GateStatus,
    Provenance,
    RunState,
    Verdict,
)
from audit_plugin.core.values import Role

ESTIMATE = Estimate(value=0.1, low=0.05, high=0.15)


def concept(name="watermark", role=Role.ARTEFACT, low=0.06, *, verdict=Verdict.RELIES, **changes):
    """A concept whose importance has its lower bound at ``low``."""
    importance = Estimate(value=low + 0.02, low=low, high=low + 0.04)
    base = ConceptResult(
        concept=name, role=role, metric="auroc", importance=importance, se=0.01, p=0.001, p_holm=0.002, p_bh=0.001,
        removed=None, added=None, prevalence_free=importance, conditional=None, compliance=None, compliance_scaled=None,
        leak_adjusted=None, flip_rate=ESTIMATE, flip_rate_excess=ESTIMATE, score_shift=ESTIMATE, rank_low=1, rank_high=2,
        p_first=0.7, n_rows=300, n_discordant=40, levels={"no": 0.5, "yes": 0.5}, mde80=0.03, margin=0.02, verdict=verdict,
        validity="valid",
    )  # fmt: skip
    return replace(base, **changes)


def clean(name="background", role=Role.NUISANCE):
    """A concept that the model demonstrably does not need."""
    return concept(name, role, low=-0.01, verdict=Verdict.NEGLIGIBLE)


def gap(low=0.07, *, figure="counterfactual_parity_gap", family="interventional", concern="beyond ±0.05", **changes):
    """A fairness figure of the protected concept "skin"."""
    estimate = Estimate(value=low + 0.02, low=low, high=low + 0.04)
    base = FairnessFigure(
        concept="skin", family=family, figure=figure, levels=("dark", "light"), estimate=estimate, n=300,
        concern=concern, of_concern=True,
    )  # fmt: skip
    return replace(base, **changes)


def gate(name="G1", status=GateStatus.PASS, subject=""):
    """One validity check."""
    return Gate(name=name, title="target parity", subject=subject, status=status, value=0.01)


def result(run="20261122T080000.000000Z-00000001", *, bank="bank-1", finished="2026-11-22T08:05:00Z", **changes):
    """A finished audit of model "ham", task "sex", with one shortcut and one clean concept, findings not yet drawn."""
    provenance = Provenance(
        audit="demo", started_at="2026-11-22T08:00:00Z", finished_at=finished, plugin_version="0.1.0", machine="test",
        versions={}, server="triton 2.51", config_hash="c0", scoring="s0", bank_digest=bank, generator="g0", detector="d0",
        concept_set="k0", caption_template="t0", dataset_digest="e0", policy_digest="", seed="demo", backend="ort",
        engines=(
            EngineUse(
                engine="unet", backend="ort", precision="fp32", items=4800, padded=0, seconds=60.0, parity_error=1e-6,
                refused=("torch: slower",),
            ),
        ),
        engine_check=EngineCheck(pictures=64, same=1.0, change=1e-6, passed=True),
        backend_reason="", images=600, unet_evaluations=4800, classifier_queries=600, seconds={"score": 2.0},
    )  # fmt: skip
    base = AuditResult(
        run=run, state=RunState.SUCCEEDED, model="ham", version="1", label="lesion", classes=("benign", "malignant"),
        metric="auroc", real_score=0.9, generated_score=0.88, n_rows=300, headline="ham relies on watermark",
        concepts=(concept(), clean()), groups=(), gates=(gate(),), leakage={}, placebo={"auroc": ESTIMATE}, fairness=(),
        findings=(), pairs=(), not_tested=(), provenance=provenance,
    )  # fmt: skip
    return replace(base, **changes)

"""What the long tables print, one line per column or field."""

from collections.abc import Callable, Mapping
from typing import Final

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, ConceptResult, Verdict
from audit_plugin.report.words import (
    VERDICT_WORDS,
    engine_check,
    engine_use,
    importance_words,
    interval,
    metric_name,
    number,
    p_value,
    thousands,
)


def _mapping(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _assessed(show: Callable[[ConceptResult], str]) -> Callable[[ConceptResult], str]:
    return lambda concept: "–" if concept.verdict is Verdict.NOT_ASSESSABLE else show(concept)


def _estimate(get: Callable[[ConceptResult], Estimate | None]) -> Callable[[ConceptResult], str]:
    return _assessed(lambda concept: interval(get(concept)))


ESTIMATES: Final[tuple[tuple[str, Callable[[ConceptResult], str]], ...]] = (
    ("Concept", lambda c: c.concept),
    ("Role", lambda c: str(c.role)),
    ("Verdict", lambda c: VERDICT_WORDS[c.verdict]),
    ("Importance Δ", importance_words),
    ("SE", _assessed(lambda c: number(c.se, 4))),
    ("p", _assessed(lambda c: p_value(c.p))),
    ("p, Holm", _assessed(lambda c: p_value(c.p_holm))),
    ("p, BH", _assessed(lambda c: p_value(c.p_bh))),
    ("Removed D⁻", _estimate(lambda c: c.removed)),
    ("Added D⁺", _estimate(lambda c: c.added)),
    ("Prevalence-free Δ*", _estimate(lambda c: c.prevalence_free)),
    ("Conditional", _estimate(lambda c: c.conditional)),
    ("Compliance κ", lambda c: interval(c.compliance, 2)),
    ("Compliance-scaled", _estimate(lambda c: c.compliance_scaled)),
    ("Leak-adjusted", _estimate(lambda c: c.leak_adjusted)),
    ("Flip rate", _estimate(lambda c: c.flip_rate)),
    ("Flip rate over placebo", _estimate(lambda c: c.flip_rate_excess)),
    ("Score shift", _estimate(lambda c: c.score_shift)),
    ("Rank", _assessed(lambda c: str(c.rank_low) if c.rank_low == c.rank_high else f"{c.rank_low} to {c.rank_high}")),
    ("P(first)", _assessed(lambda c: number(c.p_first, 2))),
    ("Rows", lambda c: thousands(c.n_rows)),
    ("Discordant", lambda c: thousands(c.n_discordant)),
    ("Share of rows by level", lambda c: ", ".join(f"{level} {number(share, 2)}" for level, share in c.levels.items())),
    ("MDE, 80 % power", lambda c: number(c.mde80)),
    ("Margin", lambda c: number(c.margin)),
    ("Validity", lambda c: c.validity.replace(";", "; ")),
    ("Notes", lambda c: " ".join(c.notes)),
)

PROVENANCE: Final[tuple[tuple[str, Callable[[AuditResult], str]], ...]] = (
    ("Run", lambda r: r.run),
    ("Audit", lambda r: r.provenance.audit),
    ("Model", lambda r: f"{r.model}, version {r.version}"),
    ("Label and classes", lambda r: f"{r.label}: {', '.join(r.classes)}"),
    ("Started", lambda r: r.provenance.started_at),
    ("Finished", lambda r: r.provenance.finished_at),
    ("Server", lambda r: r.provenance.server),
    ("Endpoint", lambda r: "; ".join(r.provenance.endpoint_notes)),
    ("Model configuration digest", lambda r: r.provenance.model_config_hash),
    ("Audit configuration digest", lambda r: r.provenance.config_hash),
    ("Preprocessing and output digest", lambda r: r.provenance.scoring),
    ("Probe bank digest", lambda r: r.provenance.bank_digest),
    ("Generator", lambda r: r.provenance.generator),
    ("Generator backend", lambda r: f"{r.provenance.backend} ({r.provenance.backend_reason})"),
    ("Drawn", lambda r: "; ".join((r.provenance.tier, *r.provenance.tier_reasons))),
    ("Engines", lambda r: "; ".join(engine_use(use) for use in r.provenance.engines) or "–"),
    ("Against the reference", lambda r: engine_check(r.provenance.engine_check, r.metric)),
    ("Detector", lambda r: r.provenance.detector),
    ("Judges of edits", lambda r: ", ".join(f"{name} {what[:12]}" for name, what in r.diffex.judges.items()) if r.diffex else ""),
    ("Concept set digest", lambda r: r.provenance.concept_set),
    ("Caption template digest", lambda r: r.provenance.caption_template),
    ("Data set digest", lambda r: r.provenance.dataset_digest),
    ("Audited rows digest", lambda r: r.provenance.rows_digest),
    ("Policy digest", lambda r: r.provenance.policy_digest),
    ("Seed", lambda r: r.provenance.seed),
    ("Rows", lambda r: thousands(r.n_rows)),
    ("Images in the bank", lambda r: thousands(r.provenance.images)),
    ("Network evaluations in this run", lambda r: thousands(r.provenance.unet_evaluations)),
    ("Images sent to the server in this run", lambda r: thousands(r.provenance.classifier_queries)),
    ("Seconds", lambda r: ", ".join(f"{stage} {number(value, 1)}" for stage, value in r.provenance.seconds.items())),
    (
        "Placebo effect",
        lambda r: ", ".join(f"{metric_name(metric)} {interval(value)}" for metric, value in r.placebo.items()) or "–",
    ),
    ("Machine", lambda r: r.provenance.machine),
    ("Versions", lambda r: _mapping({"audit_plugin": r.provenance.plugin_version, **r.provenance.versions})),
    ("Result schema", lambda r: str(r.schema_version)),
)

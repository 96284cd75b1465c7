"""What an audit found, frozen: estimates with intervals, gates, verdicts, provenance.

One :class:`AuditResult` is one audited (model version, label) on one probe bank.  It is written as JSON (``to_json``), and store,
metrics and report read nothing else.  Ratios and probabilities are in [0, 1]; importance is a drop of the metric, so its sign is
kept: positive means that permuting the concept hurts the model, i.e. that the model relies on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json as read_json

from audit_plugin.core.control_results import ControlReport
from audit_plugin.core.counterfactual_results import CounterfactualResult
from audit_plugin.core.diffex_results import ClassEffects, DiffexResult
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.errors import StoreError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.selftest_results import SelfTest
from audit_plugin.core.shortcut_results import ShortcutResult
from audit_plugin.core.uncollected import uncollected
from audit_plugin.core.values import Role

SCHEMA_VERSION = 1
_LARGE = 2_000_000
"""Characters of a document from which on it is read in parts."""


class Verdict(StrEnum):
    """Per concept, from the 95 % interval, the margin and the gates."""

    RELIES = "relies"
    HURTS = "hurts"
    NEGLIGIBLE = "negligible"
    INCONCLUSIVE = "inconclusive"
    NOT_ASSESSABLE = "not_assessable"


class RunState(StrEnum):
    """How a run ended; "could not run" is not "found something"."""

    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_FINDINGS = "succeeded_with_findings"
    INSUFFICIENT_DATA = "insufficient_data"
    INVALID_GENERATOR = "invalid_generator"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def broken(self) -> bool:
        """Whether the audit itself did not work: raises "audit broken", never a bias alert."""
        return self in {RunState.INSUFFICIENT_DATA, RunState.INVALID_GENERATOR, RunState.FAILED}


class GateStatus(StrEnum):
    """Outcome of one validity check."""

    PASS = "pass"  # noqa: S105  (a status, not a secret)
    WARN = "warn"
    FAIL = "fail"
    NOT_RUN = "not_run"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One validity check of the audit (G0-G9 of the DEPICT gates)."""

    name: str
    """"G0" ... "G9"; "G3a" and "G3b" apart."""
    title: str
    subject: str
    """Concept (or "pair->pair") the check is about; empty when it is about the whole audit."""
    status: GateStatus
    value: float | None
    low: float | None = None
    high: float | None = None
    bound: str = ""
    """What passes, in words, e.g. "at least 0.80"."""
    consequence: str = ""
    """What this status does to the results, in words; empty when it passed."""


@dataclass(frozen=True, kw_only=True)
class ConceptResult:
    """Everything known about the model's reliance on one concept (or one group of concepts)."""

    concept: str
    role: Role
    metric: str
    importance: Estimate
    """Drop of the metric when the concept is permuted (expected over all permutations)."""
    se: float
    p: float
    """Sign-flip test of "no effect", two-sided."""
    p_holm: float
    p_bh: float
    removed: Estimate | None
    """Binary concepts: mean loss rise when the present concept is removed (D-)."""
    added: Estimate | None
    """Binary concepts: mean loss rise when the absent concept is added (D+)."""
    prevalence_free: Estimate
    """Importance were all levels equally common."""
    conditional: Estimate | None
    """Importance within strata of the other concepts."""
    compliance: Estimate | None
    """Share of asked-for changes that the detector sees, relative to real images (kappa, G3a)."""
    compliance_scaled: Estimate | None
    leak_adjusted: Estimate | None
    flip_rate: Estimate
    """Share of flips that change the model's decision."""
    flip_rate_excess: Estimate
    """The same in excess of the placebo."""
    score_shift: Estimate
    """Mean absolute change of the positive class's score."""
    rank_low: int
    """Best rank (1 is the largest importance) in the 95 % interval; 0 when the concept is not ranked (weak edit, not assessable)."""
    rank_high: int
    p_first: float
    """Bootstrap share in which this concept ranks first."""
    n_rows: int
    n_discordant: int
    levels: Mapping[str, float]
    """Level -> share of rows."""
    mde80: float
    """Minimal detectable effect at 80 % power."""
    margin: float
    """Effective practical margin that the verdict used."""
    verdict: Verdict
    decided_by: Estimate | None = None
    """The importance that the verdict rests on, where it is not ``importance`` itself but the conditional one."""
    validity: str
    """"valid", "weak_edit", "leaks_into=<concept>", "not_assessable", joined by ";"."""
    notes: tuple[str, ...] = ()
    inseparable: tuple[str, ...] = ()
    """What it coincides with in the audited rows and could be mistaken for: no finding may be made of changing it."""


@dataclass(frozen=True, kw_only=True)
class FairnessFigure:
    """One group-fairness figure of one protected concept; interventional and observational ones are never mixed."""

    concept: str
    family: str
    """"interventional" or "observational"."""
    figure: str
    levels: tuple[str, str]
    estimate: Estimate | None
    n: int
    concern: str
    """What would be of concern, in words, e.g. "above 0.05"."""
    of_concern: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A baseline and a changed picture with what the model said to each."""

    row: str
    concept: str
    level_from: str
    level_to: str
    before_sha256: str
    after_sha256: str
    before_caption: str
    after_caption: str
    score_before: float
    score_after: float
    decision_before: str
    decision_after: str
    choice: str
    """"random" (drawn by seed) or "extreme" (largest score changes)."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A policy breach with an identity that stays the same from run to run."""

    id: str
    kind: str
    """"reliance" (a concept that must not matter does), "fairness", "semantic", "counterfactual", "discovered_cue", "object_absent", or
    "audit_broken"."""
    model: str
    concept: str
    metric: str
    value: float
    low: float
    high: float
    threshold: float
    severity: str
    summary: str
    owner: str
    reason: str
    date: str
    runbook: str = ""
    version: str = ""
    label: str = ""
    """Label column (task) the model was judged against."""
    rule: str = ""
    """Name of the policy threshold that was exceeded."""
    n: int = 0
    breach_runs: int = 1
    """Consecutive audits on different rows that breached, this one included."""
    strong: bool = False
    """The bound is over twice the margin: alerts without waiting for a second audit."""

    @property
    def confirmed(self) -> bool:
        """Whether the finding alerts: seen on two different samples of rows in a row, or strong, or of a kind that needs one audit alone."""
        return self.strong or self.breach_runs >= 2 or self.at_once

    @property
    def at_once(self) -> bool:
        """Whether one audit is enough: a broken one, or what was found with no data and tested under fresh seeds."""
        return self.kind in {"audit_broken", "discovered_cue", "object_absent"}


@dataclass(frozen=True, kw_only=True)
class EngineUse:
    """What one network of the generator did in this run."""

    engine: str
    """unet, vae_decoder, …"""
    backend: str
    precision: str
    items: int
    """Rows computed."""
    padded: int
    """Rows computed and thrown away, to fill batches."""
    seconds: float
    """Of the device; of several threads together."""
    parity_error: float | None
    """Relative error against the reference, from its certificate; None for the reference itself."""
    refused: tuple[str, ...] = ()
    """Why it was not another backend, one reason each."""
    build_seconds: float = 0.0
    """Of building, certifying and comparing, next to none where all of it was in the build cache."""


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """What the audited model says of the same pictures drawn as the bank was, and drawn by the reference."""

    pictures: int
    same: float
    """Share on which its first class is the same, in [0, 1]."""
    change: float
    """Mean absolute difference of a class score."""
    passed: bool
    """Same on 99 % or more, and changed by 0.01 or less."""
    metric_drawn: float | None = None
    """The audit's metric on these pictures as drawn; None where labels have one class only."""
    metric_reference: float | None = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is needed to run the audit again and get the same numbers."""

    audit: str
    started_at: str
    """RFC 3339, UTC."""
    finished_at: str
    plugin_version: str
    machine: str
    versions: Mapping[str, str]
    server: str
    config_hash: str
    """SHA-256 of the auditor's effective configuration."""
    scoring: str
    bank_digest: str
    generator: str
    detector: str
    concept_set: str
    caption_template: str
    dataset_digest: str
    policy_digest: str
    seed: str
    backend: str
    backend_reason: str
    images: int
    unet_evaluations: int
    """Network evaluations spent by this run (0 when the bank was complete)."""
    classifier_queries: int
    """Images sent to the server by this run."""
    seconds: Mapping[str, float]
    config: str = ""
    """Effective configuration as YAML, secrets masked."""
    rows_digest: str = ""
    """Digest of the audited row ids: runs on the same rows are the same evidence; empty falls back to the bank digest."""
    model_config_hash: str = ""
    """SHA-256 of the model's own configuration as the server showed it, or of its metadata where it shows none."""
    tier: str = "exact"
    """``exact``: drawn by the generator's own plan on certified engines, and the model agrees; else ``approximate``."""
    tier_reasons: tuple[str, ...] = ()
    """Why it is approximate."""
    engines: tuple[EngineUse, ...] = ()
    """Who drew; empty when nothing was."""
    engine_check: EngineCheck | None = None
    """None where the reference itself drew the bank."""
    endpoint_notes: tuple[str, ...] = ()
    """What is special about the endpoint: version not pinned, response cache on, classes only."""
    judged_digest: str = ""
    """Digest of the rows with their labels and units, and of how they are judged: favourable class, metric, margin, gates; empty in older results."""


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """The whole outcome of auditing one model version."""

    run: str
    """Sortable unique id of the run."""
    state: RunState
    model: str
    version: str
    label: str
    """Name of the label column."""
    classes: tuple[str, ...]
    metric: str
    real_score: float | None
    """The metric on the real images; never the reference arm of an effect."""
    generated_score: float | None
    """The metric on the baseline arm; None where nothing was drawn."""
    n_rows: int
    headline: str
    """One sentence: the verdict first."""
    concepts: tuple[ConceptResult, ...]
    groups: tuple[ConceptResult, ...]
    gates: tuple[Gate, ...]
    leakage: Mapping[str, Mapping[str, float]]
    """Flipped concept -> detector's concept -> excess change rate."""
    placebo: Mapping[str, Estimate]
    """Effect of the placebo edit by metric name."""
    fairness: tuple[FairnessFigure, ...]
    findings: tuple[Finding, ...]
    pairs: tuple[Pair, ...]
    not_tested: tuple[str, ...]
    provenance: Provenance
    truth: Mapping[str, float] = field(default_factory=dict)
    """Known importance per concept, for planted models only."""
    diffex: DiffexResult | None = None
    """Effects of a tree of concepts on real images; None where none was asked for."""
    shortcuts: tuple[ShortcutResult, ...] = ()
    """Suspected concepts, flipped in real images; empty where none was named."""
    counterfactuals: CounterfactualResult | None = None
    """What changes flip the model's decisions; None where that was not asked."""
    discovery: Discovery | None = None
    """What its classes respond to, found with no data; None where nobody looked."""
    controls: ControlReport | None = None
    """How classifiers of known dependence were judged by this very audit; None where that was turned off, and in older results."""
    selftest: SelfTest | None = None
    """What such an audit finds of effects put into this model's answers; None where nobody measured that on this bank, and in older results."""
    schema_version: int = SCHEMA_VERSION


@cache
def _adapter() -> TypeAdapter[AuditResult]:
    """Made when it is first needed: the schema is large."""
    return TypeAdapter(AuditResult)


@cache
def _class_adapter() -> TypeAdapter[ClassEffects]:
    return TypeAdapter(ClassEffects)


def to_json(result: AuditResult) -> str:
    """The result as a JSON document, keys in the order of the fields."""
    return _adapter().dump_json(result, indent=2).decode()


def from_json(text: str) -> AuditResult:
    """Read back what :func:`to_json` wrote.  Raises StoreError on anything else."""
    try:
        with uncollected():
            return _adapter().validate_json(text) if len(text) < _LARGE else _in_parts(text)
    except ValidationError as error:
        raise StoreError(f"not an audit result of schema {SCHEMA_VERSION}: {error.errors()[0]['msg']}") from error


def _in_parts(text: str) -> AuditResult:
    """A large result class by class: checking it whole would keep every other thread of the process waiting for seconds."""
    try:
        document = read_json(text)
    except ValueError:
        document = None
    match document:
        case {"diffex": {"classes": [*_] as classes} as tree}:
            rest = {**document, "diffex": {**tree, "classes": []}}
        case _:
            return _adapter().validate_json(text)
    del document, tree["classes"]
    result = _adapter().validate_python(rest)
    assert result.diffex is not None, "it was there"
    classes.reverse()
    read = tuple(_class_adapter().validate_python(classes.pop()) for _ in range(len(classes)))  # what is read is let go
    return replace(result, diffex=replace(result.diffex, classes=read))

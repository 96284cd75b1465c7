"""One audit of one model, step by step: score the bank, estimate, judge, save.  Knows protocols and tables, no concrete engine."""

import datetime as dt
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version

from audit_plugin import __version__
from audit_plugin.bank.build import BuildReport
from audit_plugin.bank.join import load_table
from audit_plugin.bank.real import RealImages
from audit_plugin.bank.reference import Twin, compare
from audit_plugin.bank.score import ScoreReport, score
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.table import BankTable
from audit_plugin.controls import Again, run_controls, tree_controls
from audit_plugin.core.control_results import no_controls
from audit_plugin.core.counterfactual_results import CounterfactualResult
from audit_plugin.core.diffex_results import DiffexResult, EffectState
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.protocols import Classifier, Progress
from audit_plugin.core.results import AuditResult, EngineCheck, EngineUse, Provenance, RunState
from audit_plugin.core.seeds import digest
from audit_plugin.core.selftest_results import SelfTest
from audit_plugin.core.shortcut_results import ShortcutResult
from audit_plugin.core.values import TargetInfo
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.history import ALL, RECENT
from audit_plugin.findings.policy import Policy
from audit_plugin.methods.depict import DepictOptions, DepictReport, audit
from audit_plugin.selftesting.judged import judged_digest
from audit_plugin.selftesting.kept import holds
from audit_plugin.store.records import new_run_id
from audit_plugin.store.store import Store

_VERSIONED = ("numpy", "scipy", "tritonclient", "onnxruntime", "torch", "diffusers", "pillow")
"""Packages whose version can move a number; those that are not installed had no part in it."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What every model of one audit is asked about: a complete bank with its readings, and where it came from."""

    audit: str
    bank: ProbeBank
    real: RealImages
    built: BuildReport
    """What this run had to draw; zeros when the bank was complete."""
    detector: str
    """Fingerprint whose readings lie in the bank."""
    detector_auroc: Mapping[str, float] = field(default_factory=dict)
    """What the detector's own card says, for want of real images."""
    dataset_digest: str
    backend: str
    backend_reason: str
    engines: tuple[EngineUse, ...] = ()
    """Who drew in this run."""
    ahead: Mapping[str, int] = field(default_factory=dict)
    """Target -> pictures that it was asked about while the bank was drawn."""
    savings: tuple[str, ...] = ()
    """What the drawing plan left out of the generator's own."""
    reference: bool = False
    """Whether the reference drew the bank itself."""
    twins: tuple[Twin, ...] = ()
    """Pictures that the reference drew again."""
    config_hash: str
    config: str

    @property
    def shas(self) -> tuple[str, ...]:
        """Of the twins."""
        return tuple(twin.sha256 for twin in self.twins)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about one model."""

    label: str
    positive: str | None
    truth: Mapping[str, float]
    options: DepictOptions
    policy: Policy
    controls: bool = True
    """Whether classifiers of known dependence are judged beside it."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a concept tree told of one model, and what asking took."""

    result: DiffexResult
    queries: int
    """Pictures that the model was asked about."""
    evaluations: int
    """Network evaluations spent on edits."""
    again: Again | None = None
    """What the same edits say of a control; None where they are not kept."""


Explain = Callable[[Classifier], Explained]
"""Asks one model about a concept tree."""


@dataclass(frozen=True, kw_only=True)
class Suspected:
    """What flips of suspected concepts told of one model."""

    results: tuple[ShortcutResult, ...]
    queries: int
    """Pictures that the model was asked about."""


Suspect = Callable[[Classifier], Suspected]
"""Asks one model about flips of suspected concepts."""


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """What counterfactuals of one model told."""

    result: CounterfactualResult
    queries: int
    """Pictures that the model was asked about."""
    network_rows: int
    """Rows that the editor's network evaluated for it now, forward."""


Flip = Callable[[], Flipped]
"""Makes and asks counterfactuals of one model."""


def audit_model(
    evidence: Evidence,
    classifier: Classifier,
    question: Question,
    store: Store,
    *,
    progress: Progress,
    explain: Explain | None = None,
    suspect: Suspect | None = None,
    flip: Flip | None = None,
    discovery: Discovery | None = None,
    selftest: SelfTest | None = None,
) -> AuditResult:
    """Audit one model version and commit the result.

    With ``explain`` its concept tree belongs to it, with ``suspect`` its shortcuts, with ``flip`` its counterfactuals;
    a ``discovery`` that was made before is told with it, and a ``selftest`` where it speaks of this audit (see :func:`holds`).

    Killed in between, it goes on from the scores it has: each picture is asked about once per model version.
    """
    started, clock = _now(), time.monotonic()
    scored = score(evidence.bank, classifier, store.scores, progress=progress, real=evidence.real, twins=evidence.shas)
    table = load_table(evidence.bank, detector=evidence.detector, real=evidence.real)
    info = classifier.info
    shas = {*evidence.bank.usable(), *evidence.real.paths}
    between = time.monotonic()
    progress(0, 1, f"estimates of {info.model}")
    report = audit(
        table,
        store.scores.get(info.id, shas),
        label=question.label,
        classes=info.labels,
        seed=f"{evidence.audit}/{info.model}",
        positive=question.positive,
        detector_auroc=evidence.detector_auroc,
        options=question.options,
    )
    check = compare(evidence.bank, evidence.twins, store.scores, info, label=question.label, metric=question.options.metric)
    progress(1, 1, f"estimates of {info.model}")
    seconds = {"build": evidence.built.seconds, "score": between - clock, "estimate": time.monotonic() - between}
    result = _result(report, evidence, info, question, check, scored=scored, seconds=seconds, started=started)
    result = _with_controls(result, table, question, evidence.detector_auroc)
    result = _with_shortcuts(_with_tree(result, classifier, explain, question), classifier, suspect)
    result = replace(result, discovery=discovery)
    return _committed(_with_counterfactuals(result, flip), question, store, selftest)


def audit_tree(
    about: Mapping[str, str],
    classifier: Classifier,
    question: Question,
    store: Store,
    explain: Explain,
    *,
    flip: Flip | None = None,
    discovery: Discovery | None = None,
) -> AuditResult:
    """Audit one model version by a concept tree alone, and commit the result; with ``flip`` its counterfactuals belong to it.

    ``about`` says what the tree was asked on: ``audit``, ``config``, ``config_hash``, ``dataset_digest``, ``rows_digest``.
    """
    started, info = _now(), classifier.info
    result = AuditResult(
        run=new_run_id(),
        state=RunState.SUCCEEDED,
        model=info.model,
        version=info.version,
        label=question.label,
        classes=info.labels,
        metric=question.options.metric,
        real_score=None,
        generated_score=None,
        n_rows=0,
        headline="",
        concepts=(),
        groups=(),
        gates=(),
        leakage={},
        placebo={},
        fairness=(),
        findings=(),
        pairs=(),
        not_tested=(),
        provenance=Provenance(
            audit=about["audit"],
            started_at=started,
            finished_at=started,
            plugin_version=__version__,
            machine=_machine(),
            versions={"python": platform.python_version(), **_versions()},
            server=info.server,
            config_hash=about["config_hash"],
            scoring=info.scoring,
            bank_digest="",
            generator="",
            detector="",
            concept_set="",
            caption_template="",
            dataset_digest=about["dataset_digest"],
            policy_digest=question.policy.digest,
            seed=about["audit"],
            backend="none",
            backend_reason="nothing is drawn: the images themselves are edited",
            images=0,
            unet_evaluations=0,
            classifier_queries=0,
            seconds={},
            config=about["config"],
            rows_digest=about["rows_digest"],
            model_config_hash=info.config_hash,
            endpoint_notes=info.notes,
        ),
        truth=question.truth,
    )
    told = _with_tree(result, classifier, explain, question)
    explained = told.diffex
    if explained is None:
        raise ValueError("a tree was asked about, and nothing was told")
    images = max((one.images_estimate for one in explained.classes), default=0)
    told = replace(told, headline=tree_headline(explained), n_rows=images, state=_tree_state(explained), discovery=discovery)
    return _committed(_with_counterfactuals(told, flip), question, store)


def tree_headline(result: DiffexResult) -> str:
    """The verdict first: what must not matter and does, then what matters."""
    if result.stopped:
        return f"Incomplete ({result.stopped} limit reached): {_tree_verdict(result)}"
    return _tree_verdict(result)


def _tree_verdict(result: DiffexResult) -> str:
    found = [node for one in result.classes for node in one.nodes if node.state is EffectState.EFFECT and node.effect is not None]
    wrong = sorted((node for node in found if node.kind.must_not), key=lambda node: -node.bound)
    if not any(one.nodes for one in result.classes):
        return "No node of the concept tree could be tested."
    if not found and result.stopped:
        return "no effect of a node was seen by then."
    if not found:
        return "No node of the concept tree moves the model's scores beyond what a meaningless edit does."
    told = wrong or sorted(found, key=lambda node: -node.bound)
    named = ", ".join(f"{node.node} ({node.class_name} {node.effect.value:+.2f})" for node in told[:3] if node.effect is not None)
    if wrong:
        return f"{len(wrong)} of {len(found)} nodes that move the scores must not: {named}, in log-odds."
    return f"{len(found)} nodes of the concept tree move the scores, none of which must not: {named}, in log-odds."


def _tree_state(result: DiffexResult) -> RunState:
    """Too little was said where no node has an estimate."""
    told = any(node.effect is not None or not result.stopped for one in result.classes for node in one.nodes)
    return RunState.SUCCEEDED if told else RunState.INSUFFICIENT_DATA


def _with_controls(result: AuditResult, table: BankTable, question: Question, detector_auroc: Mapping[str, float]) -> AuditResult:
    if not question.controls:
        return result
    clock = time.monotonic()
    told = run_controls(table, result, question.policy, question.options, detector_auroc=detector_auroc)
    before = result.provenance
    provenance = replace(before, seconds={**before.seconds, "controls": round(time.monotonic() - clock, 2)})
    return replace(result, controls=told, provenance=provenance)


def _with_tree(result: AuditResult, classifier: Classifier, explain: Explain | None, question: Question) -> AuditResult:
    """With controls of the tree where the audit has none of its own yet."""
    if explain is None:
        return result
    clock = time.monotonic()
    told = explain(classifier)
    before = result.provenance
    provenance = replace(
        before,
        finished_at=_now(),
        unet_evaluations=before.unet_evaluations + told.evaluations,
        classifier_queries=before.classifier_queries + told.queries,
        seconds={**before.seconds, "tree": round(time.monotonic() - clock, 2)},
    )
    result = replace(result, diffex=told.result, provenance=provenance)
    if not question.controls or result.controls is not None:
        return result
    clock = time.monotonic()
    controls = no_controls("its edits are not kept") if told.again is None else tree_controls(result, question.policy, told.again)
    provenance = replace(provenance, seconds={**provenance.seconds, "controls": round(time.monotonic() - clock, 2)})
    return replace(result, controls=controls, provenance=provenance)


def _with_shortcuts(result: AuditResult, classifier: Classifier, suspect: Suspect | None) -> AuditResult:
    if suspect is None:
        return result
    clock = time.monotonic()
    told = suspect(classifier)
    before = result.provenance
    provenance = replace(
        before,
        finished_at=_now(),
        classifier_queries=before.classifier_queries + told.queries,
        seconds={**before.seconds, "shortcuts": round(time.monotonic() - clock, 2)},
    )
    return replace(result, shortcuts=told.results, provenance=provenance)


def _with_counterfactuals(result: AuditResult, flip: Flip | None) -> AuditResult:
    if flip is None:
        return result
    clock = time.monotonic()
    told = flip()
    before = result.provenance
    provenance = replace(
        before,
        finished_at=_now(),
        unet_evaluations=before.unet_evaluations + told.network_rows,
        classifier_queries=before.classifier_queries + told.queries,
        seconds={**before.seconds, "counterfactuals": round(time.monotonic() - clock, 2)},
    )
    return replace(result, counterfactuals=told.result, provenance=provenance)


def _committed(result: AuditResult, question: Question, store: Store, selftest: SelfTest | None = None) -> AuditResult:
    limit = ALL if question.policy.over_time == "spending" else RECENT
    concluded = conclude(result, question.policy, store.past(result.model, question.label, limit=limit))
    concluded = replace(concluded, selftest=selftest if holds(selftest, concluded) else None)
    store.save(concluded)
    return concluded


def _result(
    report: DepictReport,
    evidence: Evidence,
    info: TargetInfo,
    question: Question,
    check: EngineCheck | None,
    *,
    scored: ScoreReport,
    seconds: Mapping[str, float],
    started: str,
) -> AuditResult:
    return AuditResult(
        run=new_run_id(),
        state=report.state,
        model=info.model,
        version=info.version,
        label=question.label,
        classes=report.classes,
        metric=report.metric,
        real_score=report.real_score,
        generated_score=report.generated_score,
        n_rows=report.n_rows,
        headline=report.headline,
        concepts=report.concepts,
        groups=report.groups,
        gates=report.gates,
        leakage=report.leakage,
        placebo=report.placebo,
        fairness=report.fairness,
        findings=(),
        pairs=report.pairs,
        not_tested=report.not_tested,
        provenance=_provenance(evidence, info, question, check, scored=scored, seconds=seconds, started=started),
        truth=question.truth,
    )


def _provenance(
    evidence: Evidence,
    info: TargetInfo,
    question: Question,
    check: EngineCheck | None,
    *,
    scored: ScoreReport,
    seconds: Mapping[str, float],
    started: str,
) -> Provenance:
    plan, reasons = evidence.bank.plan(), _approximations(evidence, check)
    return Provenance(
        audit=evidence.audit,
        started_at=started,
        finished_at=_now(),
        plugin_version=__version__,
        machine=_machine(),
        versions={"python": platform.python_version(), **_versions()},
        server=info.server,
        config_hash=evidence.config_hash,
        scoring=info.scoring,
        bank_digest=evidence.bank.digest,
        generator=plan.generator,
        detector=evidence.detector,
        concept_set=plan.concept_set.digest,
        caption_template=plan.concept_set.template_digest,
        dataset_digest=evidence.dataset_digest,
        policy_digest=question.policy.digest,
        seed=evidence.audit,
        backend=evidence.backend,
        backend_reason=evidence.backend_reason,
        images=len(plan.recipes),
        unet_evaluations=evidence.built.evaluations,
        classifier_queries=scored.scored + evidence.ahead.get(info.id, 0),
        seconds={name: round(value, 2) for name, value in seconds.items()},
        config=evidence.config,
        rows_digest=digest("rows", *sorted(row.id for row in plan.rows)),
        model_config_hash=info.config_hash,
        tier="approximate" if reasons else "exact",
        tier_reasons=reasons,
        engines=evidence.engines,
        engine_check=check,
        endpoint_notes=info.notes,
        judged_digest=judged_digest(
            plan.rows,
            plan.concept_set.concepts,
            label=question.label,
            positive=question.positive,
            audit=evidence.audit,
            options=question.options,
        ),
    )


def _approximations(evidence: Evidence, check: EngineCheck | None) -> tuple[str, ...]:
    """Why the bank is not exact, in words."""
    if check is None:
        unchecked = (
            () if evidence.reference else ("no pictures of the reference to compare with; complete the bank again to draw them",)
        )
        return (*evidence.savings, *unchecked)
    failed = (
        f"on {check.pictures} pictures the model agrees with the reference in {check.same:.1%}, scores change by {check.change:.3f}"
    )
    return evidence.savings if check.passed else (*evidence.savings, failed)


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _versions() -> dict[str, str]:
    found = {package: _version(package) for package in _VERSIONED}
    return {package: number for package, number in found.items() if number is not None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

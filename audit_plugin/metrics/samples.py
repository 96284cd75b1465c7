"""From audit results to samples: pure, bounded in number, and never NaN."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from audit_plugin.core.capture import CaptureCounts
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, ConceptResult, FairnessFigure, Finding, GateStatus, RunState, Verdict
from audit_plugin.findings.findings import fairness_metric
from audit_plugin.findings.policy import side_of
from audit_plugin.metrics.counterfactuals import counterfactual_bundles, counterfactual_samples
from audit_plugin.metrics.discovery import discovery_bundles, discovery_samples
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.sample import Sample
from audit_plugin.metrics.selftest import selftest_samples
from audit_plugin.metrics.shortcuts import shortcut_samples
from audit_plugin.metrics.tree import tree_bundles, tree_samples
from audit_plugin.store.records import seconds

MAX_SERIES_PER_AUDIT = 500
MAX_SERIES = 5_000
_GATE_CODES = {GateStatus.PASS: 0, GateStatus.WARN: 1, GateStatus.FAIL: 2}
_SEVERITIES = ("info", "warning", "critical")


@dataclass(frozen=True)
class _Bundle:
    """All series of one concept or fairness figure: exported together or not at all."""

    audit: tuple[str, str]
    rank: tuple[bool, bool, float, str]
    samples: tuple[Sample, ...]


def audit_samples(
    last: Sequence[AuditResult],
    assessed: Sequence[AuditResult],
    *,
    interval_seconds: float | None = None,
    per_audit: int = MAX_SERIES_PER_AUDIT,
    total: int = MAX_SERIES,
) -> list[Sample]:
    """Samples of the last run of every audit (its state) and of the last working one (its values).

    Over the caps whole concepts are left out, the same ones every time: never one in breach before one that is not, then never one of
    an alerting role before another, then the least important first.
    """
    states = {_key(result): _unique(_state(result, interval_seconds)) for result in last}
    for result in assessed:
        states.setdefault(_key(result), []).extend(_unique(_working(result)))
    bundles = sorted((bundle for result in assessed for bundle in _bundles(result)), key=lambda bundle: (bundle.rank, bundle.audit))
    room = {key: per_audit - len(samples) - 1 for key, samples in states.items()}
    left = total - sum(len(samples) + 1 for samples in states.values())
    dropped = dict.fromkeys(states, 0)
    kept: list[Sample] = []
    for bundle in bundles:
        size = len(bundle.samples)
        if size > min(room[bundle.audit], left):
            dropped[bundle.audit] += size
            continue
        room[bundle.audit] -= size
        left -= size
        kept.extend(bundle.samples)
    caps = [Sample("series_dropped", _labels(result), dropped[_key(result)]) for result in last]
    return _unique([*(sample for samples in states.values() for sample in samples), *kept, *caps])


def process_samples(health: ProcessHealth, *, version: str, queries: Mapping[tuple[str, str], int]) -> list[Sample]:
    """Samples about this process; counters exist from the first scrape on."""
    known: dict[str, float | None] = {
        "target_up": health.target_up,
        "config_last_reload_successful": health.config_reload_successful,
        "config_last_reload_success_timestamp_seconds": health.config_reload_timestamp_seconds,
        "attempts_total": health.attempts,
        "failures_total": health.failures,
        "missed_runs_total": health.missed,
        "last_round_failed": health.last_round_failed,
        "next_run_timestamp_seconds": health.next_run_timestamp_seconds,
        "interval_seconds": health.interval_seconds,
        "engine_cache_bytes": health.engine_cache_bytes,
        "engine_share_ratio": health.engine_share,
        "leader": health.leader,
        "runs_waiting": health.waiting,
    }
    if health.load is not None:
        known |= {f"load_{name}_total": value for name, value in asdict(health.load.counts).items()}
        known["load_paused"] = health.load.paused
    return [
        Sample("build_info", (version,), 1),
        *(Sample(name, (), float(value)) for name, value in known.items() if value is not None),
        *(Sample("refused_total", (reason,), count) for reason, count in sorted((health.refused or {}).items())),
        *(_captured(health.capture) if health.capture is not None else ()),
        *(Sample("triton_requests_total", key, sent) for key, sent in sorted(queries.items())),
    ]


def _captured(counts: CaptureCounts) -> Iterator[Sample]:
    """All reasons and all captured models, from the first scrape on."""
    yield Sample("capture_events_total", (), counts.received)
    yield Sample("capture_sampled_total", (), counts.sampled)
    yield Sample("capture_kept_total", (), counts.kept)
    yield Sample("capture_dropping", (), counts.dropping)
    yield from (Sample("capture_dropped_total", (reason,), number) for reason, number in sorted(counts.dropped.items()))
    yield from (Sample("capture_images", (model,), number) for model, number in sorted(counts.images.items()))


def _key(result: AuditResult) -> tuple[str, str]:
    return result.model, result.label


def _labels(result: AuditResult) -> tuple[str, str, str]:
    return result.model, result.version, result.label


def _unique(samples: Iterable[Sample]) -> list[Sample]:
    """Finite samples, one per series: a duplicate would make Prometheus drop the whole scrape."""
    first: dict[tuple[str, tuple[str, ...]], Sample] = {}
    for sample in samples:
        if math.isfinite(sample.value):
            first.setdefault((sample.metric, sample.labels), sample)
    return list(first.values())


def _state(result: AuditResult, interval_seconds: float | None) -> Iterator[Sample]:
    """What holds of the last run, whether it worked or not."""
    labels, origin = _labels(result), result.provenance
    ended = seconds(origin.finished_at)
    yield Sample("audit_state", (*labels, result.state.value), 1)
    yield Sample("audit_broken", labels, result.state.broken)
    yield Sample("insufficient_data", labels, result.state is RunState.INSUFFICIENT_DATA)
    yield Sample("rows", labels, result.n_rows)
    yield Sample("images", labels, origin.images)
    yield Sample("unet_evaluations", labels, origin.unet_evaluations)
    for use in origin.engines:
        about = (*labels, use.engine, use.backend, use.precision)
        yield Sample("engine_items", about, use.items)
        yield Sample("engine_padded_rows", about, use.padded)
        yield Sample("engine_seconds", about, use.seconds)
        yield Sample("engine_fallbacks", about, len(use.refused))
        yield Sample("engine_build_seconds", about, use.build_seconds)
        if use.parity_error is not None:
            yield Sample("engine_parity_error_ratio", about, use.parity_error)
    yield Sample("engine_tier", (*labels, origin.tier), 1)
    if origin.engine_check is not None:
        yield Sample("engine_agreement_ratio", labels, origin.engine_check.same)
        yield Sample("engine_score_change_ratio", labels, origin.engine_check.change)
    yield Sample("last_completion_timestamp_seconds", labels, ended)
    yield Sample("last_duration_seconds", labels, max(0.0, ended - seconds(origin.started_at)))
    if interval_seconds is not None:
        yield Sample("audit_interval_seconds", labels, interval_seconds)
    for severity in _SEVERITIES:
        yield Sample("findings", (*labels, severity), sum(finding.severity == severity for finding in result.findings))
    for name in sorted({gate.name for gate in result.gates}):
        codes = [_GATE_CODES[gate.status] for gate in result.gates if gate.name == name and gate.status in _GATE_CODES]
        if codes:
            yield Sample("gate_status", (*labels, name), max(codes))


def _working(result: AuditResult) -> Iterator[Sample]:
    """What holds of the last working run, apart from its concepts."""
    labels = _labels(result)
    yield Sample("last_success_timestamp_seconds", labels, seconds(result.provenance.finished_at))
    if result.real_score is not None:
        yield Sample("performance_real_ratio", (*labels, result.metric), result.real_score)
    if result.generated_score is not None:
        yield Sample("performance_generated_ratio", (*labels, result.metric), result.generated_score)
    if result.diffex is not None:
        yield from tree_samples(result, result.diffex)
    yield from shortcut_samples(result)
    yield from counterfactual_samples(result)
    yield from discovery_samples(result)
    yield from _controls(result)
    if result.selftest is not None:
        yield from selftest_samples(result, result.selftest)


def _controls(result: AuditResult) -> Iterator[Sample]:
    """Of the audit's own controls, and of the model itself where its truth is known; a control that was not run says nothing."""
    told = result.controls
    missed = [told.missed] if told is not None and told.missed is not None else []
    wrong = [told.false_alarm] if told is not None and told.false_alarm is not None else []
    if result.truth:
        planted = [(one, result.truth[one.concept]) for one in result.concepts if one.concept in result.truth]
        missed.append(any(truth > 2 * one.margin + one.mde80 and one.verdict is not Verdict.RELIES for one, truth in planted))
        wrong.append(any(abs(truth) < one.margin / 2 and one.verdict is Verdict.RELIES for one, truth in planted))
    if missed:
        yield Sample("control_missed", _labels(result), any(missed))
    if wrong:
        yield Sample("control_false_alarm", _labels(result), any(wrong))


def _bundles(result: AuditResult) -> Iterator[_Bundle]:
    found = {(finding.kind, finding.concept, finding.metric): finding for finding in result.findings}
    for concept in result.concepts:
        samples = _unique(_concept(result, concept, found))
        breach = any(finding.kind == "reliance" and finding.concept == concept.concept for finding in result.findings)
        size = -concept.importance.value if math.isfinite(concept.importance.value) else 0.0
        rank = (not breach, not concept.role.alerts, size, concept.concept)
        yield _Bundle(_key(result), rank, tuple(samples))
    if result.diffex is not None:
        yield from (_Bundle(_key(result), rank, tuple(_unique(samples))) for rank, samples in tree_bundles(result, result.diffex))
    yield from (_Bundle(_key(result), rank, tuple(_unique(samples))) for rank, samples in counterfactual_bundles(result))
    yield from (_Bundle(_key(result), rank, tuple(_unique(samples))) for rank, samples in discovery_bundles(result))
    for figure in result.fairness:
        finding = found.get(("fairness", figure.concept, fairness_metric(figure)))
        if figure.estimate is not None and (finding is not None or _exported(figure)):
            samples = _unique(_fairness(result, figure, figure.estimate, finding))
            rank = (finding is None, False, -abs(figure.estimate.value), f"{figure.concept} {fairness_metric(figure)}")
            yield _Bundle(_key(result), rank, tuple(samples))


def _exported(figure: FairnessFigure) -> bool:
    """Figures that have a bound and that the model alone is answerable for; the others are in the report."""
    return figure.family == "interventional" and side_of(figure) is not None


def _concept(result: AuditResult, concept: ConceptResult, found: Mapping[tuple[str, str, str], Finding]) -> Iterator[Sample]:
    labels = (*_labels(result), concept.concept, concept.metric)
    yield Sample("concept_verdict", (*labels, concept.role.value, concept.verdict.value), 1)
    yield Sample("concept_rows", labels, concept.n_rows)
    if concept.verdict is Verdict.NOT_ASSESSABLE:
        return
    yield from _interval("concept_importance", labels, concept.importance)
    yield from _interval("concept_flip_rate_excess", labels, concept.flip_rate_excess)
    yield Sample("concept_margin_ratio", labels, concept.margin)
    yield Sample("concept_mde_ratio", labels, concept.mde80)
    if concept.role.alerts:
        yield from _breach("concept", labels, found.get(("reliance", concept.concept, concept.metric)))
    for (kind, name, metric), finding in found.items():  # bounds on other estimates, and on roles that the policy added
        if kind == "reliance" and name == concept.concept:
            yield from _breach("concept", (*labels[:-1], metric), finding)


def _fairness(result: AuditResult, figure: FairnessFigure, estimate: Estimate, finding: Finding | None) -> Iterator[Sample]:
    labels = (*_labels(result), figure.concept, fairness_metric(figure))
    yield from _interval("fairness_gap", labels, estimate)
    yield Sample("fairness_rows", labels, figure.n)
    yield from _breach("fairness", labels, finding)


def _interval(stem: str, labels: tuple[str, ...], estimate: Estimate) -> Iterator[Sample]:
    yield Sample(f"{stem}_ratio", labels, estimate.value)
    yield Sample(f"{stem}_low_ratio", labels, estimate.low)
    yield Sample(f"{stem}_high_ratio", labels, estimate.high)


def _breach(stem: str, labels: tuple[str, ...], finding: Finding | None) -> Iterator[Sample]:
    yield Sample(f"{stem}_breach", labels, finding is not None)
    yield Sample(f"{stem}_breach_runs", labels, finding.breach_runs if finding else 0)
    yield Sample(f"{stem}_breach_strong", labels, finding.strong if finding else False)

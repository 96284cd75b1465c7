"""One audit as a pure function of the bank's table and the model's scores: gates first, then importance, fairness and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit_plugin.bank.table import BankTable
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import ConceptResult, FairnessFigure, Gate, GateStatus, Pair, RunState, Verdict
from audit_plugin.methods.depict.assemble import ScoresBySha, assemble
from audit_plugin.methods.depict.coinciding import inseparable
from audit_plugin.methods.depict.edits import detector_drop
from audit_plugin.methods.depict.estimate import concept_results, group_results
from audit_plugin.methods.depict.fairness import fairness_figures
from audit_plugin.methods.depict.gates import GateOptions, GateReport, run_gates, skill
from audit_plugin.methods.depict.pairs import choose_pairs
from audit_plugin.methods.depict.placebo import placebo_figures
from audit_plugin.methods.depict.study import Study, make_study
from audit_plugin.statistics.verdicts import DEFAULT_MARGINS


@dataclass(frozen=True, kw_only=True)
class DepictOptions:
    """How an audit computes and judges."""

    metric: str = "auroc"
    """auroc (one against the rest, macro-averaged, with more than two classes), accuracy, brier or log_loss."""
    threshold: float = 0.5
    """Scores of the favourable class from here on decide for it."""
    margin: float | None = None
    """Practical margin δ₀; None takes the metric's default (0.02 for auroc and accuracy, 0.01 for brier)."""
    resamples: int = 2_000
    """Bootstrap resamples behind every interval."""
    adjusted_resamples: int = 200
    """Resamples behind the leak-adjusted importance, whose scores must be sorted anew in each."""
    gates: GateOptions = field(default_factory=GateOptions)
    """Thresholds of the validity gates."""
    random_pairs: int = 12
    """Pairs of pictures per concept drawn by seed for the report."""
    extreme_pairs: int = 6
    """Pairs per concept with the largest score changes, labelled as extremes."""


@dataclass(frozen=True, kw_only=True)
class DepictReport:
    """Everything one audit found out about one model; findings are made of it by policy, elsewhere."""

    state: RunState
    """How the audit itself went; never "with findings"."""
    headline: str
    metric: str
    classes: tuple[str, ...]
    """Columns that were judged: (rest, favourable) when one class is favourable."""
    concepts: tuple[ConceptResult, ...]
    groups: tuple[ConceptResult, ...]
    gates: tuple[Gate, ...]
    leakage: Mapping[str, Mapping[str, float]]
    """Flipped concept -> detector's concept -> change rate in excess of the placebo's; the diagonal is the change asked for."""
    detector_drops: Mapping[str, Mapping[str, float]]
    """Check 2 of the paper: permuted concept -> detector's concept -> fall of its AUROC against the original values."""
    placebo: Mapping[str, Estimate]
    """Effect of the placebo edit: on the metric, "flip_rate" and "score_shift"."""
    seed_noise: Mapping[str, Estimate]
    """Effect of another seed with the same caption, for the noise floor; empty without replicates."""
    fairness: tuple[FairnessFigure, ...]
    pairs: tuple[Pair, ...]
    generated_score: float
    real_score: float | None
    n_rows: int
    not_tested: tuple[str, ...]

    def concept(self, name: str) -> ConceptResult:
        """The result of the concept (or group) of this name."""
        return next(result for result in (*self.concepts, *self.groups) if result.concept == name)


def audit(
    table: BankTable,
    scores: ScoresBySha,
    *,
    label: str,
    classes: Sequence[str],
    seed: str,
    positive: str | None = None,
    real_scores: ScoresBySha | None = None,
    detector_auroc: Mapping[str, float] | None = None,
    options: DepictOptions | None = None,
) -> DepictReport:
    """Audit one model against one label column.

    ``scores`` maps sha256 to ``(k,)`` probabilities in the order of ``classes``; ``real_scores`` those of real images, when they are
    kept apart.  ``positive`` names the favourable class: with two classes the second by default, with more none by default.
    ``detector_auroc`` is what the detector's own card says per concept, for want of real images.  Equal arguments, equal report.
    """
    options = options or DepictOptions()
    arrays = assemble(table, scores, label=label, classes=classes, real_scores=real_scores)
    study = make_study(
        arrays, metric=options.metric, positive=positive, threshold=options.threshold, resamples=options.resamples, seed=seed
    )
    margin = DEFAULT_MARGINS[options.metric] if options.margin is None else options.margin
    gates = run_gates(study, options.gates, margin=margin, detector_auroc=detector_auroc)
    concepts = concept_results(study, gates, adjusted_resamples=options.adjusted_resamples)
    groups = group_results(study, gates)
    state = _state(gates, concepts)
    real = None if study.arrays.real is None else skill(study, study.arrays.real)
    generated = skill(study, study.arrays.baseline)
    assert generated is not None, "a study has rows of both kinds"
    return DepictReport(
        state=state,
        headline=_headline(gates, concepts, state, options.metric),
        metric=options.metric,
        classes=study.arrays.classes,
        concepts=concepts,
        groups=groups,
        gates=gates.gates,
        leakage={name: {other: boot.value for other, boot in row.items()} for name, row in gates.leakage.items()},
        detector_drops=_detector_drops(study),
        placebo=placebo_figures(study, study.arrays.placebo),
        seed_noise=placebo_figures(study, None if study.arrays.replicates is None else study.arrays.replicates[0]),
        fairness=fairness_figures(study, gates),
        pairs=choose_pairs(study, table, random=options.random_pairs, extreme=options.extreme_pairs),
        generated_score=generated.value,
        real_score=None if real is None else real.value,
        n_rows=int(arrays.usable.sum()),
        not_tested=_not_tested(gates, concepts, groups),
    )


def _detector_drops(study: Study) -> Mapping[str, Mapping[str, float]]:
    arrays, once = study.arrays, np.ones((1, len(study.arrays.labels)))
    read = [name for name in arrays.names if name in arrays.readings and len(np.unique(arrays.values[name])) > 1]
    found = {
        name: {other: float(detector_drop(study, name, other, once)[0]) for other in read if other in arrays.flips[name].readings}
        for name in arrays.names
    }
    return {name: {other: drop for other, drop in row.items() if np.isfinite(drop)} for name, row in found.items()}


def _state(gates: GateReport, concepts: Sequence[ConceptResult]) -> RunState:
    if all(gates.status("G0", result.concept) is GateStatus.FAIL for result in concepts):
        return RunState.INSUFFICIENT_DATA
    if gates.invalid:
        return RunState.INVALID_GENERATOR
    if all(result.verdict is Verdict.NOT_ASSESSABLE for result in concepts):
        return RunState.INSUFFICIENT_DATA
    return RunState.SUCCEEDED


def _headline(gates: GateReport, concepts: Sequence[ConceptResult], state: RunState, metric: str) -> str:
    if state is RunState.INSUFFICIENT_DATA:
        return f"Not assessable: none of the {len(concepts)} concepts has enough rows and a good enough detector."
    if state is RunState.INVALID_GENERATOR:
        return f"Audit broken: {gates.invalid}; nothing is said about the model. {gates.remedy}".rstrip()
    relied = sorted((result for result in concepts if result.verdict is Verdict.RELIES), key=_alerting_first)
    others = _others(concepts)
    if relied:
        named = ", ".join(f"{result.concept} ({result.role.value}, {_figures(result)})" for result in relied[:3])
        more = f" and {len(relied) - 3} more" if len(relied) > 3 else ""
        return f"Relies on {named}{more}: {metric} drop when permuted, 95 % interval; {others}."
    if gates.coinciding:
        name, same = next(iter(gates.coinciding.items()))
        return f"No reliance can be shown: {others}; {name} {inseparable(same)}."
    seen = max((result.mde80 for result in concepts if result.verdict is not Verdict.NOT_ASSESSABLE), default=0.0)
    clean = all(result.verdict is Verdict.NEGLIGIBLE for result in concepts) and gates.status("G8") is not GateStatus.FAIL
    word = "No reliance" if clean else "No reliance shown"
    return f"{word}: {others}; a drop of {metric} by {seen:.3f} would have been seen in 4 of 5 audits."


def _alerting_first(result: ConceptResult) -> tuple[bool, float]:
    return not result.role.alerts, -result.importance.value


def _figures(result: ConceptResult) -> str:
    shown = result.importance
    return f"{shown.value:.3f} [{shown.low:.3f}, {shown.high:.3f}]"


def _others(concepts: Sequence[ConceptResult]) -> str:
    order = (Verdict.HURTS, Verdict.NEGLIGIBLE, Verdict.INCONCLUSIVE, Verdict.NOT_ASSESSABLE)
    counts = {word: sum(result.verdict is word for result in concepts) for word in order}
    return ", ".join(f"{count} {word.value.replace('_', ' ')}" for word, count in counts.items() if count) or "no other concepts"


def _not_tested(gates: GateReport, concepts: Sequence[ConceptResult], groups: Sequence[ConceptResult]) -> tuple[str, ...]:
    """What this audit leaves open, in words."""
    blind = [
        f"concept {result.concept}: {'; '.join(result.notes)}" for result in concepts if result.verdict is Verdict.NOT_ASSESSABLE
    ]
    skipped = {
        (gate.name, gate.consequence): gate for gate in gates.gates if gate.status is GateStatus.NOT_RUN and gate.consequence
    }
    gaps = [f"gate {name}: {why}" for name, why in skipped]
    same = [f"concept {name}: {inseparable(others)}" for name, others in gates.coinciding.items()]
    joint = [] if groups else ["joint reliance on several concepts: no group of concepts was flipped together"]
    return (*blind, *same, *gaps, *joint, "anything the concept list does not name")

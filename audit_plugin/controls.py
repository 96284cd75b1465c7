"""Dead-man controls: two classifiers of known dependence, judged by every audit on its own pictures, gates, verdicts and policy.

What is tested is everything between the bank's pictures and a finding: whether flips change what they should and nothing else, as the
independent detector reads it, and whether estimates, verdicts and policy make an alarm of a reliance and none of its absence.  The server and
the audited model have no part in it.

Measured on synthetic tables (six concepts, five of which must not matter; 200 rows; a detector that errs in 1 % of its readings, each by itself):
false alarms 0 of 120 with perfect edits and 0 of 80 where a thirtieth of the edits leak into the next concept and a tenth are not made; the planted
reliance was found in all 200.  In three of them the control's own audit failed a gate by chance with the first concept and passed with the second.
By edits of a concept tree: 0 false alarms and 0 misses of 100.  So a control that fails is a failure, and its alert waits for no second run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from audit_plugin.bank.table import BankTable
from audit_plugin.core.control_results import Control, ControlReport, no_controls
from audit_plugin.core.diffex_results import DiffexResult, NodeEffect
from audit_plugin.core.errors import AuditError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, Finding, Gate, GateStatus, Verdict
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import NodeKind
from audit_plugin.core.values import Concept, Role
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import Policy, Threshold
from audit_plugin.findings.semantic import covers_node, untrustworthy
from audit_plugin.methods.depict import DepictOptions, DepictReport, audit
from audit_plugin.methods.depict.controls import CLASSES, LABEL, control_task, readable

Again = Callable[[str, str], DiffexResult]
"""(Path of a node or nothing, class) -> what a tree's own edits say of a control that responds to that node alone."""

RESAMPLES = 200
ADJUSTED_RESAMPLES = 20
TRIES = 2
"""Concepts that a control is tried on."""
_BLIND = ("G0", "G5")
"""Gates that forbid any statement about a concept, whatever the model."""


def run_controls(
    table: BankTable,
    audited: AuditResult,
    policy: Policy,
    options: DepictOptions,
    *,
    detector_auroc: Mapping[str, float] | None = None,
) -> ControlReport:
    """Judge both controls as ``audited`` was, which lends its gates and provenance; what cannot be run says why."""
    if audited.state.broken:
        return no_controls("the audit itself did not work")
    bench = _Bench(
        table=table,
        audited=audited,
        policy=policy,
        options=replace(
            options,
            resamples=min(options.resamples, RESAMPLES),
            adjusted_resamples=min(options.adjusted_resamples, ADJUSTED_RESAMPLES),
            random_pairs=0,
            extreme_pairs=0,
        ),
        detector_auroc=detector_auroc or {},
    )
    return ControlReport(planted=bench.planted(), clean=bench.clean())


def tree_controls(audited: AuditResult, policy: Policy, again: Again) -> ControlReport:
    """The same where only a concept tree was asked about: ``again`` says what its edits told of a control that responds to one node.

    The planted node is the first that the policy can accuse and that has images enough; the clean control responds to a core node, or to none.
    """
    told = audited.diffex
    if told is None or audited.state.broken or untrustworthy(told):
        return no_controls("the audit itself did not work, or cannot be relied on")
    if told.stopped:
        return no_controls(f"a limit stopped the audit: {told.stopped}")
    planted = _tree_planted(audited, policy, again, next(_accusable(told, policy), None))
    core = next((node for effects in told.classes for node in effects.nodes if node.kind is NodeKind.CORE), None)
    name, about = ("", told.classes[0].class_name) if core is None else (core.node, core.class_name)
    judged = _conclude_tree(audited, policy, again(name, about))
    worst = max(judged.findings, key=lambda one: one.low, default=None)
    effect = _node_effect(judged, name) if worst is None else _effect(worst)
    clean = Control(concept=name, alarmed=worst is not None, accused="" if worst is None else worst.concept, effect=effect)
    return ControlReport(planted=planted, clean=clean)


def _tree_planted(audited: AuditResult, policy: Policy, again: Again, node: NodeEffect | None) -> Control:
    if node is None:
        return Control(reason="no node that the policy can accuse was edited on images enough")
    path, judged = node.node, _conclude_tree(audited, policy, again(node.node, node.class_name))
    if any(one.concept == path for one in judged.findings):
        return Control(concept=path, alarmed=True, accused=path, effect=_node_effect(judged, path))
    return Control(concept=path, alarmed=False, effect=_node_effect(judged, path), reason=_tree_silence(judged, path))


def _accusable(told: DiffexResult, policy: Policy) -> Iterator[NodeEffect]:
    """Nodes that must not matter and are held against a bound, on as many images as it asks for."""
    for effects in told.classes:
        for node in effects.nodes:
            bound = next((one for one in policy.thresholds if covers_node(one, node)), None)
            images = node.images if node.kind is NodeKind.PROTECTED else node.spurious_images
            if bound is not None and node.kind.must_not and images >= bound.least:
                yield node


def _conclude_tree(audited: AuditResult, policy: Policy, told: DiffexResult) -> AuditResult:
    return conclude(replace(audited, diffex=told, counterfactuals=None, discovery=None), policy)


def _node_effect(judged: AuditResult, path: str) -> Estimate | None:
    """In log-odds."""
    classes = () if judged.diffex is None else judged.diffex.classes
    return next((node.effect for effects in classes for node in effects.nodes if node.node == path), None)


def _tree_silence(judged: AuditResult, path: str) -> str:
    assert judged.diffex is not None, "it was told by a tree"
    if doubts := untrustworthy(judged.diffex):
        return "; ".join(doubts)
    known = [node for effects in judged.diffex.classes for node in effects.nodes if node.node == path]
    return known[0].state.value.replace("_", " ") if known else "the search dropped it"


class _Bench:
    def __init__(
        self,
        *,
        table: BankTable,
        audited: AuditResult,
        policy: Policy,
        options: DepictOptions,
        detector_auroc: Mapping[str, float],
    ) -> None:
        self.table, self.audited, self.policy = table, audited, policy
        self.options, self.detector_auroc = options, detector_auroc
        self.seen = [one for one in table.concepts if readable(table, one.name) and not _blind(one, audited.gates)]

    def planted(self) -> Control:
        """Answers from the first concept that the policy can accuse."""
        bounds = {one.name: bound for one in self.table.concepts if (bound := _bound(one, self.policy)) is not None}
        if not bounds:
            return Control(reason="no threshold of the policy speaks about the importance of a concept")
        chosen = [one.name for one in self.seen if one.name in bounds]
        if not chosen:
            return Control(reason=f"none of {', '.join(bounds)} has enough rows of every level and is read well enough")
        name, judged = self.working(chosen)
        return Control(concept=name, reason=judged) if isinstance(judged, str) else _alarmed(judged, name, bounds[name])

    def clean(self) -> Control:
        """Answers from the first concept that the policy cannot accuse, core ones first; from none where there is none."""
        free = [one for one in self.seen if not one.role.alerts and _bound(one, self.policy) is None]
        ordered = sorted(free, key=lambda one: one.role is not Role.CORE)
        name, judged = self.working([*(one.name for one in ordered[: TRIES - 1]), ""])
        if isinstance(judged, str):
            return Control(concept=name, reason=judged)
        if judged.state.broken:
            return Control(concept=name, reason=_why_silent(judged, name))
        if found := [one for one in judged.findings if not one.metric.startswith("observational_")]:
            worst = max(found, key=lambda one: one.low)
            return Control(concept=name, alarmed=True, accused=worst.concept, effect=_effect(worst))
        own = next((one.decided_by or one.importance for one in judged.concepts if one.concept == name), None)
        return Control(concept=name, alarmed=False, effect=own)

    def working(self, concepts: Sequence[str]) -> tuple[str, AuditResult | str]:
        """The first control whose own audit passes the gates that speak of a model, which chance fails now and then; else the last tried."""
        for name in concepts[:TRIES]:
            judged = self.judged(name)
            if isinstance(judged, str) or not judged.state.broken:
                break
        return name, judged

    def judged(self, concept: str) -> AuditResult | str:
        """The control that answers from this concept as an audited model, or why it cannot be judged."""
        seed = digest("control", self.audited.provenance.seed, self.audited.model, self.audited.label)
        try:
            task = control_task(self.table, concept, seed=seed, threshold=self.options.threshold)
            report = audit(
                task.table,
                task.scores,
                label=LABEL,
                classes=CLASSES,
                seed=seed,
                detector_auroc=self.detector_auroc,
                options=self.options,
            )
        except AuditError as error:
            return str(error)
        return conclude(judged_like(self.audited, report), self.policy)


def judged_like(audited: AuditResult, report: DepictReport, told: DiffexResult | None = None) -> AuditResult:
    """What the report, and a tree where there is one, say of a classifier of known dependence, as a result of the audit that lent its pictures."""
    return replace(
        audited,
        state=report.state,
        classes=report.classes,
        n_rows=report.n_rows,
        headline=report.headline,
        concepts=report.concepts,
        groups=report.groups,
        gates=report.gates,
        fairness=report.fairness,
        findings=(),
        pairs=(),
        truth={},
        diffex=told,
        shortcuts=(),
        counterfactuals=None,
        discovery=None,
    )


def _blind(concept: Concept, gates: Sequence[Gate]) -> bool:
    return any(gate.name in _BLIND and gate.subject == concept.name and gate.status is GateStatus.FAIL for gate in gates)


def _bound(concept: Concept, policy: Policy) -> Threshold | None:
    """The threshold that decides about reliance on this concept, as :func:`audit_plugin.findings.findings.find` chooses it."""
    able = (one for one in policy.thresholds if one.metric in {"importance", "flip_rate_excess"})
    return next((one for one in able if one.covers(concept.name, concept.role)), None)


def _alarmed(judged: AuditResult, name: str, bound: Threshold) -> Control:
    """Whether the audit accused the control of what it does; not told where the policy would not accuse any model of that."""
    if found := [one for one in judged.findings if one.concept == name and one.kind == "reliance"]:
        return Control(concept=name, alarmed=True, accused=name, effect=_effect(found[0]))
    result = next(one for one in judged.concepts if one.concept == name)
    effect = result.decided_by or result.importance
    if result.n_rows < bound.least:
        return Control(concept=name, reason=f"{result.n_rows} rows, and threshold {bound.name} asks for {bound.least}")
    if result.verdict is Verdict.RELIES and bound.metric == "importance" and effect.low <= bound.threshold:
        return Control(concept=name, reason=f"the bound of threshold {bound.name} is more than a control can lose", effect=effect)
    return Control(concept=name, alarmed=False, effect=effect, reason=_why_silent(judged, name))


def _effect(finding: Finding) -> Estimate:
    return Estimate(value=finding.value, low=finding.low, high=finding.high)


def _why_silent(judged: AuditResult, concept: str) -> str:
    """What stood between a known reliance and an alarm, in words."""
    if judged.state.broken:
        failed = [f"{gate.name} {gate.title}" for gate in judged.gates if gate.status is GateStatus.FAIL]
        return f"its audit did not work: {'; '.join(failed) or judged.headline}"
    result = next((one for one in judged.concepts if one.concept == concept), None)
    said = "" if result is None else "; ".join((result.verdict.value.replace("_", " "), *result.notes))
    return f"judged {said}" if said else "not judged"

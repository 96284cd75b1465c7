"""From what classes respond to, found with no data, to findings: words that act and are no part of the class, and classes that need no object.

Words are chosen under other seeds than they are tested under, and their limits hold for all words of a class together, so that one audit is enough.
Nothing is found where the generator does not draw what the model was made for.  Units are reported and accuse nobody: a unit that
responds to snow is not wrong by that.
"""

from collections.abc import Iterator
from typing import Final

from audit_plugin.core.diffex_results import EffectState, NodeEffect
from audit_plugin.core.discovery_results import DiscoveredSubject, FoundWord, WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.policy import Policy, Threshold

CUE: Final = "discovered_cue"
OBJECT_ABSENT: Final = "object_absent"
RUNBOOKS: Final = {CUE: "auditplugindiscoveredcue.md", OBJECT_ABSENT: "auditpluginclassobjectabsent.md"}


def kind_of(result: AuditResult, subject: DiscoveredSubject, word: FoundWord) -> NodeKind | None:
    """Kind of the node that says the same as the word; None where there is no node, or nobody said its kind."""
    if word.kind is not None or not word.node:
        return word.kind
    proposed = () if result.discovery is None else result.discovery.proposed
    own = (one.kind for one in proposed if one.path == word.node and one.subject in {subject.name, ""})
    tested = (node.kind for node in _nodes(result) if node.node == word.node)
    return next(own, None) or next(tested, None)


def tree_tests(result: AuditResult, subject: DiscoveredSubject, word: FoundWord) -> tuple[NodeEffect, ...]:
    """What edits of real images said of the word's node: for the class itself, of a unit for the classes that it speaks for."""
    about = {subject.name} if subject.kind == "class" else {name for name, _ in subject.classes}
    return tuple(node for node in _nodes(result) if word.node and node.node == word.node and node.class_name in about)


def is_core(kind: NodeKind | None, word: FoundWord) -> bool:
    """Whether the word belongs to what the class is about, by the tree, by a person or by where the response comes from."""
    return kind is NodeKind.CORE or word.part is WordPart.CORE


def is_cue(kind: NodeKind | None, word: FoundWord) -> bool:
    """Whether the word acts and may be held against the model: partly core is reported alone."""
    return word.causes and word.part in {WordPart.SPURIOUS, WordPart.UNKNOWN} and not is_core(kind, word)


def cue_metric(subject: DiscoveredSubject) -> str:
    """Name of what is held against a bound: one for each class."""
    return f"cue_effect:{subject.name}"


def absent_metric(subject: DiscoveredSubject) -> str:
    """The same of pictures without the object."""
    return f"object_absent:{subject.name}"


def discovery_findings(result: AuditResult, policy: Policy) -> Iterator[Finding]:
    """Breaches of the policy by the classes of the result's discovery."""
    told = result.discovery
    if told is None or not told.fit.fits:
        return
    for subject in told.subjects:
        if subject.kind != "class":
            continue
        if (finding := _absent(result, subject, policy)) is not None:
            yield finding
        for word in subject.words:
            kind = kind_of(result, subject, word)
            threshold = next((one for one in policy.thresholds if _covers(one, kind, word)), None)
            if threshold is not None and is_cue(kind, word) and _beyond(word.effect, threshold, word.pairs):
                yield _cue(result, subject, word, threshold)


def _nodes(result: AuditResult) -> Iterator[NodeEffect]:
    if result.diffex is not None:
        yield from (node for effects in result.diffex.classes for node in effects.nodes)


def _covers(threshold: Threshold, kind: NodeKind | None, word: FoundWord) -> bool:
    if threshold.metric != "cue":
        return False
    if threshold.kinds or threshold.nodes or threshold.concepts:
        below = bool(word.node) and any(f"{word.node}/".startswith(f"{path}/") for path in threshold.nodes)
        return kind in threshold.kinds or below or word.word in threshold.concepts
    return True


def _beyond(estimate: Estimate, threshold: Threshold, n: int) -> bool:
    return n >= threshold.least and estimate.low > threshold.threshold


def _severity(threshold: Threshold, low: float) -> str:
    return "critical" if threshold.critical is not None and low > threshold.critical else threshold.severity


def _cue(result: AuditResult, subject: DiscoveredSubject, word: FoundWord, threshold: Threshold) -> Finding:
    effect, kind = word.effect, kind_of(result, subject, word)
    q = "q<0.001" if word.q < 0.001 else f"q={word.q:.3f}"
    part = f"part {word.part}" + (f" by {word.part_by}" if word.part_by else "")
    node = f", node {word.node!r}" if word.node else ""
    return _finding(
        result,
        threshold,
        effect,
        kind=CUE,
        concept=word.word,
        metric=cue_metric(subject),
        n=word.pairs,
        summary=(
            f"{word.word!r} in the prompt makes {result.model!r} version {result.version} say {subject.name!r} on {word.with_word.value:.0%} of drawn "
            f"pictures instead of {word.without.value:.0%} under the same seeds: effect {effect.value:+.2f} (95 % interval {effect.low:+.2f} to "
            f"{effect.high:+.2f}, {q}, {word.pairs} pairs, bound {threshold.threshold:.2f}); {part}{node}{f', kind {kind}' if kind else ''}; "
            f"{_to_do(tree_tests(result, subject, word))}"
        ),
    )


def _to_do(tests: tuple[NodeEffect, ...]) -> str:
    """What edits of real images have said, and what is to be done."""
    core = "if it defines the class, give it a node of kind core"
    if not tests:
        return f"test it on real images (diffex) before acting on the model; {core}"
    if any(node.state is EffectState.EFFECT and node.effect is not None and node.effect.value > 0 for node in tests):
        return f"edits of real images confirm it: break the co-occurrence in the training data and audit again; {core}"
    if all(node.state is EffectState.INCONCLUSIVE for node in tests):
        return f"edits of real images are inconclusive: test it on more of them before acting on the model; {core}"
    return f"edits of real images do not confirm it: look at both before acting on the model; {core}"


def _absent(result: AuditResult, subject: DiscoveredSubject, policy: Policy) -> Finding | None:
    share = subject.object_absent
    covering = (
        one for one in policy.thresholds if one.metric == OBJECT_ABSENT and (not one.concepts or subject.name in one.concepts)
    )
    threshold = next(covering, None)
    if share is None or threshold is None or share.low <= threshold.threshold:
        return None
    return _finding(
        result,
        threshold,
        share,
        kind=OBJECT_ABSENT,
        concept=subject.name,
        metric=absent_metric(subject),
        n=0,
        summary=(
            f"{result.model!r} version {result.version} says {subject.name!r} without its object: {share.value:.0%} of the drawn pictures that it takes for "
            f"{subject.name!r} do not show one (95 % interval {share.low:.0%} to {share.high:.0%}, bound {threshold.threshold:.0%}); look at them in the "
            "report, and train with such scenes under their true class"
        ),
    )


def _finding(
    result: AuditResult, threshold: Threshold, estimate: Estimate, *, kind: str, concept: str, metric: str, n: int, summary: str
) -> Finding:
    return Finding(
        id=digest("finding", kind, result.model, result.label, concept, metric),
        kind=kind,
        model=result.model,
        version=result.version,
        label=result.label,
        concept=concept,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        threshold=threshold.threshold,
        severity=_severity(threshold, estimate.low),
        summary=summary,
        owner=threshold.owner,
        reason=threshold.reason,
        date=threshold.date.isoformat(),
        runbook=RUNBOOKS[kind],
        rule=threshold.name,
        n=n,
        strong=0 < 2 * threshold.threshold < estimate.low,
    )

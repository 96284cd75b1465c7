"""From a cue that was found with no data to a verdict: its node of the concept tree, that node's test on real images, what follows.

Two independent experiments stand side by side: drawn pictures with and without the word, and real images with and without the thing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.diffex_results import EffectState, NodeEffect
from audit_plugin.core.discovery_results import DiscoveredSubject, FoundWord, ProposedNode, WordPart
from audit_plugin.core.results import AuditResult, ConceptResult, Finding
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.discovery import CUE, cue_metric, is_core, kind_of, tree_tests
from audit_plugin.findings.semantic import KIND as SEMANTIC
from audit_plugin.findings.semantic import finding_metric

ADD_NODE: Final = "not run, no node says the same: add one to the concept tree and audit with diffex to test it on real images"
ACCEPT_NODE: Final = "not run: accept the proposed node into the concept tree and audit with diffex to test it on real images"
RUN_TREE: Final = "not run: an audit with diffex (audit-plugin run) tests the node on real images"

SOURCES: Final = {CUE: "by drawn pictures", SEMANTIC: "by real images", "reliance": "by permuted concepts"}
"""Kind of a finding -> what it rests on, in words."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One word that acts, and what came of it."""

    subject: DiscoveredSubject
    word: FoundWord
    kind: NodeKind | None
    node: str
    """``known``, ``new, in the tree now``, ``new, proposed`` or ``none``."""
    proposed: ProposedNode | None
    tests: tuple[NodeEffect, ...]
    """Of the node on real images; of a unit for each class that it speaks for."""
    missing: str
    """Why there are none and how to have them; empty where there are some."""
    concept: ConceptResult | None
    """The audited concept of the same name."""
    findings: tuple[Finding, ...]
    """About the word, its node or that concept."""
    style: str
    """Of the verdict: ``alert``, ``good``, ``open`` or ``soft``."""
    verdict: str


def chain(result: AuditResult, subject: DiscoveredSubject) -> tuple[Link, ...]:
    """Every word of the subject that acts, in their order."""
    return tuple(_link(result, subject, word) for word in subject.words if word.causes)


def _link(result: AuditResult, subject: DiscoveredSubject, word: FoundWord) -> Link:
    tests, concept, kind = tree_tests(result, subject, word), _concept(result, word), kind_of(result, subject, word)
    proposed = () if result.discovery is None else result.discovery.proposed
    own = next((one for one in proposed if one.path == word.node and one.subject in {subject.name, ""}), None)
    findings = tuple(_findings(result, subject, word, tests, concept))
    style, verdict = _verdict(kind, word, tests, _held(result, subject, word, findings), found=bool(findings))
    return Link(
        subject=subject,
        word=word,
        kind=kind,
        node=_node(word, own),
        proposed=own,
        tests=tests,
        missing="" if tests else _missing(result, word, own),
        concept=concept,
        findings=findings,
        style=style,
        verdict=verdict,
    )


def _node(word: FoundWord, proposed: ProposedNode | None) -> str:
    if not word.node:
        return "none"
    if word.known:
        return "known"
    return "new, in the tree now" if proposed is not None and proposed.accepted else "new, proposed"


def _missing(result: AuditResult, word: FoundWord, proposed: ProposedNode | None) -> str:
    if not word.node:
        return ADD_NODE
    if result.diffex is not None:
        if (why := next((one.reason for one in result.diffex.untestable if one.node == word.node), "")) != "":
            return f"could not be tested: {why}"
        if word.known or (proposed is not None and proposed.accepted):
            return f"{RUN_TREE}; the last one did not ask about it for this class"
    return RUN_TREE if word.known or (proposed is not None and proposed.accepted) else ACCEPT_NODE


def _concept(result: AuditResult, word: FoundWord) -> ConceptResult | None:
    names = {_plain(word.word), _plain(word.node.rpartition("/")[2])} - {""}
    return next((one for one in result.concepts if _plain(one.concept) in names), None)


def _plain(name: str) -> str:
    """As names are compared: "Snow_storm" and "snow storm" are the same."""
    return " ".join(name.replace("_", " ").casefold().split())


def _findings(
    result: AuditResult, subject: DiscoveredSubject, word: FoundWord, tests: tuple[NodeEffect, ...], concept: ConceptResult | None
) -> Iterator[Finding]:
    own = {(CUE, word.word, cue_metric(subject)), *((SEMANTIC, node.node, finding_metric(node)) for node in tests)}
    for one in result.findings:
        if (one.kind, one.concept, one.metric) in own or (
            one.kind == "reliance" and concept is not None and one.concept == concept.concept
        ):
            yield one


def _verdict(kind: NodeKind | None, word: FoundWord, tests: tuple[NodeEffect, ...], held: str, *, found: bool) -> tuple[str, str]:
    """Style and words: what real images say of the cue, and what is held against the model."""
    states = {node.state for node in tests}
    real = any(node.state is EffectState.EFFECT and node.effect is not None and node.effect.value > 0 for node in tests)
    if is_core(kind, word):
        return "good", "part of the class" + (", on real images too: healthy" if real else "")
    if real:
        said = "confirmed on real images"
    elif not tests:
        said = "acts in drawn pictures, not yet tested on real images"
    elif EffectState.EFFECT in states:
        said = "not confirmed: on real images it pushes the other way"
    elif states == {EffectState.NO_EFFECT}:
        said = "not confirmed: no effect on real images"
    else:
        said = "open: edits of real images are inconclusive"
    return "alert" if found else "open", f"{said}; {held}"


def _held(result: AuditResult, subject: DiscoveredSubject, word: FoundWord, findings: tuple[Finding, ...]) -> str:
    """What is held against the model, or why nothing is."""
    if findings:
        return "finding: " + ", ".join(f"{SOURCES[one.kind]} ({one.severity})" for one in findings)
    if result.discovery is not None and not result.discovery.fit.fits:
        return "nothing is held against the model: the generator is from elsewhere"
    if subject.kind == "unit":
        return "a unit accuses nobody"
    if word.part is WordPart.MIXED:
        return "partly core, so no finding"
    return "no finding at these thresholds"

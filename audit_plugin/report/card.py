"""A fragment for a model card: YAML metadata and a page of Markdown, to paste where the model is described."""

import re
from typing import Final

import yaml

from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.results import AuditResult, GateStatus
from audit_plugin.report.controls import control_words
from audit_plugin.report.discovery import PARTS, how_found
from audit_plugin.report.discovery_chain import chain
from audit_plugin.report.ranking import find, order, suppressed
from audit_plugin.report.selftest import LIMIT, found_words
from audit_plugin.report.tree import effect_words
from audit_plugin.report.tree_words import above_bound
from audit_plugin.report.words import (
    LIMITS,
    STATE_WHY,
    VERDICT_WORDS,
    detectable,
    importance_words,
    interval,
    metric_name,
    number,
    sentence,
    thousands,
)

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()#|~!])")


def model_card(result: AuditResult) -> str:
    """The fragment for one audited model."""
    sections = [_metadata(result), _verdict(result), _concepts(result), _discovery(result), _findings(result), _limits(result)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(result: AuditResult) -> str:
    facts = {
        "model": result.model,
        "version": result.version,
        "label": result.label,
        "audit": result.provenance.audit,
        "run": result.run,
        "state": str(result.state),
        "finished_at": result.provenance.finished_at,
        "rows": result.n_rows,
        "metric": result.metric,
        "findings": [finding.id for finding in result.findings],
        "bank_digest": result.provenance.bank_digest,
        "policy_digest": result.provenance.policy_digest,
        "audit_plugin": result.provenance.plugin_version,
    }
    return "```yaml\n" + yaml.safe_dump({"concept_audit": facts}, sort_keys=False, allow_unicode=True).replace("```", "'''") + "```"


def _verdict(result: AuditResult) -> str:
    lines = [f"## Concept audit of {_plain(result.model)}, version {_plain(result.version)}", "", f"**{_plain(result.headline)}**"]
    if bound := above_bound(result):
        lines += ["", bound]
    if controls := control_words(result):
        lines += ["", f"Controls: {_plain(controls)}."]
    if result.state in STATE_WHY:
        lines += ["", STATE_WHY[result.state]]
    failed = [gate for gate in result.gates if gate.status is GateStatus.FAIL]
    lines += [
        "",
        *(f"* {_plain(f'{gate.name} {gate.title} {gate.subject}')}: fail. {_plain(gate.consequence)}" for gate in failed),
    ]
    return "\n".join(lines).rstrip()


def _concepts(result: AuditResult) -> str:
    if suppressed(result) or not result.concepts:
        return ""
    metric, rows = _plain(metric_name(result.metric)), thousands(result.n_rows)
    lines = [
        f"Importance is the drop of {metric} when a concept is permuted in generated images, with its 95 % interval over {rows} rows.",
        "",
        "| concept | role | importance [95 %] | flip rate over placebo | verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in order([result]).all:
        concept = find(result, name)
        assert concept is not None, "names come from the result"
        cells = (
            _plain(name), str(concept.role), _plain(importance_words(concept)), _plain(interval(concept.flip_rate_excess)),
            VERDICT_WORDS[concept.verdict],
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    told = [(one.concept, said) for one in result.concepts if (said := found_words(result, one))]
    if not told:
        return "\n".join(lines)
    return "\n".join([*lines, "", *(f"* {_plain(name)}: {_plain(said)}." for name, said in told), "", f"{LIMIT}."])


def _discovery(result: AuditResult) -> str:
    """Words that act, each with what came of it."""
    told = result.discovery
    if told is None:
        return ""
    lines = ["### What the classes respond to, with no data", "", f"{_plain(how_found(told))}. {_plain(_fits(told))}"]
    rows = [
        (
            _plain(subject.name), _plain(link.word.word), f"{link.word.without.value:.0%} → {link.word.with_word.value:.0%}",
            _plain(effect_words(link.word.effect)), PARTS[link.word.part][1], _plain(link.verdict),
        )
        for subject in told.subjects
        for link in chain(result, subject)
    ]  # fmt: skip
    if not rows:
        return "\n".join([*lines, "", "No word proved to act."])
    head = ["", "| class | word | without → with | effect [95 %] | part | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *head, *("| " + " | ".join(cells) + " |" for cells in rows)])


def _fits(told: Discovery) -> str:
    doubt = "" if told.fit.fits else "The generator does not draw what the model was made for. "
    return f"{doubt}{sentence(told.fit.said)}"


def _findings(result: AuditResult) -> str:
    if result.findings:
        lines = (
            f"* {_plain(finding.summary)} (threshold {number(finding.threshold)}, {_plain(finding.owner)}, {_plain(finding.date)})"
            for finding in result.findings
        )
        return "### Findings\n\n" + "\n".join(lines)
    if result.state.broken:
        return ""
    if not result.concepts:
        return "### Findings\n\nNo finding at these thresholds."
    return (
        f"### Findings\n\nNo finding at these thresholds. The smallest effect this run could detect with 80 % power was "
        f"{detectable(result)}, depending on the concept."
    )


def _limits(result: AuditResult) -> str:
    lines = ["### Not tested", "", *(f"* {_plain(item)}" for item in result.not_tested)] if result.not_tested else []
    return "\n".join([*lines, *([""] if lines else []), "### Limits", "", *(f"* {limit}" for limit in LIMITS)])


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

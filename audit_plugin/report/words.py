"""How the report says things: words and marks for verdicts, roles, states and gates; how numbers are written."""

import math
from collections.abc import Sequence
from typing import Final

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, ConceptResult, EngineCheck, EngineUse, Finding, GateStatus, RunState, Verdict
from audit_plugin.core.values import Role

NOTHING: Final = "–"
"""Stands where there is no number."""

DAGGER: Final = "†"
DAGGER_MEANING: Final = (
    "depends on combinations of concepts that hardly occur; the verdict goes by the importance within those that do (All estimates)"
)

VERDICT_WORDS: Final = {
    Verdict.RELIES: "relies",
    Verdict.HURTS: "hurts",
    Verdict.NEGLIGIBLE: "negligible",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NOT_ASSESSABLE: "not assessable",
}

MARKS: Final = {
    "alert": ("▲", "relies, and must not", "The interval lies above the margin, on a concept that must not matter."),
    "relies": ("●", "relies", "The interval lies above the margin: performance rests on the concept."),
    "hurts": ("◆", "hurts", "The interval lies below minus the margin: the model does better with the concept permuted."),
    "negligible": ("○", "negligible", "The effect is inside the margin, and the edits worked."),
    "inconclusive": ("□", "inconclusive", "This run cannot tell; more rows may."),
    "not_assessable": ("×", "not assessable", "A validity gate failed for this concept, so no value is given."),
}
"""Mark's name -> character, word, meaning.  Marks differ in shape, so that colour is never needed."""

ROLE_MEANINGS: Final = {
    Role.CORE: "defines the label; reliance is wanted",
    Role.CONTEXT: "may help; reliance is reported",
    Role.NUISANCE: "must not matter",
    Role.PROTECTED: "protected attribute; must not matter",
    Role.ARTEFACT: "artefact of capture; must not matter",
}

STATE_WORDS: Final = {
    RunState.SUCCEEDED: ("✓", "no finding"),
    RunState.SUCCEEDED_WITH_FINDINGS: ("▲", "findings"),
    RunState.INSUFFICIENT_DATA: ("×", "audit broken: not enough data"),
    RunState.INVALID_GENERATOR: ("×", "audit broken: generator not valid"),
    RunState.FAILED: ("×", "audit broken: run failed"),
    RunState.CANCELLED: ("–", "cancelled"),
}

STATE_WHY: Final = {
    RunState.INSUFFICIENT_DATA: "There are too few rows per concept level to estimate anything. This says nothing about the model.",
    RunState.INVALID_GENERATOR: (
        "The generated images do not stand for the real ones, so importance cannot be read from them and the ranking is not shown. "
        "This says nothing about the model."
    ),
    RunState.FAILED: "The run did not finish. What is shown is what it left behind; it says nothing about the model.",
    RunState.CANCELLED: "The run was stopped before its end. What is shown is incomplete.",
}

GATE_WORDS: Final = {
    GateStatus.PASS: ("✓", "pass"),
    GateStatus.WARN: ("!", "warn"),
    GateStatus.FAIL: ("×", "fail"),
    GateStatus.NOT_RUN: ("–", "not run"),
}

SEVERITY_OF_GATE: Final = {GateStatus.FAIL: 3, GateStatus.WARN: 2, GateStatus.NOT_RUN: 1, GateStatus.PASS: 0}

LIMITS: Final = (
    "Only the listed concepts were tested. A feature that no concept names stays invisible.",
    "The generator and the concept detectors can share a blind spot. The gates make this less likely; they do not rule it out.",
    "Changing a concept in a picture is not the same as meeting that change in the field.",
    "Importance holds for this metric, this decision threshold and this mix of concepts.",
    "Permuting makes combinations that may be rare in the field. The conditional figure avoids them, but leaves out what concepts share.",
    "A negligible verdict bounds the effect by margin and smallest detectable effect. Nothing here shows the absence of bias.",
)
"""What the method cannot tell, printed in every report."""

TREE_LIMITS: Final = (
    "Only the listed nodes were tested. A feature that no node names stays invisible.",
    "Changing a feature in a picture is not the same as meeting that change in the field.",
    "Effects hold for these images. Exact operators also show how a model answers to pictures unlike any it was trained on.",
    "No effect bounds the effect by its margin. Nothing here shows the absence of bias.",
)
"""The same for audits of a concept tree alone."""

DISCOVERY_LIMITS: Final = (
    "Only words of the bank, and what prompts came upon by themselves, were tested. A cue that no prompt names stays invisible.",
    "All pictures are drawn. What the generator cannot draw, or draws together, cannot be told apart.",
    "A word that acts says what the model can respond to, not how often that decides in the field.",
    "Nothing here shows the absence of bias.",
)
"""The same for what was found with no data alone."""

SYNTHETIC: Final = "synthetic image"
"""The visible caption of every generated picture."""


def mark(concept: ConceptResult) -> str:
    """Name of the concept's mark: its verdict, or "alert" for reliance on something that must not matter."""
    if concept.verdict is Verdict.RELIES and concept.role.alerts:
        return "alert"
    return str(concept.verdict)


METRIC_NAMES: Final = {"auroc": "AUROC", "brier": "Brier score", "log_loss": "log-loss"}


OF_CLASS: Final = {
    "effect": "effect on the log-odds", "spuriousness": "spuriousness score", "attribute_gap": "attribute gap",
    "cue_effect": "effect of saying the word", "object_absent": "share of pictures without the object",
}  # fmt: skip
"""What a finding about a class holds against its bound, before the colon and the class."""


def metric_name(metric: str) -> str:
    """The metric as papers write it."""
    known, colon, about = metric.partition(":")
    if colon and known in OF_CLASS:
        return f"{OF_CLASS[known]} for {about}"
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with a true minus sign; a dash for none.

    >>> number(-0.0049), number(None), number(float("nan")), number(-0.0001)
    ('−0.005', '–', '–', '0.000')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A change, always with its sign.

    >>> signed(0.5), signed(-0.5), signed(0.0)
    ('+0.500', '−0.500', '0.000')
    """
    text = number(value, digits)
    return text if text == NOTHING or text.startswith("−") or float(text) == 0 else f"+{text}"


def limits(estimate: Estimate | None, digits: int = 3) -> str:
    """The 95 % interval alone: ``[low, high]``."""
    return NOTHING if estimate is None else f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """Value and 95 % interval.

    >>> interval(Estimate(value=0.1, low=-0.02, high=0.2))
    '0.100 [−0.020, 0.200]'
    """
    if estimate is None or not math.isfinite(estimate.value):
        return NOTHING
    return f"{number(estimate.value, digits)} {limits(estimate, digits)}"


def sentence(text: str) -> str:
    """With a capital and one full stop; empty stays empty.

    >>> sentence("two of three"), sentence("Done."), sentence("")
    ('Two of three.', 'Done.', '')
    """
    return f"{text[:1].upper()}{text[1:].rstrip('. ')}." if text.strip() else ""


def p_value(p: float) -> str:
    """A p-value without false precision.

    >>> p_value(0.0001), p_value(0.0312)
    ('< 0.001', '0.031')
    """
    return "< 0.001" if p < 0.001 else number(p)


def thousands(count: float) -> str:
    """A count in groups of three digits, apart by a thin space.

    >>> thousands(234248)
    '234\u202f248'
    """
    return f"{count:,.0f}".replace(",", "\u202f")


def engine_use(use: EngineUse) -> str:
    """One network of the generator: who ran it, how much, how exactly."""
    error = "the reference itself" if use.parity_error is None else f"relative error {use.parity_error:.0e}"
    why = f" ({'; '.join(use.refused)})" if use.refused else ""
    return f"{use.engine} on {use.backend} in {use.precision}, {thousands(use.items)} rows, {error}{why}"


def engine_check(check: EngineCheck | None, metric: str) -> str:
    """How the model takes the pictures as drawn and as the reference draws them."""
    if check is None:
        return "–"
    both = f"; {metric_name(metric)} {number(check.metric_drawn)} as drawn, {number(check.metric_reference)} by the reference"
    said = f"{check.pictures} pictures, same first class on {check.same:.1%}, scores change by {number(check.change, 4)}"
    return said + (both if check.metric_drawn is not None else "")


def confirmation(finding: Finding) -> str:
    """Whether the finding alerts, and why."""
    if finding.kind == "audit_broken":
        return "Alerts: the audit itself needs attention."
    if finding.at_once:
        return "Alerts: it was tested under seeds that did not choose it, and its limits hold for all that was tested, so one audit is enough."
    if finding.breach_runs >= 2:
        return f"Confirmed: found in {finding.breach_runs} audits in a row, on different rows."
    if finding.strong:
        return "Confirmed: the interval lies beyond twice the margin, so one audit is enough."
    return "Not yet confirmed: alerts when the next audit, on other rows, finds it again."


def is_weak(concept: ConceptResult) -> bool:
    """Whether the generator's edits of this concept are weak, so that the value is a lower bound in size."""
    return "weak_edit" in concept.validity.split(";")


def leaks_into(concept: ConceptResult) -> tuple[str, ...]:
    """The concepts that change along when this one is edited."""
    parts = (part.strip().partition("=") for part in concept.validity.split(";"))
    return tuple(value for key, _, value in parts if key == "leaks_into")


def importance_words(concept: ConceptResult) -> str:
    """The importance as the report prints it: nothing if not assessable, "at least" for weak edits, marked if another one decided."""
    if concept.verdict is Verdict.NOT_ASSESSABLE:
        return NOTHING
    said = f"at least {interval(concept.importance)}" if is_weak(concept) else interval(concept.importance)
    return f"{said}{DAGGER}" if concept.decided_by else said


def short_name(result: AuditResult, results: Sequence[AuditResult]) -> str:
    """The model's name, with version and label where the name alone does not tell the results apart."""
    same = [other for other in results if other.model == result.model]
    name = result.model
    if len({other.version for other in same}) > 1:
        name += f" v{result.version}"
    if len({other.label for other in same}) > 1:
        name += f" ({result.label})"
    return name


def detectable(result: AuditResult) -> str:
    """Range over the concepts of the smallest effect that would be seen with 80 % power."""
    values = [c.mde80 for c in result.concepts if c.verdict is not Verdict.NOT_ASSESSABLE and math.isfinite(c.mde80)]
    if not values:
        return NOTHING
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"

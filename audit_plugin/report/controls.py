"""The controls of an audit in one sentence each: whether what is planted was found, and whether what is clean stayed so."""

from audit_plugin.core.control_results import Control
from audit_plugin.core.results import AuditResult
from audit_plugin.report.words import limits, number


def control_words(result: AuditResult) -> str:
    """Both controls, for the head of the report and for the terminal; empty where they were turned off.

    >>> from audit_plugin.core.control_results import Control, ControlReport
    >>> from audit_plugin.core.estimate import Estimate
    >>> planted = Control(concept="ruler", alarmed=True, accused="ruler", effect=Estimate(value=0.41, low=0.34, high=0.47))
    >>> _both(planted, Control(concept="shape", alarmed=False))
    'planted reliance on ruler found (0.410 [0.340, 0.470]); clean control silent'
    """
    return "" if result.controls is None else _both(result.controls.planted, result.controls.clean)


def controls_failed(result: AuditResult) -> bool:
    """Whether one of them was judged wrongly."""
    return result.controls is not None and bool(result.controls.missed or result.controls.false_alarm)


def _both(planted: Control, clean: Control) -> str:
    if planted.alarmed is None and clean.alarmed is None and planted.reason == clean.reason:
        return f"not tested: {planted.reason}"
    return f"{_planted(planted)}; {_clean(clean)}"


def _planted(control: Control) -> str:
    if control.alarmed is None:
        return f"planted control not tested: {control.reason}"
    found = "found" if control.alarmed else "MISSED"
    why = f", {control.reason}" if control.reason else ""
    return f"planted reliance on {control.concept} {found}{_figures(control)}{why}"


def _clean(control: Control) -> str:
    if control.alarmed is None:
        return f"clean control not tested: {control.reason}"
    return f"clean control FALSELY ACCUSED of {control.accused}{_figures(control)}" if control.alarmed else "clean control silent"


def _figures(control: Control) -> str:
    return "" if control.effect is None else f" ({number(control.effect.value)} {limits(control.effect)})"

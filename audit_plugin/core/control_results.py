"""How the controls of one audit came out, frozen: classifiers of known dependence, judged as the audited model was.

The *planted* control answers from one concept that must not matter, so it has to raise an alarm; the *clean* one answers from a concept that
decides its task, or from none, so it has to stay silent.
"""

from dataclasses import dataclass

from audit_plugin.core.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control."""

    concept: str = ""
    """What it answers from; empty where it was not run, or answers from nothing that a concept names."""
    alarmed: bool | None = None
    """Whether the audit raised an alarm over it; None where it was not run."""
    accused: str = ""
    """The concept that the alarm is about."""
    effect: Estimate | None = None
    """Importance, or what the policy bounds, of the concept that was accused; else of the one that it answers from."""
    reason: str = ""
    """Why it was not run, or why it did not alarm, in words; empty where there is nothing to explain."""


@dataclass(frozen=True, kw_only=True)
class ControlReport:
    """Both controls of one audit."""

    planted: Control
    clean: Control

    @property
    def missed(self) -> bool | None:
        """Whether a planted reliance was not found; None where that was not tried."""
        return None if self.planted.alarmed is None else not self.planted.alarmed

    @property
    def false_alarm(self) -> bool | None:
        """Whether one was found that is not planted; None where that was not tried."""
        return self.clean.alarmed


def no_controls(reason: str) -> ControlReport:
    """What is reported where neither could be run."""
    return ControlReport(planted=Control(reason=reason), clean=Control(reason=reason))

"""Error that is spent over a model version's audits, so that years of them together raise a false finding hardly oftener than one does.

The k-th audit on rows of its own may err with alpha_k = 0.05·6/(pi² k²), which adds up to 0.05 however long audits go on.  A finding then has to
keep its distance from its bound with an interval of level 1 - alpha_k: the stored one, widened as that of a normal estimate would be.
"""

from dataclasses import replace

from audit_plugin.core.results import Finding
from audit_plugin.findings.history import History, assessed
from audit_plugin.statistics.intervals import z_value
from audit_plugin.statistics.multiplicity import alpha_spent

_STORED = 0.95


def audit_number(version: str, current_evidence: str, history: History) -> int:
    """How many-eth audit of its model version this one is, counted from 1; the same rows again are the audit that they first were.

    Broken audits say nothing and do not count.

    >>> from audit_plugin.core.results import RunState
    >>> from audit_plugin.findings.history import PastRun
    >>> past = [PastRun(run=rows, version="1", state=RunState.SUCCEEDED, evidence=rows, breaches=frozenset()) for rows in ("b", "a")]
    >>> audit_number("1", "c", past), audit_number("1", "a", past), audit_number("2", "c", past)
    (3, 1, 1)
    """
    seen = [past.evidence for past in reversed(history) if past.version == version and assessed(past.state)]
    rows = list(dict.fromkeys([*seen, current_evidence]))
    return rows.index(current_evidence) + 1


def affordable(finding: Finding, audit: int) -> Finding | None:
    """The finding as the error of the audit of this number allows it: unchanged, no longer strong, or none at all.

    Its interval stays the one of 95 %.  What has no interval of its own (a spuriousness score is a limit already) is left as it is.
    """
    factor = z_value(1 - alpha_spent(audit)) / z_value(_STORED)
    low = finding.value - factor * (finding.value - finding.low)
    high = finding.value + factor * (finding.high - finding.value)
    if not _breaches(finding, low, high, finding.threshold):
        return None
    bound = finding.threshold / 2 if _from_below(finding) else 2 * finding.threshold
    return replace(finding, strong=finding.strong and _breaches(finding, low, high, bound))


def _breaches(finding: Finding, low: float, high: float, bound: float) -> bool:
    """Whether an interval lies beyond a bound on the side on which the finding's own does."""
    if _from_below(finding):
        return high < bound
    return low > bound if finding.low > finding.threshold else high < -bound


def _from_below(finding: Finding) -> bool:
    """Whether being small is of concern, as of a ratio."""
    return -finding.threshold <= finding.high < finding.threshold

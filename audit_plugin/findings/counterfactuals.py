"""From what changes along with flips of the decision to findings: attributes that must not matter and change more than the data tie them to it.

A gap r - ρ above 0 alone accuses nobody: where the data tie an attribute to the other class, edits that leave it alone have one, too.  So the lower
limit of the gap must exceed the bound, and the attribute must surely change along at all.
"""

from collections.abc import Iterator
from dataclasses import replace

from audit_plugin.core.counterfactual_results import LEAST_FLIPS, AttributeGap, CounterfactualResult
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Role
from audit_plugin.findings.policy import Policy, Threshold

KIND = "counterfactual"
RUNBOOK = "auditplugincounterfactualattributegap.md"


def directions(gap: AttributeGap) -> tuple[AttributeGap, ...]:
    """The attribute and, of a concept with two levels, the other one, whose figures have the opposite sign."""
    if not gap.opposite:
        return (gap,)
    turned = Estimate(value=-gap.gap.value, low=-gap.gap.high, high=-gap.gap.low)
    other = replace(
        gap, attribute=gap.opposite, opposite=gap.attribute, gap=turned, r=-gap.r, rho=-gap.rho, gained=-gap.gained, lost=-gap.lost
    )
    return gap, other


def finding_metric(told: CounterfactualResult) -> str:
    """Name of what is held against a bound."""
    return f"attribute_gap:{told.positive}"


def changes_along(gap: AttributeGap) -> bool:
    """Whether flips towards the class surely bring the attribute in; r lies at least as close to its limit as the gap does to its own."""
    return gap.r - (gap.gap.value - gap.gap.low) > 0


def said_along(told: CounterfactualResult) -> str:
    """The attributes that surely change along, and more than in the data, in a few words."""
    if not told.gaps:
        return "not known"
    if told.turning < LEAST_FLIPS:
        return f"too few flips: {told.turning}, {LEAST_FLIPS} are needed"
    ways = (way for one in told.gaps for way in directions(one))
    return ", ".join(way.attribute for way in ways if way.gap.low > 0 and changes_along(way)) or "nothing surely"


def counterfactual_findings(result: AuditResult, policy: Policy) -> Iterator[Finding]:
    """Breaches of the policy by the attributes of the result's counterfactuals; core concepts may change along.

    Intervals are 95 % for one attribute each, not corrected for their number: K idle attributes of alerting roles pass a bound of 0 by chance with
    a probability of up to K times 2.5 %, a bound of 0.2 far more rarely, and a finding alerts only once a second audit on other images
    agrees, or where the limit is beyond twice the bound.
    """
    told = result.counterfactuals
    if told is None:
        return
    for gap in (way for one in told.gaps for way in directions(one)):
        covering = (one for one in policy.thresholds if one.metric == KIND and one.covers(gap.concept, gap.role))
        threshold = next(covering, None)
        if threshold is not None and gap.role is not Role.CORE and (finding := _breach(result, told, gap, threshold)) is not None:
            yield finding


def _breach(result: AuditResult, told: CounterfactualResult, gap: AttributeGap, threshold: Threshold) -> Finding | None:
    flips, bound = gap.towards + gap.away, threshold.threshold
    if flips < threshold.least or gap.gap.low <= bound or not changes_along(gap):
        return None
    strong = 0 < 2 * bound < gap.gap.low
    metric = finding_metric(told)
    return Finding(
        id=digest("finding", KIND, result.model, result.label, gap.attribute, metric),
        kind=KIND,
        model=result.model,
        version=result.version,
        label=result.label,
        concept=gap.attribute,
        metric=metric,
        value=gap.gap.value,
        low=gap.gap.low,
        high=gap.gap.high,
        threshold=bound,
        severity="critical" if threshold.severity == "warning" and strong else threshold.severity,
        summary=(
            f"where counterfactuals turn the decision of {result.model!r} version {result.version} to {told.positive!r}, {gap.attribute!r} comes with it "
            f"more than in the data: correlation {gap.r:+.2f} against {gap.rho:+.2f}, gap {gap.gap.value:+.2f} (95 % interval {gap.gap.low:+.2f} to "
            f"{gap.gap.high:+.2f}, bound {bound:.2f}, {flips} flips by {told.method}, gradient: {told.rung}); role {gap.role}"
        ),
        owner=threshold.owner,
        reason=threshold.reason,
        date=threshold.date.isoformat(),
        runbook=RUNBOOK,
        rule=threshold.name,
        n=flips,
        strong=strong,
    )

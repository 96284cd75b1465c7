"""What a reader should know of a set of counterfactuals, in one sentence."""

from audit_plugin.core.counterfactual_results import LEAST_FLIPS, AttributeGap, CounterfactualFigures
from audit_plugin.core.values import Role


def summary(figures: CounterfactualFigures, gaps: tuple[AttributeGap, ...], *, method: str, rung: str, positive: str) -> str:
    """Method, rung, flip ratio and median distance, and what co-changes most.

    >>> from audit_plugin.methods.counterfactuals.figures import figures as of
    >>> summary(of([]), (), method="fastdime", rung="twin", positive="dog")
    'No image was asked for a counterfactual (fastdime, gradient: twin)'
    """
    if figures.flip_ratio is None:
        return f"No image was asked for a counterfactual ({method}, gradient: {rung})"
    ratio = figures.flip_ratio
    said = (
        f"{method} (gradient: {rung}) flips {ratio.value:.0%} of {figures.images} images "
        f"(95 % interval {ratio.low:.0%} to {ratio.high:.0%})"
    )
    if figures.median_l1 is not None:
        said += f" at a median distance of {figures.median_l1:.3f}"
    return f"{said}; {_along(gaps, positive)}"


def _along(gaps: tuple[AttributeGap, ...], positive: str) -> str:
    """The attribute that changes along most of those that do not define the class; of a concept with two levels in the direction in which it does."""
    known = [one for one in gaps if one.role is not Role.CORE]
    if not known:
        return "what changes along is not known"
    if (flips := known[0].towards + known[0].away) < LEAST_FLIPS:
        return f"{flips} flips to or from {positive!r} are too few to say what changes along ({LEAST_FLIPS} are needed)"
    most = max(known, key=lambda one: (abs(one.r), one.attribute) if one.opposite else (one.r, one.attribute))
    turned = bool(most.opposite) and most.r < 0
    name, sign = (most.opposite, -1) if turned else (most.attribute, 1)
    r, rho = sign * most.r, sign * most.rho
    low, high = sorted((sign * most.gap.low, sign * most.gap.high))
    if r <= 0:
        return f"no concept changes along with {positive!r}"
    return (
        f"with {positive!r} {name} changes along most, at a correlation of {r:+.2f} where it is {rho:+.2f} in the data "
        f"(gap {sign * most.gap.value:+.2f}, {low:+.2f} to {high:+.2f})"
    )

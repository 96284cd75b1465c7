"""Exact or approximate: whether a plan computes all that the generator's own plan does."""

from engines.course import Course
from engines.plan import SamplingPlan


def savings(course: Course, plan: SamplingPlan, own: SamplingPlan) -> tuple[str, ...]:
    """What a plan leaves out of the directory's own, in words; nothing makes it exact.

    A plan that does more, or the same in another order, saves nothing; a fitted solver always does.
    """
    sigmas, full = course.path(plan).sigmas, course.path(own).sigmas
    found: list[str] = []
    if len(sigmas) < len(full):
        found.append(f"{len(sigmas) - 1} steps instead of the generator's own {len(full) - 1}")
    guided, fully = (sum(course.guidance(one).at(s) for s in at[:-1]) for one, at in ((plan, sigmas), (own, full)))
    if guided * (len(full) - 1) < fully * (len(sigmas) - 1):
        found.append(f"guidance in {guided} of {len(sigmas) - 1} steps instead of {fully} of {len(full) - 1}")
    if plan.solver is not None and not found:
        found.append(f"{plan.visited} fitted steps instead of the plan's {plan.steps}")
    return tuple(found)

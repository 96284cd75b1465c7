"""What edits cost in network rows, at most: numbers alone, so that a price can be told where nothing is loaded."""

from collections.abc import Mapping

FEW_STEPS = 4
"""A directory that recommends no more than these, without guidance, holds a distilled network."""
STEPS: Mapping[str, int] = {"sde20": 20, "ddpm_ef50": 50}
"""Of the operators that follow a grid of their own."""
FLOW_KEPT = 33
"""Levels of a flow's schedule that an edit goes through."""


def most_rows(operator: str, terms: int) -> tuple[int, int]:
    """Network rows that inverting one image costs at most, and one edit of it with so many plain terms; ``auto`` is the most of all.

    >>> most_rows("sde20", 1)
    (20, 40)
    """
    if operator == "auto":
        costs = [most_rows(each, terms) for each in ("turbo4", "flowedit", *STEPS)]
        return max(inversion for inversion, _ in costs), max(edit for _, edit in costs)
    if operator == "flowedit":
        return 2 * FLOW_KEPT, (terms + 2) * FLOW_KEPT
    steps = STEPS.get(operator, FEW_STEPS)
    return steps, (terms + 1) * steps

"""Attempts of a search without gradients, each on the images that have not flipped yet."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from engines.guided.particles import Editing, Found

Rung = TypeVar("Rung")


def climbed(editing: Editing, rungs: Sequence[Rung], attempt: Callable[[Editing, Rung], list[Found]]) -> list[Found]:
    """What became of each image by the first rung that flips it, with what all attempts at it cost; else by the last one."""
    found: list[Found | None] = [None] * len(editing.x)
    for tried, rung in enumerate(rungs, 1):
        left = [at for at, each in enumerate(found) if each is None or not each.success]
        if not left:
            break
        for at, each in zip(left, attempt(editing.some(left), rung), strict=True):
            before = found[at]
            found[at] = each if before is None else _after(before, each, tried)
    return [each for each in found if each is not None]


def _after(before: Found, each: Found, attempts: int) -> Found:
    """A later attempt, with what the earlier ones cost; a failure keeps the more confident picture."""
    shown = each if each.success or each.odds >= before.odds else before
    return Found(
        image=shown.image,
        success=each.success,
        odds=shown.odds,
        valid=each.valid,
        attempts=attempts,
        queries=before.queries + each.queries,
        network_rows=before.network_rows + each.network_rows,
        agreement=each.agreement,
    )

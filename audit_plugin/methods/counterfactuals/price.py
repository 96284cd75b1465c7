"""What explaining a model would take at most, from what one picture takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit_plugin.methods.counterfactuals.targets import TargetPolicy

COMPARED = 64
"""Most images that a stand-in is compared with the server on."""
PATH = 52
"""Pictures along a path."""


@dataclass(frozen=True, kw_only=True)
class MostCounterfactuals:
    """Nearly all runs take a small part of it."""

    pictures: int
    queries: int
    """Pictures that the audited model is asked about."""
    network_rows: int


def targets_at_most(policy: TargetPolicy, classes: int) -> int:
    """Targets of one image.

    >>> targets_at_most("all", 5), targets_at_most({"cat": ("dog", "fox")}, 5), targets_at_most("runner_up", 5)
    (4, 2, 1)
    """
    if policy == "runner_up" or classes == 2:
        return 1
    if isinstance(policy, Mapping):
        return max((1 if isinstance(names, str) else len(set(names)) for names in policy.values()), default=1)
    return classes - 1 if isinstance(policy, str) else min(len(set(policy)), classes - 1)


def most_counterfactuals(
    *, images: int, targets: int, runs: int, paths: int, each: tuple[int, int], before: Sequence[tuple[int, int]] = ()
) -> MostCounterfactuals:
    """``each``: queries and network rows of one picture; ``before``: the same of what is done once, such as finding where edits start.

    Every image is asked about, every stored picture, and every flip's JPEG.
    """
    pictures = images * targets * runs
    asked = images + 2 * COMPARED + pictures * (each[0] + 1) + images * targets + min(paths, images * targets) * PATH
    return MostCounterfactuals(
        pictures=pictures,
        queries=asked + sum(queries for queries, _ in before),
        network_rows=pictures * each[1] + sum(rows for _, rows in before),
    )

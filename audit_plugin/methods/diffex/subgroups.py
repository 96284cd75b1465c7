"""Whether a node matters more on some images than on others (specification 9.3): its effect by the level of every other known attribute.

An attribute is whatever is known of the images beforehand, a column of the table or a concept.  The images of one level are held against
all that show another level of it, where both are at least :data:`LEAST`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import SubgroupEffect
from audit_plugin.methods.diffex.figures import as_estimate
from audit_plugin.statistics.multiplicity import benjamini_hochberg
from audit_plugin.statistics.two_means import welch

LEAST = 16
"""Fewest images of a subgroup, and beside it."""

Attributes = Mapping[str, Mapping[str, str]]
"""Image -> attribute -> level."""


def subgroup_effects(
    images: Sequence[str],
    d: Float[np.ndarray, "n"],
    attributes: Attributes,
    *,
    without: str = "",
    least: int = LEAST,
    alpha: float = 0.05,
) -> tuple[SubgroupEffect, ...]:
    """One node's effects by subgroup, largest difference first; ``q`` is still that of the node alone.

    ``without`` names the attribute that the node itself changes.  Of an attribute with two levels the first stands for both.
    """
    groups = [group for group in _groups(images, attributes, least) if group[0] != without]
    level = 1 - alpha / max(1, len(groups))
    found = []
    for attribute, name, inside, outside in groups:
        difference, p = welch(d[inside], d[outside], level=level)
        found.append(
            SubgroupEffect(
                attribute=attribute,
                level=name,
                images=len(inside),
                others=len(outside),
                effect=float(d[inside].mean()),
                effect_elsewhere=float(d[outside].mean()),
                difference=as_estimate(difference),
                p=p,
                p_bonferroni=min(1.0, p * len(groups)),
                q=p,
            )
        )
    return tuple(sorted(found, key=lambda one: -abs(one.difference.value)))


def with_q_values(nodes: Sequence[tuple[SubgroupEffect, ...]]) -> list[tuple[SubgroupEffect, ...]]:
    """The same with the false discovery rate over all subgroups of all nodes."""
    every = [one for subgroups in nodes for one in subgroups]
    q = iter(benjamini_hochberg(np.array([one.p for one in every])).tolist() if every else [])
    return [tuple(replace(one, q=next(q)) for one in subgroups) for subgroups in nodes]


def _groups(images: Sequence[str], attributes: Attributes, least: int) -> list[tuple[str, str, list[int], list[int]]]:
    """(attribute, level, positions inside, positions outside) of every subgroup that is large enough."""
    names = sorted({name for image in images for name in attributes.get(image, {})})
    found = []
    for name in names:
        known = {at: level for at, image in enumerate(images) if (level := attributes.get(image, {}).get(name))}
        levels = sorted(set(known.values()))
        for level in levels[:1] if len(levels) == 2 else levels:
            inside = [at for at, own in known.items() if own == level]
            outside = [at for at, own in known.items() if own != level]
            if min(len(inside), len(outside)) >= least:
                found.append((name, level, inside, outside))
    return found

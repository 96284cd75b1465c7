"""Do two edit operators that make the same attribute find the same effects?  Specification 9.6.

Twins are nodes of the same concept and level, as their ``params`` say, of which an exact operator makes one and the generator the other.
Where both agree on the order of effects, what the edits change beside the attribute is not what the model responds to.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from audit_plugin.core.diffex_results import OperatorAgreement, ScoreKind
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.methods.diffex.effects import RowTable
from audit_plugin.statistics.stability import operator_agreement

MOST, FEWEST = 8, 3
"""Pairs of nodes: two always have a correlation of 1 or -1."""
FEWEST_IMAGES = 4
"""With both edits of a pair."""

Pair = tuple[str, str]


def twins(tree: ConceptTree, class_name: str, refused: Iterable[str] = ()) -> tuple[Pair, ...]:
    """At most eight pairs (node of the generator, node of an exact operator), in the order of the tree."""
    left_out, exact, made = set(refused), dict[Pair, str](), dict[Pair, str]()
    for node in tree.for_class(class_name):
        key = shown(node)
        if all(key) and node.path not in left_out:
            (exact if node.operator == "deterministic" else made).setdefault(key, node.path)
    return tuple((path, exact[key]) for key, path in made.items() if key in exact)[:MOST]


def shown(node: Node) -> Pair:
    """(concept, level) that the node makes; empty where its parameters do not say."""
    return str(node.params.get("concept", "")), str(node.params.get("level", ""))


def twin_cells(pairs: Sequence[Pair], images: Sequence[str], placebos: Sequence[str]) -> list[EditCell]:
    """Edits that the figure needs, image by image."""
    return [
        cell
        for image in images
        for cell in (
            *(EditCell(image=image, nodes=(name,), placebo=True) for name in placebos),
            *(EditCell(image=image, nodes=(path,)) for pair in pairs for path in pair),
        )
    ]


def agreement(
    rows: Iterable[EditRow], pairs: Sequence[Pair], images: Sequence[str], *, column: int, kind: ScoreKind
) -> tuple[OperatorAgreement | None, str]:
    """Spearman's correlation of the pairs' effects, each pair on the images that have both; or None, and why."""
    if len(pairs) < FEWEST:
        return None, f"{len(pairs)} nodes of the tree can be made by two operators, {FEWEST} are needed"
    table = RowTable(rows=tuple(rows), kind=kind)
    effects, kept, used, names = list[tuple[float, float]](), list[Pair](), set[str](), list[tuple[str, str]]()
    for pair in pairs:
        both = [table.effects((path,)) for path in pair]
        one, other = (np.full(len(images), np.nan) if found is None else found.over(images, column) for found in both)
        common = np.isfinite(one) & np.isfinite(other)
        if common.sum() < FEWEST_IMAGES:
            continue
        kept.append(pair)
        used |= {image for image, there in zip(images, common, strict=True) if there}
        effects.append((float(one[common].mean()), float(other[common].mean())))
        names.append((table.by_nodes[(pair[0],)][0].operator, table.by_nodes[(pair[1],)][0].operator))
    if len(kept) < FEWEST:
        return None, f"{len(kept)} nodes have valid edits by both operators on {FEWEST_IMAGES} images, {FEWEST} are needed"
    spearman = operator_agreement(*np.array(effects).T)
    if not np.isfinite(spearman):
        return None, "all effects of one operator are equal"
    return OperatorAgreement(operators=names[0], pairs=tuple(kept), effects=tuple(effects), images=len(used), spearman=spearman), ""

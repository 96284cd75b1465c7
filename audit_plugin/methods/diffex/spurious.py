"""Feature-only images: the cue is there, the object is not (specification 9.4).

They are real images of other classes to which the cue was added and whose class an independent judge still reads as before, or in which
the judge finds the cue already; and images of the class itself whose object was removed, where a node of the tree does that.  None of
the first served the search for this class.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import EffectState, NodeEffect, ScoreKind, SpuriousHits
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffex.figures import as_estimate
from audit_plugin.methods.diffex.scores import class_scores
from audit_plugin.statistics.intervals import wilson
from audit_plugin.statistics.separation import auroc, average_precision

ENOUGH = 75
"""Feature-only images from which on the ratio may be judged."""
ADDED, THERE, REMOVED = "cue added", "cue there", "object removed"
"""Where a feature-only image comes from."""


@dataclass(frozen=True, kw_only=True)
class FeatureOnly:
    """Answers to images that show a cue without the object."""

    scores: tuple[tuple[float, ...], ...]
    made_of: tuple[str, ...]


MUST_NOT_MATTER = frozenset({NodeKind.NUISANCE, NodeKind.ARTEFACT, NodeKind.PROTECTED})
"""A hit by picture quality or by the context says nothing that an alert should be raised for."""


def cues(nodes: Iterable[NodeEffect], most: int) -> list[str]:
    """Nodes that must not matter and whose presence surely pushes towards the class, strongest first."""
    found = [
        node
        for node in nodes
        if node.kind in MUST_NOT_MATTER and node.state is EffectState.EFFECT and node.effect is not None and node.effect.value > 0
    ]
    return [node.node for node in sorted(found, key=lambda node: -node.bound)[:most]]


def cue_cells(cue: str, others: Sequence[str], own: Sequence[str], object_node: str) -> list[EditCell]:
    """Edits that may give feature-only images: the cue on ``others``; on images of the class the object's removal, alone and with the cue."""
    cells = [EditCell(image=image, nodes=(cue,)) for image in others]
    if object_node and object_node != cue:
        both = tuple(sorted((cue, object_node)))
        cells += [EditCell(image=image, nodes=nodes) for image in own for nodes in ((cue,), (object_node,), both)]
    return cells


def feature_only(
    rows: Iterable[EditRow], cue: str, others: Sequence[str], own: Sequence[str], object_node: str = ""
) -> FeatureOnly:
    """At most one image from each original."""
    known = {(row.cell.image, row.cell.nodes): row for row in rows if row.cell.seed == 0 and row.cell.strength == 1}
    found: list[tuple[tuple[float, ...], str]] = []
    for image in others:
        row = known.get((image, (cue,)))
        if row is None or not row.scored:
            continue
        if row.signs == (-1,):
            found.append((row.before, THERE))
        elif row.valid and row.class_kept:
            found.append((row.after, ADDED))
    for image in own if object_node and object_node != cue else ():
        alone = known.get((image, (cue,)))
        if alone is None:
            continue
        there = alone.signs == (-1,)
        nodes = (object_node,) if there else tuple(sorted((cue, object_node)))
        row = known.get((image, nodes))
        if row is not None and row.usable and set(row.signs) == {1}:
            found.append((row.after, REMOVED))
    return FeatureOnly(scores=tuple(scores for scores, _ in found), made_of=tuple(source for _, source in found))


def real_answers(rows: Iterable[EditRow], own: Sequence[str], cue: str) -> list[tuple[float, ...]]:
    """Answers to the null edits of the class's images that the cue was asked for on."""
    inside, found = set(own), dict[str, tuple[float, ...]]()
    for row in rows:
        if row.cell.image in inside and row.cell.nodes == (cue,) and row.before:
            found.setdefault(row.cell.image, row.before)
    return list(found.values())


def spurious_hits(
    real: Float[np.ndarray, "n C"],
    only: Float[np.ndarray, "m C"],
    *,
    class_name: str,
    column: int,
    kind: ScoreKind,
    node: str = "",
    made_of: Sequence[str] = (),
    enough: int = ENOUGH,
) -> SpuriousHits:
    """How often feature-only images (``only``) are taken for the class, and how well real ones stand out from them.

    ``real``: answers to real images of the class; both as the server gave them.
    """
    of_real, of_feature = class_scores(real, kind), class_scores(only, kind)
    decided = of_feature.decisions
    hits = int((decided[:, column] == 1).sum() if kind is ScoreKind.SIGMOID else (decided[:, 0] == column).sum())
    scores = of_real.log_odds[:, column], of_feature.log_odds[:, column]
    return SpuriousHits(
        class_name=class_name,
        node=node,
        images=len(only),
        hit_ratio=as_estimate(wilson(hits, len(only))),
        auc=auroc(*scores),
        average_precision=average_precision(*scores),
        enough=len(only) >= enough,
        made_of=dict(sorted(Counter(made_of).items())),
    )

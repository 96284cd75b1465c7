"""Does an effect grow with the strength of its edit?  A genuine dependence is monotone (specification 4.13).

Edits that a generator makes are asked for at half and at one and a half times the strength that the pilot chose, beside a placebo of the
same strength.  Exact operators have their levels in the tree already: siblings with the same operator and another number.  An edit that is
too weak to be seen (V1) counts here; one that spoils the picture does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import DosePoint, DoseResponse, ScoreKind
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import ConceptTree
from audit_plugin.methods.diffex.effects import RowTable
from audit_plugin.methods.diffex.figures import mean_estimate
from audit_plugin.statistics.paired_mean import sign_flips

STRENGTHS = (0.5, 1.0, 1.5)
"""Times the strength that the pilot chose."""
FEWEST = 4
"""Images with all doses."""
IDENTITY = {"gamma": 1.0, "factor": 1.0, "quality": 100.0, "bits": 8.0, "keep": 1.0}
"""Value at which an operator's parameter leaves an image as it is; 0 for all others."""

Dose = tuple[float, str, float]
"""(dose, node, strength of its cell)."""


def doses_of(tree: ConceptTree, path: str) -> tuple[Dose, ...]:
    """All doses of a node, weakest first; fewer than two where it has no others.

    >>> from audit_plugin.core.tree import Node
    >>> levels = [Node(path=f"blur/{px}", name="", operator="deterministic", params={"op": "blur", "px": px}) for px in (4, 1)]
    >>> doses_of(ConceptTree(domain="toy", nodes=tuple(levels)), "blur/1")
    ((1.0, 'blur/1', 1.0), (4.0, 'blur/4', 1.0))
    """
    node = tree.node(path)
    if node.operator != "deterministic":
        return tuple((strength, path, strength) for strength in STRENGTHS)
    own = _number(node.params)
    if own is None:
        return ()
    key, side = own[0], own[1] > 0
    found = []
    for other in tree.children(node.parent):
        level = _number(other.params) if other.editable and other.operator == node.operator else None
        same = {**other.params, key: 0} == {**node.params, key: 0}
        if level is not None and same and (level[1] > 0) is side:
            found.append((abs(level[1]), other.path, 1.0))
    return tuple(sorted(found))


def dose_cells(tree: ConceptTree, path: str, images: Sequence[str], placebo: str) -> list[EditCell]:
    """Edits that the figure needs, image by image."""
    doses = doses_of(tree, path)
    if len(doses) < 2:
        return []
    cells = [EditCell(image=image, nodes=(node,), strength=strength) for image in images for _, node, strength in doses]
    if tree.node(path).operator == "deterministic" or not placebo:
        return cells
    return [
        *(EditCell(image=image, nodes=(placebo,), placebo=True, strength=strength) for image in images for strength in STRENGTHS),
        *cells,
    ]


def dose_response(
    rows: Iterable[EditRow],
    tree: ConceptTree,
    path: str,
    *,
    column: int,
    kind: ScoreKind,
    placebo: str,
    rng: np.random.Generator,
) -> DoseResponse | None:
    """The dependence of a node's effect on its dose, from rows of any strength; None without enough images that have all doses."""
    doses = doses_of(tree, path)
    kept = [row for row in rows if row.cell.seed == 0 and (not row.cell.placebo or row.cell.nodes == (placebo,))]
    by_dose = [_effects(kept, node, strength, column, kind) for _, node, strength in doses]
    images = sorted(set.intersection(*(set(one) for one in by_dose))) if len(doses) > 1 else []
    if len(images) < FEWEST:
        return None
    d = np.array([[one[image] for image in images] for one in by_dose])
    taus = np.array([_tau(each) for each in d.T])
    trend = mean_estimate(taus, rng)
    if trend is None:
        return None
    p = float(sign_flips(taus[None], rng)[0])
    return DoseResponse(
        points=tuple(_point(dose, node, d[at], rng) for at, (dose, node, _) in enumerate(doses)),
        images=len(images),
        trend=Estimate(value=trend.value, low=max(-1.0, trend.low), high=min(1.0, trend.high)),
        p=p,
        monotone=p < 0.05 and _ordered(d.mean(1)),
    )


def _point(dose: float, node: str, d: Float[np.ndarray, "n"], rng: np.random.Generator) -> DosePoint:
    return DosePoint(dose=dose, node=node, images=len(d), effect=mean_estimate(d, rng))


def _effects(rows: Sequence[EditRow], node: str, strength: float, column: int, kind: ScoreKind) -> dict[str, float]:
    """Effect per image at one dose, less the placebo of the same strength."""
    same = [row for row in rows if row.cell.strength == strength and (row.cell.placebo or row.cell.nodes == (node,))]
    table = RowTable(rows=tuple(_lenient(row) for row in same), kind=kind)
    found = table.effects((node,))
    return {} if found is None else dict(zip(found.images, found.log_odds[:, column].tolist(), strict=True))


def _lenient(row: EditRow) -> EditRow:
    return replace(row, cell=replace(row.cell, strength=1.0), valid=row.valid or set(row.reasons) == {"V1"})


def _number(params: Mapping[str, object]) -> tuple[str, float] | None:
    """The one parameter that is a number, and how far it stands from leaving the image as it is; None where there is not one."""
    numbers = [
        (key, float(value)) for key, value in params.items() if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if len(numbers) != 1:
        return None
    key, value = numbers[0]
    return key, value - IDENTITY.get(key, 0.0)


def _tau(d: Float[np.ndarray, "D"]) -> float:
    """Kendall's tau between the order of the doses and the effects; 0 where they are all the same."""
    from scipy.stats import kendalltau

    return 0.0 if np.ptp(d) == 0 else float(kendalltau(np.arange(len(d)), d).statistic)


def _ordered(means: Float[np.ndarray, "D"]) -> bool:
    steps = [later - earlier for earlier, later in pairwise(means.tolist())]
    return all(step >= 0 for step in steps) or all(step <= 0 for step in steps)

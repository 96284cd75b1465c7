"""Drift between two versions of a model on the same edits of the same images (specification 9.7).

Both versions saw identical pixels, so the editor's noise cancels in the paired difference.
"""

from collections.abc import Sequence

import numpy as np

from audit_plugin.core.diffex_results import DriftResult, NodeDrift, ScoreKind
from audit_plugin.core.edits import EditRow
from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.diffex.effects import RowTable, require_estimate
from audit_plugin.methods.diffex.estimate import class_effect
from audit_plugin.methods.diffex.figures import mean_estimate, rng_of
from audit_plugin.statistics.multiplicity import benjamini_hochberg
from audit_plugin.statistics.paired_mean import sign_flips


def drift(
    new: Sequence[EditRow],
    old: Sequence[EditRow],
    *,
    kind: ScoreKind,
    labels: Sequence[str],
    class_name: str,
    images: Sequence[str],
    nodes: Sequence[str],
    alpha: float = 0.05,
    seed: int = 0,
) -> DriftResult:
    """D = E_new - E_old of every node, paired per image, from the ESTIMATE rows of both versions.

    A node counts on images where both versions have an effect.  Raises ValueError on rows that served the search.
    """
    require_estimate([*new, *old])
    column = tuple(labels).index(class_name)
    tables = [RowTable(rows=tuple(rows), kind=kind) for rows in (new, old)]
    missing = np.full(len(images), np.nan)
    differences = []
    for path in nodes:
        late, early = (class_effect(table, path, images) for table in tables)
        paired = missing if late is None or early is None else late.over(images, column) - early.over(images, column)
        differences.append(paired)
    if not nodes:
        return DriftResult(class_name=class_name, nodes=(), mean_absolute=None)
    matrix = np.stack(differences)
    p = sign_flips(matrix, rng_of(seed, class_name, "drift")) if images else np.ones(len(nodes))
    q = benjamini_hochberg(p)
    drifts = [_mean(row, class_name, path, alpha, seed) for path, row in zip(nodes, matrix, strict=True)]
    found = tuple(
        NodeDrift(
            node=path,
            class_name=class_name,
            images=int(np.isfinite(matrix[at]).sum()),
            drift=drifts[at],
            p=float(p[at]),
            q=float(q[at]),
            significant=bool(q[at] < alpha),
        )
        for at, path in enumerate(nodes)
    )
    sizes = [abs(node.drift.value) for node in found if node.drift is not None]
    ranked = sorted(found, key=lambda node: -abs(node.drift.value) if node.drift else 0.0)
    return DriftResult(class_name=class_name, nodes=tuple(ranked), mean_absolute=float(np.mean(sizes)) if sizes else None)


def _mean(row: np.ndarray, class_name: str, path: str, alpha: float, seed: int) -> Estimate | None:
    return mean_estimate(row[np.isfinite(row)], rng_of(seed, class_name, "drift", path), alpha=alpha)

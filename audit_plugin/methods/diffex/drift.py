"""Drift between two versions of a model on the same edits of the same images (specification 9.7).

Both versions saw identical pixels, so the editor's noise cancels in the paired difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from audit_plugin.core.diffex_results import DriftResult, NodeDrift, ScoreKind
from audit_plugin.core.edits import EditRow, Split
from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.diffex.effects import RowTable, require_estimate
from audit_plugin.methods.diffex.estimate import class_effect
from audit_plugin.methods.diffex.figures import as_estimate, intervals_of, rng_of
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
    differences, pairs = [], []
    for path in nodes:
        late, early = (class_effect(table, path, images) for table in tables)
        both = [missing if one is None else one.over(images, column) for one in (early, late)]
        pairs.append(both)
        differences.append(both[1] - both[0])
    if not nodes:
        return DriftResult(class_name=class_name, nodes=(), mean_absolute=None)
    matrix = np.stack(differences)
    p = sign_flips(matrix, rng_of(seed, class_name, "drift")) if images else np.ones(len(nodes))
    q = benjamini_hochberg(p)
    drifts = [_mean(row, rng_of(seed, class_name, "drift", path), alpha, kind) for path, row in zip(nodes, matrix, strict=True)]
    found = tuple(
        NodeDrift(
            node=path,
            class_name=class_name,
            images=int(np.isfinite(matrix[at]).sum()),
            drift=drifts[at],
            p=float(p[at]),
            q=float(q[at]),
            significant=bool(q[at] < alpha),
            old=_over(matrix[at], pairs[at][0]),
            new=_over(matrix[at], pairs[at][1]),
        )
        for at, path in enumerate(nodes)
    )
    sizes = [abs(node.drift.value) for node in found if node.drift is not None]
    ranked = sorted(found, key=lambda node: -abs(node.drift.value) if node.drift else 0.0)
    return DriftResult(class_name=class_name, nodes=tuple(ranked), mean_absolute=float(np.mean(sizes)) if sizes else None)


def paired_rows(
    rows: Sequence[EditRow], answers: Mapping[str, tuple[float, ...]]
) -> tuple[tuple[EditRow, ...], tuple[EditRow, ...]]:
    """ESTIMATE rows of one version and the same rows of another, as far as that one answered to both pictures of a row.

    ``answers``: sha256 of a picture -> class scores of the other version.
    """
    own = tuple(
        row
        for row in rows
        if row.split is Split.ESTIMATE and row.scored and row.before_sha256 in answers and row.after_sha256 in answers
    )
    return own, tuple(replace(row, before=answers[row.before_sha256], after=answers[row.after_sha256]) for row in own)


def _mean(row: np.ndarray, rng: np.random.Generator, alpha: float, kind: ScoreKind) -> Estimate | None:
    found = intervals_of(row[np.isfinite(row)], rng, draws=2_000, alpha=alpha, kind=kind)
    return None if found is None else as_estimate(found.interval)


def _over(paired: np.ndarray, effects: np.ndarray) -> float | None:
    """Mean effect over the images that both versions have."""
    kept = effects[np.isfinite(paired)]
    return float(kept.mean()) if len(kept) else None

"""The published procedure, for comparison: 25 explicit permutations per concept, each with generated images of its own.

After DEPICT (Jabbour et al., ECCV 2024), section 2 of our specification.  What we keep: one baseline set, R = 25 permutations per concept,
every image drawn, the drop of the metric per permutation.  What differs from the released demo: the sign is kept (the demo took the
absolute value), nothing is rounded, results are found by name, and unchanged rows keep byte-identical captions.  What differs from the
flip table (``figures``): images are drawn anew for every permutation, by default with fresh seeds, and the spread is the one over
permutations, which ignores the error of the baseline set that all of them share; it is no standard error of the importance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.values import Concept
from audit_plugin.methods.depict.assemble import Array, Ints
from audit_plugin.statistics.metrics import METRICS

DrawAndScore = Callable[[Ints, Sequence[int]], Array]
"""``(values (n, J), one seed per row) -> class scores (n, k)``: draw the images of these concept values and score them."""

PERMUTATIONS = 25


@dataclass(frozen=True, kw_only=True)
class PaperImportance:
    """Importance of one concept as published, with its sign."""

    mean: float
    """Mean drop of the metric over the permutations."""
    sd: float
    """Spread over the permutations; not a standard error of the importance."""
    drops: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """Outcome of the published procedure."""

    metric: str
    baseline: float
    """The metric on the unpermuted generated images."""
    concepts: Mapping[str, PaperImportance]
    images: int
    """Images drawn: n (1 + J R) with fresh seeds, fewer when seeds are shared and unchanged rows are reused."""

    @property
    def ranking(self) -> tuple[str, ...]:
        """Concept names, largest mean drop first."""
        return tuple(sorted(self.concepts, key=lambda name: -self.concepts[name].mean))


def paper_importance(
    draw: DrawAndScore,
    concepts: Sequence[Concept],
    values: Ints,
    labels: Ints,
    *,
    rows: Sequence[str],
    seed: str,
    metric: str = "auroc",
    permutations: int = PERMUTATIONS,
    fresh_seeds: bool = True,
) -> PaperResult:
    """Permute every concept's column ``permutations`` times and draw every permuted set.

    ``values`` ``(n, J)`` level indices in the order of ``concepts``; ``labels`` ``(n,)`` class indices; ``rows`` names that seeds derive
    from.  With ``fresh_seeds`` off a row keeps its seed, so an unchanged row is the same image and is not drawn again.
    """
    performance = METRICS[metric].performance
    first = [seed_of(seed, row) for row in rows]
    base = draw(values, first)
    start = performance(base, labels)
    images = len(rows)
    found: dict[str, PaperImportance] = {}
    for at, concept in enumerate(concepts):
        drops = []
        for turn in range(permutations):
            permuted = _permuted(values, at, np.random.default_rng(seed_of(seed, f"{concept.name} permutation", turn)))
            redrawn = np.ones(len(rows), np.bool_) if fresh_seeds else permuted[:, at] != values[:, at]
            seeds = [seed_of(seed, f"{row} {concept.name}", 1 + turn) for row in rows] if fresh_seeds else first
            scores = base.copy()
            if redrawn.any():
                scores[redrawn] = draw(permuted[redrawn], [seeds[row] for row in np.flatnonzero(redrawn)])
            drops.append(start - performance(scores, labels))
            images += int(redrawn.sum())
        found[concept.name] = PaperImportance(mean=float(np.mean(drops)), sd=_spread(drops), drops=tuple(drops))
    return PaperResult(metric=metric, baseline=start, concepts=found, images=images)


def _permuted(values: Ints, at: int, rng: np.random.Generator) -> Ints:
    changed = values.copy()
    changed[:, at] = rng.permutation(values[:, at])
    return changed


def _spread(drops: Sequence[float]) -> float:
    return float(np.std(drops, ddof=1)) if len(drops) > 1 else 0.0

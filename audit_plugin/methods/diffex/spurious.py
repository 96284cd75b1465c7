"""Feature-only images: the cue is there, the object is not (specification 9.4).  Whoever calls has seen to both."""

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import ScoreKind, SpuriousHits
from audit_plugin.methods.diffex.figures import as_estimate
from audit_plugin.methods.diffex.scores import class_scores
from audit_plugin.statistics.intervals import wilson
from audit_plugin.statistics.separation import auroc, average_precision

ENOUGH = 75
"""Feature-only images from which on the ratio may be judged."""


def spurious_hits(
    real: Float[np.ndarray, "n C"], feature_only: Float[np.ndarray, "m C"], *, class_name: str, column: int, kind: ScoreKind
) -> SpuriousHits:
    """How often feature-only images are taken for the class, and how well real ones stand out from them.

    ``real``: answers to real images of the class; both as the server gave them.
    """
    of_real, of_feature = class_scores(real, kind), class_scores(feature_only, kind)
    decided = of_feature.decisions
    hits = int((decided[:, column] == 1).sum() if kind is ScoreKind.SIGMOID else (decided[:, 0] == column).sum())
    scores = of_real.log_odds[:, column], of_feature.log_odds[:, column]
    return SpuriousHits(
        class_name=class_name,
        images=len(feature_only),
        hit_ratio=as_estimate(wilson(hits, len(feature_only))),
        auc=auroc(*scores),
        average_precision=average_precision(*scores),
        enough=len(feature_only) >= ENOUGH,
    )

"""What an edit that must not matter does all the same: the noise floor that every effect is held against."""

from collections.abc import Mapping

import numpy as np

from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.depict.assemble import Array
from audit_plugin.methods.depict.study import Study, estimate, known
from audit_plugin.statistics.bootstrap import Bootstrap


def placebo_drop(study: Study, placebo: Array) -> Bootstrap | None:
    """Fall of the metric when the caption changes by a word that must not matter, on the rows that have a placebo."""
    rows = study.arrays.usable & known(placebo)
    labels, before, after = study.arrays.labels[rows], study.arrays.baseline[rows], placebo[rows]
    if len(np.unique(labels)) < 2:
        return None
    function = study.metric.function

    def drop(weights: Array) -> Array:
        return np.asarray(function(before, labels, weights) - function(after, labels, weights))

    return study.boot(drop, rows)


def placebo_figures(study: Study, placebo: Array | None) -> Mapping[str, Estimate]:
    """What an edit that must not matter (or another seed) does: to the metric, the decisions and the scores."""
    drop = None if placebo is None else placebo_drop(study, placebo)
    if placebo is None or drop is None:
        return {}
    cells = study.arrays.usable & known(placebo)
    before, after = np.nan_to_num(study.arrays.baseline), np.nan_to_num(placebo)
    changed = cells & (study.decide(after) != study.decide(before))
    moved = np.where(cells, np.abs(study.favourable(after) - study.favourable(before)), 0.0)
    count = cells.astype(np.float64)
    found = {
        study.metric.name: drop,
        "flip_rate": study.ratio(changed.astype(np.float64), count),
        "score_shift": study.ratio(moved, count),
    }
    return {name: shown for name, boot in found.items() if (shown := estimate(boot)) is not None}

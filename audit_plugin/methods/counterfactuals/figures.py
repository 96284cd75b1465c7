"""Figures over many counterfactuals, and what changes along with the decision (Jeanneret et al., DiME 2022; Weng et al., FastDiME 2024).

Flip ratio, distances and the bounded KL are taken over the subsets of the published scripts (``statistics.counterfactuals.SUBSETS``).
An item is an image and its target; where an image has several targets, intervals count it once.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from audit_plugin.core.counterfactual_results import LEAST_FLIPS, AttributeGap, Counterfactual, CounterfactualFigures
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.seeds import seed
from audit_plugin.methods.counterfactuals.attributes import Attributes, Moves, moves, why_no_gaps
from audit_plugin.statistics.correlation_difference import co_change, correlation_difference
from audit_plugin.statistics.correlation_gaps import difference_interval, gap_intervals, unrelated
from audit_plugin.statistics.counterfactuals import attribute_changes
from audit_plugin.statistics.intervals import Interval, wilson


def figures(
    items: Sequence[Counterfactual],
    *,
    seconds: float | None = None,
    couts: Sequence[float] = (),
    attributes: Attributes | None = None,
    perceptual: str = "",
) -> CounterfactualFigures:
    """All figures; None where there is nothing to take one of.

    ``seconds`` is the time that making them took, in all; None where all pictures were there already.  ``couts`` are of the
    images whose path was asked for.  Without ``attributes`` nothing is said of what changes along.  ``perceptual`` names the items' own
    distance, where they have one.
    """
    flips = [item for item in items if item.flipped]
    jpeg = [item for item in flips if item.jpeg is not None]
    witness = [item for item in flips if item.witness is not None]
    looks = [item.perceptual for item in flips if item.perceptual is not None]
    found = None if attributes is None or why_no_gaps(items, attributes) else moves(items, attributes)
    enough = found if found is not None and len(found.deltas) >= LEAST_FLIPS else None
    difference = (
        None if enough is None else correlation_difference(enough.deltas, enough.reference, enough.query, centred=enough.centred)
    )
    return CounterfactualFigures(
        images=len(_images(items)),
        flips=len(flips),
        flip_ratio=_share(items, np.array([item.flipped for item in items])),
        free_ratio=_share(items, np.array([item.free for item in items])),
        jpeg_ratio=_share(jpeg, np.array([bool(item.jpeg) for item in jpeg])),
        witness_ratio=_share(witness, np.array([bool(item.witness) for item in witness])),
        median_l1=_median([item.l1 for item in flips]),
        median_l2=_median([item.l2 for item in flips]),
        median_perceptual=_median(looks),
        perceptual=perceptual if looks else "",
        bounded_kl=_mean([1 - item.after for item in items]),
        changed_attributes=None if attributes is None else _changed(items, attributes),
        correlation_difference=None if enough is None else _difference(enough),
        no_side_change=None if difference is None else difference.no_side_change,
        noise_floor=None if difference is None else difference.noise_floor,
        chance=None if enough is None else _chance(enough),
        cout=_mean(couts),
        network_rows=_mean([item.network_rows for item in items]),
        queries=_mean([item.queries for item in items]),
        seconds=None if seconds is None or not flips else seconds / len(flips),
        adversarial_ratio=_share(witness, np.array([not item.witness and not item.jpeg for item in witness])),
        turning_flips=None if found is None else len(found.deltas),
    )


def gaps(items: Sequence[Counterfactual], attributes: Attributes, *, level: float = 0.95) -> tuple[AttributeGap, ...]:
    """Per attribute r - ρ with a 95 % interval over images (or of another ``level``), largest lower limit first; none where :func:`why_no_gaps` says why.

    Flips between two other classes than the queried one do not enter.  Intervals hold for one attribute each: for an alarm over K
    of them correct the level (Bonferroni: 1 - 0.05/K), or ask for a second audit on other images, as findings do.
    """
    if why_no_gaps(items, attributes):
        return ()
    found = moves(items, attributes)
    told = correlation_difference(found.deltas, found.reference, found.query, centred=found.centred)
    intervals = gap_intervals(
        found.deltas,
        found.reference,
        found.query,
        _rng(found, "gaps"),
        centred=found.centred,
        units=found.units,
        level=level,
    )
    along = co_change(found.deltas, found.query)
    made = []
    for column, (at, value) in enumerate(attributes.columns):
        concept = attributes.concepts[at]
        made.append(
            AttributeGap(
                attribute=attributes.names[column],
                gap=_estimate(intervals[column]),
                r=float(told.r[column]),
                rho=float(found.reference.rho[column]),
                gained=float(along.gained[column]) if along.n_gained else 0.0,
                lost=float(along.lost[column]) if along.n_lost else 0.0,
                concept=concept.name,
                opposite=f"{concept.name}={concept.levels[1 - value]}" if len(concept.levels) == 2 else "",
                role=concept.role,
                towards=along.n_gained,
                away=along.n_lost,
            )
        )
    return tuple(sorted(made, key=lambda one: (-one.gap.low, one.attribute)))


def _images(items: Sequence[Counterfactual]) -> set[str]:
    return {item.image for item in items}


def _share(items: Sequence[Counterfactual], flags: Bool[np.ndarray, "n"]) -> Estimate | None:
    """Share of items, with Wilson's interval at as many observations as there are images."""
    if not items:
        return None
    n = len(_images(items))
    return _estimate(wilson(float(flags.mean()) * n, n))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _estimate(found: Interval) -> Estimate:
    return Estimate(value=found.value, low=found.low, high=found.high)


def _changed(items: Sequence[Counterfactual], attributes: Attributes) -> float | None:
    """MNAC over all flips, by concepts: a background that turns from sand to grass is one change, not two."""
    at = [row for row, item in enumerate(items) if item.flipped]
    if not at:
        return None
    side = (attributes.before[at] != attributes.after[at]).astype(np.int64)
    changed = np.column_stack([side, np.ones(len(at), dtype=np.int64)])
    return attribute_changes(np.zeros_like(changed), changed, side.shape[1]).value


def _difference(found: Moves) -> Estimate:
    return _estimate(
        difference_interval(
            found.deltas, found.reference, found.query, _rng(found, "difference"), centred=found.centred, units=found.units
        )
    )


def _chance(found: Moves) -> float:
    return unrelated(found.one_each, found.reference, found.query, _rng(found, "chance"), centred=found.centred).p_above


def _rng(found: Moves, what: str) -> np.random.Generator:
    """The same draws for the same flips."""
    return np.random.default_rng(seed("counterfactuals", what, len(found.deltas)))

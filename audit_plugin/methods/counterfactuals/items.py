"""One counterfactual as it is told: what the server said of the stored bytes, and how far they lie from the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import CounterfactualStudio, Made
from audit_plugin.core.counterfactual_results import Counterfactual
from audit_plugin.core.protocols import ConceptDetector, Scores
from audit_plugin.core.values import Concept
from audit_plugin.methods.counterfactuals.attributes import Attributes
from audit_plugin.statistics.counterfactuals import closeness


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Who sees attributes, and which."""

    detector: ConceptDetector
    concepts: tuple[Concept, ...]


def item_of(
    studio: CounterfactualStudio,
    one: Made,
    original: int,
    scores: Mapping[str, NDArray[np.float64]],
    labels: Sequence[str],
    *,
    label: str,
    jpeg: Mapping[str, str],
    witness: bool | None,
    path: Scores | None,
    perceptual: float | None = None,
) -> Counterfactual:
    """``scores``: sha256 -> the server's probabilities; ``jpeg``: sha256 of flips -> of the same after a JPEG round trip."""
    target = one.wish.target
    before, after = (studio.pixels(sha).transpose(2, 0, 1)[None] for sha in (one.before, one.after))
    close = closeness(np.ascontiguousarray(before), np.ascontiguousarray(after))
    flipped = int(scores[one.after].argmax()) == target
    return Counterfactual(
        image=one.image,
        original=labels[original],
        target=labels[target],
        label=label,
        before_sha256=one.before,
        after_sha256=one.after,
        flipped=flipped,
        jpeg=int(scores[jpeg[one.after]].argmax()) == target if flipped else None,
        witness=witness if flipped else None,
        before=float(np.clip(scores[one.before][target], 0, 1)),
        after=float(np.clip(scores[one.after][target], 0, 1)),
        free=one.free and flipped,
        l1=float(close.l1[0]),
        l2=float(close.l2[0]),
        perceptual=perceptual,
        changed=float(close.changed[0]),
        attempts=one.attempts,
        network_rows=one.network_rows,
        queries=one.queries,
        path=() if path is None else tuple(float(p) for p in path[:, target]),
    )


def spread(studio: CounterfactualStudio, flips: Sequence[Made], count: int) -> list[Made]:
    """Flips spread evenly over their distances, the nearest and the farthest among them."""
    by_distance = sorted(flips, key=lambda one: (distance(studio, one), one.image, one.wish.target))
    if len(by_distance) <= count:
        return by_distance
    return [by_distance[round(at * (len(by_distance) - 1) / max(count - 1, 1))] for at in range(count)]


def distance(studio: CounterfactualStudio, one: Made) -> float:
    """Mean absolute difference of a picture from its image, in 8-bit levels."""
    before, after = (studio.pixels(sha).astype(np.int16) for sha in (one.before, one.after))
    return float(np.abs(before - after).mean())


def attributes_of(
    studio: CounterfactualStudio,
    reader: Reader,
    items: Sequence[Counterfactual],
    reference: Mapping[str, str],
    positive: str,
) -> Attributes:
    """Readings before and after, and of the reference: sha256 of images that nothing was done to -> their class."""
    read = studio.readings(reader.detector, [*reference, *(item.after_sha256 for item in items)])

    def levels(shas: Sequence[str]) -> NDArray[np.int64]:
        return np.array([[int(np.argmax(read[sha][concept.name])) for concept in reader.concepts] for sha in shas], np.int64)

    return Attributes(
        concepts=reader.concepts,
        before=levels([item.before_sha256 for item in items]),
        after=levels([item.after_sha256 for item in items]),
        reference=levels(list(reference)),
        classes=tuple(reference.values()),
        positive=positive,
    )

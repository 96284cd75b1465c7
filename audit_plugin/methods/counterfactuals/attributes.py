"""What detectors read before and after, as the binary attributes of a Correlation Difference.

A concept of two levels is one attribute, its second level; a concept of more is one attribute per level.  The queried attribute is no reading but the
class: over flips the server's decision for ``positive``; over reference images their label, since a gap is to say what the model ties together
and the data do not - by the model's own decisions a shortcut would be its own excuse.  Other attributes are read by the same detectors on
both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from audit_plugin.core.counterfactual_results import Counterfactual
from audit_plugin.core.values import Concept
from audit_plugin.statistics.correlation_difference import Baseline, baseline

LEAST_REFERENCE = 4
"""Reference images, below which nothing is said about how attributes and class go together."""


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """Readings of detectors that are independent of the audited model; a reading is a level's index."""

    concepts: tuple[Concept, ...]
    before: Int[np.ndarray, "n K"]
    """Of every counterfactual's image, in the order of the counterfactuals."""
    after: Int[np.ndarray, "n K"]
    """Of its picture; rows of those that did not flip are not read."""
    reference: Int[np.ndarray, "m K"]
    """Of reference images, which nothing was done to."""
    classes: tuple[str, ...]
    """The class of each of them: its label where that is known, else what the server says."""
    positive: str
    """The class whose decision is queried."""

    def __post_init__(self) -> None:
        count = len(self.concepts)
        if self.before.shape != self.after.shape or self.before.shape[1:] != (count,):
            raise ValueError(
                f"need readings of {count} concepts before and after, got shapes {self.before.shape} and {self.after.shape}"
            )
        if self.reference.shape != (len(self.classes), count):
            raise ValueError(
                f"need readings of {count} concepts and a class per reference image, got {self.reference.shape} and {len(self.classes)}"
            )

    @property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """Concept and level of every attribute, by index."""
        return tuple(
            (at, level)
            for at, concept in enumerate(self.concepts)
            for level in (range(1, 2) if len(concept.levels) == 2 else range(len(concept.levels)))
        )

    @property
    def names(self) -> tuple[str, ...]:
        """``concept=level`` of every attribute."""
        return tuple(f"{self.concepts[at].name}={self.concepts[at].levels[level]}" for at, level in self.columns)

    @property
    def query(self) -> int:
        """Column of the decision, after all attributes."""
        return len(self.columns)

    def binary(self, readings: Int[np.ndarray, "n K"]) -> Int[np.ndarray, "n A"]:
        """Readings as attributes 0 and 1."""
        return np.stack([readings[:, at] == level for at, level in self.columns], axis=1).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Moves:
    """The flips towards and away from the queried class, and what changed with them."""

    deltas: Int[np.ndarray, "f B"]
    """-1, 0 or 1 by attribute, the decision last; never 0 for the decision."""
    units: Int[np.ndarray, "f"]
    """Image of each; one image may be flipped to several targets."""
    reference: Baseline
    query: int

    @property
    def centred(self) -> bool:
        """Whether there are flips of both directions; with one alone the correlation about the mean does not exist."""
        return len(np.unique(self.deltas[:, self.query])) > 1

    @property
    def one_each(self) -> Int[np.ndarray, "u B"]:
        """The first flip of every image, so that rows are independent."""
        return self.deltas[np.unique(self.units, return_index=True)[1]]


def moves(items: Sequence[Counterfactual], attributes: Attributes) -> Moves:
    """Flips of the queried decision.  Raises ValueError where they, or the reference, are too few to say what goes along with it."""
    if len(items) != len(attributes.before):
        raise ValueError(f"need readings of {len(items)} counterfactuals, got {len(attributes.before)}")
    if not attributes.concepts:
        raise ValueError("no detector reads any concept")
    at = [
        row
        for row, item in enumerate(items)
        if item.flipped and item.original != item.target and attributes.positive in {item.original, item.target}
    ]
    units = np.unique([items[row].image for row in at], return_inverse=True)[1]
    if len(np.unique(units)) < 2:
        raise ValueError(f"fewer than two images flip to or from {attributes.positive!r}")
    said = np.array([name == attributes.positive for name in attributes.classes])
    if len(said) < LEAST_REFERENCE or said.all() or not said.any():
        raise ValueError(
            f"need {LEAST_REFERENCE} reference images or more, some that the model takes for {attributes.positive!r} and some that it does not"
        )
    change = attributes.binary(attributes.after[at]) - attributes.binary(attributes.before[at])
    towards = np.array([1 if items[row].target == attributes.positive else -1 for row in at])
    known = np.column_stack([attributes.binary(attributes.reference), said.astype(np.int64)])
    return Moves(
        deltas=np.column_stack([change, towards]),
        units=units,
        reference=baseline(known, attributes.query, source="oracle"),
        query=attributes.query,
    )


def why_no_gaps(items: Sequence[Counterfactual], attributes: Attributes | None) -> str:
    """Why nothing can be said of what changes along with the decision; empty where it can."""
    if attributes is None:
        return "no detectors, so that it is not known which concepts change along with the decision"
    try:
        moves(items, attributes)
    except ValueError as error:
        return f"it is not known which concepts change along with the decision: {error}"
    return ""

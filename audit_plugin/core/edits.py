"""Edits of real images, and what a model says to them: one row per picture that was scored.

An edit asks for one node of a concept tree, or several at once, to be added or removed; its reference is the null edit of the same image
and seed, never the image itself.  Every number that a method reports is a function of these rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Direction(StrEnum):
    """What an edit did to its node."""

    ADD = "add"
    REMOVE = "remove"
    PLACEBO = "placebo"
    """A meaning-free edit at matched strength."""


class Split(StrEnum):
    """What a row may be used for."""

    SELECT = "select"
    """Search only."""
    ESTIMATE = "estimate"
    """Every number that is reported."""


@dataclass(frozen=True, kw_only=True, order=True)
class EditCell:
    """One edit that is wanted: which image, which nodes together, which seed."""

    image: str
    nodes: tuple[str, ...]
    """Paths of the nodes, sorted; several are one joint edit.  A placebo has one name, that of its prompt."""
    seed: int = 0
    """Number of the seed replicate: the noise is keyed by (image, seed), never by the node."""
    placebo: bool = False
    strength: float = 1.0
    """Times the strength that was found for the node; other than 1 for the dependence on strength alone, never for an effect."""


@dataclass(frozen=True, kw_only=True)
class EditRow:
    """One edit that was made and scored, beside the null edit of the same image and seed."""

    cell: EditCell
    split: Split
    direction: Direction
    """For a joint edit, of its first node."""
    signs: tuple[int, ...]
    """+1 added, -1 removed, one per node of the cell."""
    operator: str
    """Name and version of what made it."""
    scale: float = 0.0
    """Strength; 0 where the operator has none."""
    valid: bool = True
    class_kept: bool = True
    """Whether an independent judge still sees the same class; asked of nodes that are not core, and for spuriousness alone."""
    reasons: tuple[str, ...] = ()
    """Why it is not valid, one name per check that failed: V1 … V6, or `ambiguous`, where no edit was made."""
    verifier_before: float | None = None
    """Probability that the attribute is there, by an independent judge, on the null edit."""
    verifier_after: float | None = None
    distance: float | None = None
    """Perceptual distance of edit and null edit."""
    outside_psnr: float | None = None
    """Decibel outside the mask; None where there is no mask."""
    mask_area: float | None = None
    """Share of the image, in [0, 1]."""
    before: tuple[float, ...] = ()
    """Class scores of the null edit, as the server gave them."""
    after: tuple[float, ...] = ()
    before_sha256: str = ""
    after_sha256: str = ""
    original: tuple[float, ...] = ()
    """Class scores of the image itself, untouched, where it was scored: only for the shift of the null edit."""

    @property
    def scored(self) -> bool:
        """Whether both pictures have class scores."""
        return bool(self.before) and bool(self.after)

    @property
    def usable(self) -> bool:
        """Whether it may enter an estimate."""
        return self.valid and self.scored


class EditArms(Protocol):
    """Makes, checks and scores edits when they are asked for; what is there already costs nothing."""

    def rows(self, cells: Sequence[EditCell]) -> Sequence[EditRow]:
        """One row per cell, in order.  An edit that could not be made has a row without scores that says why."""
        ...

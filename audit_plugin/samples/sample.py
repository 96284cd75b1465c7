"""What one sample is: a picture before, a picture after, what the model said to both, and whether that counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Which experiment a sample belongs to."""

    CONCEPT = "concept"
    """Both pictures drawn, one concept said otherwise."""
    NODE = "node"
    """An image edited, beside its null edit."""
    COUNTERFACTUAL = "counterfactual"
    """An image changed until the decision flips, or until the tries were spent."""
    SHORTCUT = "shortcut"
    """An image in which a suspected concept was flipped."""
    WORD = "word"
    """Drawn from a prompt without a word and with it, by the same seed."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One of them."""

    kind: Kind
    image: str
    """Id of the row or image; of words the prompt."""
    subject: str
    """Concept, node, attribute, class or word that the change is about."""
    change: str
    """What was changed, in words."""
    before_sha256: str
    """Empty where there is no picture."""
    after_sha256: str
    of: str = ""
    """Class that the scores are of."""
    before: float | None = None
    after: float | None = None
    decision_before: str = ""
    decision_after: str = ""
    flipped: bool | None = None
    """Whether the decision changed; None where the pictures were not scored."""
    why_not: tuple[str, ...] = ()
    """Why it does not count, in words."""

    @property
    def counts(self) -> bool:
        """Whether it enters what is reported."""
        return not self.why_not

    @property
    def moved(self) -> float | None:
        """Change of the score."""
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Those of one result, image by image."""

    items: tuple[Sample, ...]
    partial: tuple[str, ...] = ()
    """What is shown in part only, and why."""

    def of(self, kind: Kind) -> Sequence[Sample]:
        """Those of one experiment."""
        return [one for one in self.items if one.kind is kind]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Experiments that left samples."""
        there = {one.kind for one in self.items}
        return tuple(kind for kind in Kind if kind in there)

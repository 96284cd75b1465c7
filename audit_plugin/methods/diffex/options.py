"""How a DiffEx audit is run (specification 12)."""

from dataclasses import dataclass, field
from typing import Literal

from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.methods.diffex.combine import CombineOptions
from audit_plugin.methods.diffex.estimate import EstimateOptions
from audit_plugin.methods.diffex.racing import RaceOptions
from audit_plugin.methods.diffex.spurious import ENOUGH

PLACEBOS = ("photo", "image", "envelope")
"""Meaning-free prompts, and a common noun that no domain is about."""


@dataclass(frozen=True, kw_only=True)
class DiffexOptions:
    """What an audit asks for and how it judges."""

    score: ScoreKind = ScoreKind.PROBS
    """What the class scores are; `sigmoid`: probabilities of independent classes, for `discover` too."""
    images_per_class: int = 128
    """Most images per class; half search, half estimate."""
    all_images: bool = False
    """Measure effects on a class over all images, not over those of the class: rows are shared between classes."""
    placebos: tuple[str, ...] = PLACEBOS
    """Prompts of the placebo edits, made on every image."""
    joint_placebos: bool = False
    """Ask for placebos of several prompts beside joint edits; else they are compared with single placebos."""
    seeds: int = 1
    """Replicates of every estimated edit."""
    seed_pilot: int = 8
    """ESTIMATE images with a second replicate, to see whether seeds matter; 0: none."""
    seed_share: float = 0.25
    """A node has the second replicate on all images where seeds vary by more than this share of the variance between images."""
    search: Literal["racing", "parent_gated", "random_order"] = "racing"
    race: RaceOptions = field(default_factory=RaceOptions)
    combine: CombineOptions = field(default_factory=CombineOptions)
    estimate: EstimateOptions = field(default_factory=EstimateOptions)
    sample_eliminated: float = 0.05
    """Share of eliminated nodes that is estimated all the same, to measure what the search misses."""
    dose_nodes: int = 5
    """Strongest nodes whose dependence on the strength of the edit is measured; 0: none."""
    dose_images: int = 16
    """ESTIMATE images that it is measured on."""
    hit_nodes: int = 3
    """Strongest cues that are shown to the model without the object; 0: none."""
    hit_images: int = 96
    """Most images of other classes that they are shown on, none of which served a search."""
    hit_enough: int = ENOUGH
    """Images with the cue alone from which on their share of hits is judged."""
    agreement_images: int = 16
    """ESTIMATE images on which nodes that two operators can make are edited by both."""
    chunk: int = 64
    """Edits asked for at a time; limits are looked at in between."""

    def __post_init__(self) -> None:
        counts = (self.seed_pilot, self.dose_nodes, self.dose_images, self.hit_nodes, self.hit_images, self.agreement_images)
        if min(self.images_per_class, self.seeds, self.chunk) < 1 or min(counts) < 0:
            raise ValueError(
                f"`images_per_class`, `seeds` and `chunk` are at least 1, other numbers of nodes and images at least 0, got {self}"
            )
        if not 0 <= self.sample_eliminated <= 1 or self.seed_share < 0:
            raise ValueError(
                f"`sample_eliminated` is a share, 0 to 1, and `seed_share` not negative, got {self.sample_eliminated}, {self.seed_share}"
            )

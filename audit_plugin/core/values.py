"""Concepts, rows, recipes and probes: the nouns of an audit, all frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from audit_plugin.core.seeds import digest


class Role(StrEnum):
    """What a concept is to the task; only the last three may raise a bias alert."""

    CORE = "core"
    CONTEXT = "context"
    NUISANCE = "nuisance"
    PROTECTED = "protected"
    ARTEFACT = "artefact"

    @property
    def alerts(self) -> bool:
        """Whether reliance on a concept of this role is a finding."""
        return self in {Role.NUISANCE, Role.PROTECTED, Role.ARTEFACT}


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One visible attribute with a finite list of levels; a value is an index into ``levels``."""

    name: str
    levels: tuple[str, ...]
    phrases: tuple[str, ...]
    """What the caption says for each level; an empty phrase says nothing."""
    role: Role = Role.CONTEXT

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or len(set(self.levels)) != len(self.levels):
            raise ValueError(f"concept {self.name!r} needs at least two different levels, got {self.levels}")
        if len(self.phrases) != len(self.levels):
            raise ValueError(f"concept {self.name!r} has {len(self.levels)} levels but {len(self.phrases)} phrases")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One labelled real image of the evaluation set, described by its concept values."""

    id: str
    values: tuple[int, ...]
    """One level index per concept, in the concept set's order."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Task label column -> class name; each audited model is judged against one of these columns."""
    image: str | None = None
    """Where the real image lies (path or URL), if there is one."""
    unit: str = ""
    """Rows of one unit (patient, video, product) are resampled together; empty means the row is its own unit."""
    rest: str = ""
    """Part of the caption that no arm ever changes."""


class Arm(StrEnum):
    """Why a probe was drawn."""

    BASELINE = "baseline"
    FLIP = "flip"
    """Concept ``concept`` set to ``level``, everything else as the baseline, same seed."""
    PLACEBO = "placebo"
    """Same seed, caption changed by a task-irrelevant word."""
    REPLICATE = "replicate"
    """Baseline caption, another seed."""
    GROUP = "group"
    """Several concepts (``concept`` is their names joined by '+') take the values of a donor row together."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that determines the pixels of a generated image.  Equal recipes are drawn once."""

    generator: str
    """Fingerprint of weights, sampler and settings."""
    caption: str
    seed: int

    @property
    def id(self) -> str:
        """Identity of the picture: a hash of the recipe."""
        return digest(self.generator, self.caption, str(self.seed))


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One cell of the audit's design: which row, which arm, what was changed, and the picture that answers it."""

    row: str
    arm: Arm
    values: tuple[int, ...]
    """The concept values this picture was asked to show."""
    recipe: Recipe
    concept: str = ""
    level: int = -1
    replicate: int = 0

    @property
    def id(self) -> str:
        """Identity of the cell together with its picture."""
        return digest(self.row, self.arm, self.concept, str(self.level), str(self.replicate), self.recipe.id)


@dataclass(frozen=True, kw_only=True)
class DrawnImage:
    """A picture that lies in the bank."""

    recipe: str
    sha256: str
    """Of the PNG file's bytes."""
    rejected: str = ""
    """Why the quality filter refused it (blank, saturated, not finite), empty when it did not."""


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """The audited model as the server describes it, pinned to one version."""

    model: str
    version: str
    config_hash: str
    """SHA-256 of the model configuration as served (or of its metadata where the server has no configuration)."""
    server: str
    """Name and version of the server software."""
    labels: tuple[str, ...]
    """Class names in the order of the score columns."""
    scoring: str
    """Digest of preprocessing, output and activation: whatever changes the scores besides the model."""
    notes: tuple[str, ...] = ()
    """What the reader of a report should know about this endpoint; no part of its identity."""

    @property
    def id(self) -> str:
        """Key of this model version in the score table."""
        return digest(self.model, self.version, self.config_hash, self.scoring)

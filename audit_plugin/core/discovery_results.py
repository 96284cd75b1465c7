"""What a class or a hidden unit responds to, found with no data, frozen.  Shares are in [0, 1]; estimates carry 95 % intervals.

A word is a finding only where an experiment says so: the same seeds drawn with it and without it, and the deployed model asked about both.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from audit_plugin.core.errors import StoreError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import NodeKind

DISCOVERY_SCHEMA = 1


class Mode(StrEnum):
    """How prompts were searched for."""

    GRADIENT = "gradient"
    """Soft prompts, by the gradient of the model's own file; what came of it was asked of the server."""
    SCORES = "scores"
    """Words and their compositions, by the server's scores alone."""
    LABELS = "labels"
    """The same by the server's labels alone."""


class WordPart(StrEnum):
    """Whether a word belongs to what the class is about."""

    CORE = "core"
    SPURIOUS = "spurious"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class WordPair:
    """One seed drawn without the word and with it."""

    without_sha256: str
    with_sha256: str
    without_prompt: str
    with_prompt: str
    before: float
    """What the model says of the class (its probability; of a unit its activation in standard deviations) without the word."""
    after: float


@dataclass(frozen=True, kw_only=True)
class FoundWord:
    """A word, or a phrase of a few, and what saying it does."""

    word: str
    """As it stands in prompts."""
    source: str
    """Where it came from: ``tree``, ``captions``, ``file``, ``vocabulary``, ``prompt`` (nearest words of a soft prompt) or ``pictures``."""
    node: str = ""
    """Path of the node of the concept tree that says the same, proposed ones included; empty where there is none."""
    known: bool = False
    """Whether that node was in the tree before."""
    kind: NodeKind | None = None
    """Kind of that node; None where there is none.  A word of kind core is never held against the model."""
    score: float
    """Mean score with the word, less the mean over all words, under seeds that did not choose it: log-odds, or standard deviations of a unit."""
    with_word: Estimate
    """Share of pictures that the model takes for the class (a unit: that activate it above its usual 95th percentile) with the word."""
    without: Estimate
    effect: Estimate
    """With minus without, on the same seeds; limits hold for all words of the subject together."""
    shift: Estimate | None
    """Mean change of the score on the same pairs; None where the server gives labels alone."""
    p: float
    """Exact McNemar test; of a unit sign flips of its activation's change."""
    q: float
    """Benjamini-Hochberg over all words of the subject that were tested."""
    causes: bool
    """Whether ``effect`` (of a unit ``shift``) lies above 0 for all words together and ``q`` below 0.05; other words are no findings."""
    pairs: int
    lift: float | None = None
    """How much oftener the word is said of pictures that the class is given to than of others, ln; None where no pictures were described."""
    lift_q: float | None = None
    lift_by: str = ""
    """Who says it of a picture: its own ``prompts`` (which may not have been drawn), the ``generator`` that looks at it again, or ``captions``."""
    margin: float | None = None
    """Mean cosine of word and picture by an image-text model: pictures taken for the class, less pictures of plain prompts under their seeds."""
    part: WordPart = WordPart.UNKNOWN
    inside: Estimate | None = None
    """Share of the response that comes from the object, chance taken off: 0 by chance, 1 all of it; None where that was not measured."""
    part_by: str = ""
    """What decided: ``segmentation``, ``occlusion``, ``masks``, ``tree``, ``person``; empty where nothing could."""
    examples: tuple[WordPair, ...] = ()
    """Pairs of largest change first."""


@dataclass(frozen=True, kw_only=True)
class PromptPicture:
    """A picture of a prompt."""

    sha256: str
    seed: int
    score: float
    """Probability of the class, or a unit's activation in standard deviations."""
    taken: bool
    """Whether the model takes it for the class (a unit: activates above its 95th percentile)."""


@dataclass(frozen=True, kw_only=True)
class FoundPrompt:
    """A prompt that the subject responds to."""

    text: str
    """In words; of a soft prompt the nearest ones."""
    how: str
    """``composition``, ``soft prompt``, ``hard tokens``, ``CMA-ES``, ``NES``."""
    activation: Estimate
    """Share of pictures under fresh seeds that the model takes for the class (activation score)."""
    pictures: tuple[PromptPicture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DiscoveredSubject:
    """What one class, or one hidden unit, responds to."""

    name: str
    """Class name, or ``tensor[index]`` of a unit."""
    kind: Literal["class", "unit"] = "class"
    named: bool = False
    """Whether prompts held the class's own name; a class that needs its object must not be told its name."""
    base_prompt: str
    base: Estimate
    """Activation score of prompts without any of the words."""
    prompts: tuple[FoundPrompt, ...]
    """Best first."""
    words: tuple[FoundWord, ...]
    """Largest effect first, those that cause nothing too: what was tested is told."""
    object_absent: Estimate | None = None
    """Share of pictures taken for the class that do not show its object; None without a segmenter or masks."""
    stability: float | None = None
    """Jaccard index of the words that act in either half of the seeds; None where none does."""
    classes: tuple[tuple[str, float], ...] = ()
    """Of a unit: the classes that it speaks for, with the share of their score that it explains; empty for classes."""
    queries: int = 0
    """Pictures that the server was asked about for this subject alone."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnitWords:
    """What a hidden unit answers most to among the words of the bank: a description from the first pass over it, tested by nothing."""

    unit: str
    """``tensor[index]``."""
    words: tuple[tuple[str, float], ...]
    """Best first, each with its mean answer less that of all words, in standard deviations over all pictures of the pass."""


@dataclass(frozen=True, kw_only=True)
class DomainFit:
    """Whether the generator draws what the model was made for."""

    fits: bool
    said: str
    """One sentence, with its numbers."""
    near_real: Estimate | None = None
    """Share of generated pictures whose thumbnails lie among those of real ones; None without real ones."""
    classes_reached: int = 0
    """Classes that some generated picture was taken for."""
    classes: int = 0


@dataclass(frozen=True, kw_only=True)
class ProposedNode:
    """A node of the concept tree that a word asks for."""

    path: str
    word: str
    subject: str
    """The class (or unit) that responds to it."""
    kind: NodeKind
    accepted: bool
    """Whether it stands in the tree now."""
    evidence: str
    """One sentence with its numbers."""


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What one model version responds to."""

    model: str
    version: str
    mode: Mode
    mode_said: str
    """Why this mode, and how well a file that gave gradients agrees with the server."""
    generator: str
    """Fingerprint of what drew."""
    words: int
    """Words in the bank."""
    contexts: int
    """Prompts that words were put into."""
    fit: DomainFit
    subjects: tuple[DiscoveredSubject, ...]
    proposed: tuple[ProposedNode, ...] = ()
    dictionary: tuple[UnitWords, ...] = ()
    """Of every unit of the outputs that were asked about, those that answer most first."""
    queries: int
    """Pictures that the server was asked about, in all."""
    network_rows: int
    """Forward rows of the denoising network now; pictures that were there cost none."""
    gradient_rows: int = 0
    """Rows among them that were differentiated."""
    seconds: float
    made_at: str
    """ISO 8601, UTC."""
    stopped: str = ""
    """The limit that ended it early; empty where it came to its end."""
    notes: tuple[str, ...] = ()
    schema_version: int = DISCOVERY_SCHEMA

    @property
    def causes(self) -> tuple[tuple[DiscoveredSubject, FoundWord], ...]:
        """Words that proved to act, with whose they are."""
        return tuple((subject, word) for subject in self.subjects for word in subject.words if word.causes)


@cache
def _adapter() -> TypeAdapter[Discovery]:
    """Made when it is first needed."""
    return TypeAdapter(Discovery)


def to_json(discovery: Discovery) -> str:
    """As a JSON document, keys in the order of the fields."""
    return _adapter().dump_json(discovery, indent=2).decode()


def from_json(text: str) -> Discovery:
    """Read back what :func:`to_json` wrote.  Raises StoreError on anything else."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise StoreError(f"not a discovery of schema {DISCOVERY_SCHEMA}: {error.errors()[0]['msg']}") from error

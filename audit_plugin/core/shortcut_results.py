"""What an audit of one suspected shortcut found, frozen.  Probabilities and ratios are in [0, 1]; estimates carry 95 % intervals."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from pydantic import TypeAdapter, ValidationError

from audit_plugin.core.errors import StoreError
from audit_plugin.core.estimate import Estimate

SCHEMA_VERSION = 1


class ShortcutVerdict(StrEnum):
    """Whether a model uses one concept as a shortcut."""

    SHORTCUT = "shortcut"
    """Flips move its score by more than the margin beyond the editor's floor and beyond flips of an irrelevant concept."""
    NONE = "none"
    """Both differences are shown to be below the margin."""
    INCONCLUSIVE = "inconclusive"
    INSUFFICIENT = "insufficient"
    """Too few verified flips, or too few with both controls."""


@dataclass(frozen=True, kw_only=True)
class ShortcutCounts:
    """Images, and what became of them."""

    images: int
    units: int
    """Independent units (patients, videos) among the images that count."""
    flipped_by_guide: int
    """The classifier that guided the edit says that it worked."""
    flipped_by_oracle: int
    """An independent one says so."""
    unasked: int
    """Images without the oracle's word."""
    leaked: int
    """Something that should decide the task changed as well."""
    verified: int
    """Both say so, and nothing leaked."""
    used: int
    """Images that effects are estimated on: the verified ones, or all where asked for."""
    with_shortcut: int
    """Used images that had the concept before."""
    with_floor: int
    """Used images with the editor's floor."""
    with_irrelevant: int
    """Used images with a verified flip of an irrelevant concept."""


@dataclass(frozen=True, kw_only=True)
class ShortcutEffects:
    """What flips do to the score, on the images that count; None where nothing is known."""

    mad: Estimate | None = None
    """Mean absolute difference |p - p after the flip|."""
    mad_floor: Estimate | None = None
    """The same after the unguided round trip."""
    mad_irrelevant: Estimate | None = None
    """The same after flips of the irrelevant concept."""
    over_floor: Estimate | None = None
    """``mad`` minus ``mad_floor``, paired, on the images that have both."""
    over_irrelevant: Estimate | None = None
    """``mad`` minus ``mad_irrelevant``, paired, on the images that have both."""
    md_with: Estimate | None = None
    """MD_s1: mean of p - p after the flip where the concept was there; positive when losing it lowers the score."""
    md_without: Estimate | None = None
    """MD_s0: the same where it was not; negative when gaining it raises the score."""
    mad_with: Estimate | None = None
    mad_without: Estimate | None = None
    cosine: Estimate | None = None
    """Of the two vectors of scores, before and after; 1 when flips change nothing."""
    auroc: Estimate | None = None
    """On the original images; None without labels of both kinds."""
    auroc_flipped: Estimate | None = None
    """On the same images after the flip."""


@dataclass(frozen=True, kw_only=True)
class ShortcutPicture:
    """One flip to look at; scores are the model's probability of the positive class."""

    image: str
    percentile: int
    """Where the size of its change stands among the images that count."""
    had: bool
    """Whether the image showed the concept before."""
    before_sha256: str
    after_sha256: str
    floor_sha256: str
    before: float
    after: float
    floor: float


@dataclass(frozen=True, kw_only=True)
class ShortcutResult:
    """Reliance of one model on one concept, by flips of it on real images."""

    concept: str
    irrelevant: str
    """The concept that was flipped as a control."""
    verdict: ShortcutVerdict
    margin: float
    summary: str
    """One sentence, the verdict last."""
    counts: ShortcutCounts
    flip_rate_guide: Estimate | None
    flip_rate_oracle: Estimate | None
    """Of the images that the oracle was asked about."""
    effects: ShortcutEffects
    mad_as_released: Estimate | None
    """Mean absolute difference over all images, failed flips too, as the released protocol has it."""
    notes: tuple[str, ...] = ()
    pictures: tuple[ShortcutPicture, ...] = ()
    level: str = ""
    """Which level of the concept was looked for."""
    schema_version: int = SCHEMA_VERSION


@cache
def _adapter() -> TypeAdapter[ShortcutResult]:
    """Made when it is first needed."""
    return TypeAdapter(ShortcutResult)


def to_json(result: ShortcutResult) -> str:
    """The result as a JSON document, keys in the order of the fields."""
    return _adapter().dump_json(result, indent=2).decode()


def from_json(text: str) -> ShortcutResult:
    """Read back what :func:`to_json` wrote.  Raises StoreError on anything else."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise StoreError(f"not a shortcut result of schema {SCHEMA_VERSION}: {error.errors()[0]['msg']}") from error

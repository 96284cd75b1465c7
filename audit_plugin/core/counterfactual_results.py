"""What changes flip the deployed model's decision, frozen.  Probabilities and ratios are in [0, 1]; estimates carry 95 % intervals."""

from dataclasses import dataclass

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.values import Role

LEAST_FLIPS = 20
"""Flips below which nothing is concluded from what changes along.  Simulated at 20 flips and as many reference images as 32, an unrelated attribute
passed a bound of 0.2 in under 1 % of audits, and never twice the bound."""


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """One image and what was made of it; what is said of the result was said by the server, of the stored bytes."""

    image: str
    original: str
    """Class that the server gave to the image."""
    target: str
    """Class that it was to give."""
    label: str = ""
    """Class that the table gives; empty where it gives none."""
    before_sha256: str
    """Of the image at the editor's size."""
    after_sha256: str
    """Of the stored picture; the best try where nothing flipped."""
    flipped: bool
    """Whether the target is the likeliest class of the stored picture."""
    jpeg: bool | None = None
    """Whether it still is after a JPEG round trip; None where nothing flipped."""
    witness: bool | None = None
    """Whether an independent model sees a move towards the target, too; None where nothing flipped or there is none to ask."""
    before: float
    """Probability of the target, of the image."""
    after: float
    """The same, of the stored picture."""
    free: bool = False
    """Whether a variation that nobody guided flipped."""
    l1: float
    """Mean absolute difference over pixels and channels, on the scale of [0, 1], after rounding to 8 bits."""
    l2: float = 0.0
    """Euclidean norm of the same difference."""
    perceptual: float | None = None
    """Distance by the network that the user supplied; None where nothing flipped or there is none."""
    changed: float
    """Share of pixels whose difference exceeds 0.05 in some channel."""
    attempts: int
    network_rows: int
    """Rows that the denoising network evaluated for it, forward."""
    queries: int
    """Pictures that the server was asked about for it."""
    path: tuple[float, ...] = ()
    """Probability of the target along the way from the image to the picture, pixels in order of their change."""


@dataclass(frozen=True, kw_only=True)
class AttributeGap:
    """How much more (or less) than in the data an attribute changes along with the decision."""

    attribute: str
    gap: Estimate
    """r - rho; above 0 when counterfactuals change it more than the data tie it to the class."""
    r: float
    """Correlation of the attribute's change with the decision's, over flips."""
    rho: float
    """Correlation of attribute and class in the data."""
    gained: float
    """Share of flips towards the class that gain the attribute, less those that lose it."""
    lost: float
    """The same of flips away from it, with the sign turned."""
    concept: str = ""
    """Whose level the attribute is."""
    opposite: str = ""
    """Of a concept with two levels the attribute that is not shown, whose figures are these with the sign turned."""
    role: Role = Role.CONTEXT
    """Of the concept."""
    towards: int = 0
    """Flips towards the class; where there are none, ``gained`` says nothing."""
    away: int = 0
    """Flips away from it; where there are none, ``lost`` says nothing."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualFigures:
    """Over many counterfactuals; None where nothing is known.  Each names the images that it is of."""

    images: int
    flips: int
    flip_ratio: Estimate | None
    """Of all images (FR)."""
    free_ratio: Estimate | None
    """Share of images that flip under plausible variation alone: how fragile the predictions are."""
    jpeg_ratio: Estimate | None
    """Of the flips, those that survive a JPEG round trip."""
    witness_ratio: Estimate | None
    """Of the flips that an independent model was shown, those that it sees."""
    median_l1: float | None
    """Of the flips."""
    median_l2: float | None = None
    """Of the flips."""
    median_perceptual: float | None = None
    """Of the flips; None without a network."""
    perceptual: str = ""
    """What that distance is called; LPIPS only where it is that."""
    bounded_kl: float | None
    """Mean of 1 - p(target) over all images (BKL)."""
    changed_attributes: float | None
    """Mean number of attributes that change in a flip, the queried one included (MNAC)."""
    correlation_difference: Estimate | None
    """CD over the flips; None without detectors, and of fewer than :data:`LEAST_FLIPS` flips, as what it is judged by is then."""
    no_side_change: float | None
    """What CD would be of edits that change nothing but the queried attribute."""
    noise_floor: float | None
    """What CD would be about if side attributes changed by chance, at this number of flips."""
    chance: float | None
    """Share of permuted data with a CD at least as large."""
    cout: float | None
    """Mean COUT of the images whose path was asked for."""
    network_rows: float | None
    """Mean per image, forward."""
    queries: float | None
    """Mean per image."""
    seconds: float | None
    """Mean per flip; None where all pictures were there already."""
    adversarial_ratio: Estimate | None = None
    """Of the flips that an independent model was shown, those that neither it sees nor a JPEG round trip keeps."""
    turning_flips: int | None = None
    """Flips to or from the queried class, which CD is of; None where none are enough to know what changes along, or nobody counted them."""


@dataclass(frozen=True, kw_only=True)
class SetFigure:
    """How the counterfactuals, all together, compare with real images, by the features of a network."""

    name: str
    """FID, sFID, KID, FVA, FS or S3."""
    value: float | None
    """None where it was refused."""
    low: float | None = None
    """Limits of the 95 % interval, where there is one."""
    high: float | None = None
    spread: float | None = None
    """Of sFID the standard deviation over ways of halving the images."""
    real: int
    """Original images that enter."""
    counterfactual: int
    """Counterfactuals that enter."""
    subset: str
    """Of which originals (CC: the server is right, IC: it is wrong) and counterfactuals (CCF: flipped, ICF: not)."""
    network: str
    """Whose features they are."""
    refused: str = ""
    """Why there is no value."""


@dataclass(frozen=True, kw_only=True)
class DiversityFigure:
    """How far the counterfactuals of one image lie apart when searches are repeated with other noise."""

    value: float | None
    """Mean over images of the mean distance of two runs; None where no image qualifies."""
    distance: str
    """What it is measured by; LPIPS only where it is that."""
    runs: int
    images: int
    """Images (and targets) that flipped in all runs, or in none; only these enter."""
    left_out: int
    network_rows: int = 0
    """Of all runs but the first, forward."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualResult:
    """Counterfactuals of one model version."""

    method: str
    """As published: fastdime, maskdime, dvce, ensemble ..."""
    rung: str
    """How the deployed model's gradient was had."""
    rung_said: str
    """How well that stands in for it, measured."""
    passed_over: tuple[str, ...]
    """Why better rungs were not taken."""
    positive: str
    """Class whose decision the attribute gaps are about."""
    figures: CounterfactualFigures
    gaps: tuple[AttributeGap, ...]
    """Largest lower limit first."""
    items: tuple[Counterfactual, ...]
    notes: tuple[str, ...] = ()
    sets: tuple[SetFigure, ...] = ()
    diversity: DiversityFigure | None = None
    """None where every search was done once."""
    witness: str = ""
    """The independent model that flips were shown to; empty where there was none."""
    summary: str = ""
    """One sentence: method, rung, flip ratio, distance, and what changes along most."""

    @property
    def turning(self) -> int:
        """Flips to or from ``positive``, as far as it is known what changes along with them."""
        return self.gaps[0].towards + self.gaps[0].away if self.gaps else 0

    @property
    def correlation_difference(self) -> Estimate | None:
        """CD where there are flips enough; results of older versions hold one of fewer, too."""
        return self.figures.correlation_difference if self.turning >= LEAST_FLIPS else None

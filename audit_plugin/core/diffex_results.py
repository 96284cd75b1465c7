"""What a DiffEx audit found, frozen; JSON by pydantic's TypeAdapter.  Effects are of the presence of a node on the log-odds of a class.

Every number is a function of the rows of edits (:mod:`audit_plugin.core.edits`) and of what the search chose, which is kept here too.
Log-odds are differences of proportions where a model tells labels only.  None: it could not be computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from audit_plugin.core.confirm import ToConfirm, VerifierPrecision
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import NodeKind


class ScoreKind(StrEnum):
    """What the class scores of a model are."""

    PROBS = "probs"
    LOGITS = "logits"
    LABELS = "labels"
    """Nothing but the first class: scores whose largest is the label."""
    SIGMOID = "sigmoid"
    """One probability per class, each class decided for itself."""


class EffectState(StrEnum):
    """What may be said of an effect."""

    EFFECT = "effect"
    NO_EFFECT = "no_effect"
    """A claim of its own: the effect lies within the margin of equivalence."""
    INCONCLUSIVE = "inconclusive"


class Chosen(StrEnum):
    """Why a node was estimated."""

    SURVIVOR = "survivor"
    PROTECTED = "protected"
    """Estimated whatever the search found."""
    SAMPLED = "sampled"
    """Drawn at random among the eliminated, to measure what the search misses."""
    UNREACHED = "unreached"
    """A limit stopped the run before the search could decide about it."""


@dataclass(frozen=True, kw_only=True)
class EditQuality:
    """How the edits of one node, or of all, went; shares in [0, 1]."""

    attempts: int
    """Edits that were made."""
    valid: float | None
    ambiguous: float | None
    """Share of all that were asked for, where nobody could tell whether the attribute is there."""
    failures: Mapping[str, float]
    """Check -> share of the attempts that failed it; V3 spoils spuriousness alone."""


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """One edit to look at."""

    image: str
    seed: int
    percentile: int
    """Where its effect stands among the node's images: 10, 50 or 90."""
    effect: float
    before_sha256: str
    after_sha256: str
    removed: bool = False
    """Whether the node was there and was taken away, so that ``effect`` is the change with its sign turned.  Older results do not say."""


@dataclass(frozen=True, kw_only=True)
class CounterClass:
    """The class that gains most while this one loses; chosen on other images than its effect is estimated on."""

    class_name: str
    gain: Estimate
    """Rise of its log-odds in the direction of the edit that lowers the audited class."""


@dataclass(frozen=True, kw_only=True)
class SubgroupEffect:
    """A node's effect on the images that show one level of another attribute, against that on all other images."""

    attribute: str
    level: str
    images: int
    others: int
    """Images that show another level of the attribute."""
    effect: float
    """Mean over the images of the level, log-odds."""
    effect_elsewhere: float
    """Mean over the others."""
    difference: Estimate
    """The first minus the second; its interval holds for all subgroups of the node together (Bonferroni)."""
    p: float
    """Welch's test of no difference."""
    p_bonferroni: float
    """Over the subgroups of the node."""
    q: float
    """Benjamini-Hochberg over all subgroups of all nodes of the class."""


@dataclass(frozen=True, kw_only=True)
class DosePoint:
    """A node's effect at one strength."""

    dose: float
    """Times the strength that the pilot chose; of exact operators the distance of their parameter from leaving an image as it is."""
    node: str
    """What was edited: of exact operators each level is a node of its own."""
    images: int
    effect: Estimate | None
    """On the images that have all doses; None below two."""


@dataclass(frozen=True, kw_only=True)
class DoseResponse:
    """Whether an effect grows with the strength of the edit, as a genuine dependence does; a few images, and no metric."""

    points: tuple[DosePoint, ...]
    """Weakest first."""
    images: int
    trend: Estimate
    """Mean over images of Kendall's tau between dose and effect, in [-1, 1]; below 0 the effect falls with the dose."""
    p: float
    """Sign-flip test of no trend."""
    monotone: bool
    """Whether the mean effects never turn back, and the trend is not chance (p < 0.05)."""


@dataclass(frozen=True, kw_only=True)
class NodeEffect:
    """One node's effect on one class."""

    node: str
    """Path."""
    kind: NodeKind
    class_name: str
    chosen: Chosen
    images: int
    """With a valid edit and a placebo: the sample size."""
    effect: Estimate | None
    """E, log-odds."""
    probability: Estimate | None
    standardised: float | None
    """dz = E/sd over images."""
    p: float
    """Sign-flip test of no effect; 1 without images."""
    q: float
    """Benjamini-Hochberg within the class; protected nodes among themselves."""
    p_holm: float | None
    """Protected nodes only: familywise error."""
    state: EffectState
    flags: tuple[str, ...]
    """low_n (never alert), saturated, no_placebo, equivalent (within the margin of no effect), incomplete (a limit stopped it)."""
    flip_rate: Estimate | None
    """Share of images whose decision changes, minus the placebo's share."""
    flips: float | None
    """The same before the placebo is taken off."""
    responders: float | None
    """Share of images whose effect exceeds three placebo standard deviations; None without placebos."""
    quantiles: tuple[float, float, float] | None
    """Effect at the 10th, 50th and 90th percentile of images."""
    spuriousness: float | None
    """(1 - core share) tanh(bound of |E| nearest 0), in [0, 1), over images whose class was kept."""
    spurious_images: int
    spurious_ratio: float | None
    """|E|/(|E| + |E of the object|); above 0.5 the cue outweighs the object.  None without an object node."""
    counter: CounterClass | None
    quality: EditQuality
    seed_icc: float | None
    operators: tuple[str, ...]
    exemplars: tuple[Exemplar, ...] = ()
    subgroups: tuple[SubgroupEffect, ...] = ()
    """Largest difference first; of two levels one stands for both.  Empty without attributes, or with too few images of each level."""
    dose: DoseResponse | None = None
    """Of the strongest nodes only."""
    reason: str = ""
    """Why it was not measured to the end, e.g. `limit reached: wall_minutes`; empty where it was."""

    @property
    def bound(self) -> float:
        """Interval limit of |E| nearest 0; 0 where the interval covers it."""
        return 0.0 if self.effect is None else max(0.0, self.effect.low, -self.effect.high)


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Several nodes edited together."""

    nodes: tuple[str, ...]
    images: int
    """On which all subsets were edited the same way."""
    effect: Estimate | None
    gain: Estimate | None
    """|E| beyond that of its best proper subset."""
    best_subset: tuple[str, ...]
    interaction: Estimate | None
    """E minus the sum of its nodes' effects."""
    flip_rate: Estimate | None
    reported: bool
    """Whether the gain's lower bound is above 0."""
    operators: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CoverageStep:
    """One step of the coverage ranking."""

    node: str
    mean: float
    """Mean fall of the class's log-odds among images not explained before."""
    explained: float
    """Share of all images explained after this step."""


@dataclass(frozen=True, kw_only=True)
class SearchRound:
    """One round of the search."""

    images: int
    alive: int
    """Nodes still in after the round."""
    edits: int
    """Spent up to here."""


@dataclass(frozen=True, kw_only=True)
class SearchSummary:
    """How the nodes were chosen, on SELECT images alone."""

    mode: str
    candidates: int
    edits: int
    rounds: tuple[SearchRound, ...]
    kept: tuple[str, ...]
    """Strongest first; protected nodes that would have been dropped stand last."""
    sampled: tuple[str, ...]
    combination_edits: int = 0


@dataclass(frozen=True, kw_only=True)
class StabilityResult:
    """Agreement of random halves of the images; None where it is not defined."""

    tau: float | None
    jaccard: float
    signs: float
    splits: int
    effects_tau: float | None = None
    """The same tau over pairs of nodes of which at least one has an effect: the order of the others is chance and no doubt."""


@dataclass(frozen=True, kw_only=True)
class OperatorAgreement:
    """Whether two edit operators that make the same attribute find the same effects: a cheap check of what else an edit changes."""

    operators: tuple[str, str]
    pairs: tuple[tuple[str, str], ...]
    """Nodes by the first operator, and their twins by the second."""
    effects: tuple[tuple[float, float], ...]
    """E of each pair on the images that have both."""
    images: int
    spearman: float


@dataclass(frozen=True, kw_only=True)
class SpuriousHits:
    """How feature-only images, with the cue and without the object, are answered."""

    class_name: str
    node: str = ""
    """The cue."""
    images: int
    hit_ratio: Estimate
    """Share that is taken for the class."""
    auc: float
    """P(score of a real image of the class > score of a feature-only image); 1 is healthy."""
    average_precision: float
    enough: bool
    """As many images as the options ask for, 75 by default; below it, no judgement."""
    made_of: Mapping[str, int] = field(default_factory=dict)
    """Where the images came from (``cue added``, ``cue there``: images of other classes; ``object removed``) -> how many."""


@dataclass(frozen=True, kw_only=True)
class ClassEffects:
    """Everything about one class."""

    class_name: str
    images_select: int
    images_estimate: int
    nodes: tuple[NodeEffect, ...]
    """Largest absolute effect first."""
    combinations: tuple[Combination, ...]
    minimal_flip_set: tuple[str, ...]
    """Smallest set of nodes whose flip rate reaches one half; empty: none does."""
    coverage: tuple[CoverageStep, ...]
    sufficiency: tuple[float, ...]
    """Share of images that one of the first m nodes moves, m = 1 …, in the order the search chose them."""
    unexplained: float | None
    """1 - sufficiency at 10, or at the last m."""
    missed_effects: float | None
    """Upper 95 % bound of the share of eliminated nodes with an effect beyond 0.25."""
    stability: StabilityResult | None
    placebo_effect: Estimate | None
    """Mean shift by meaning-free edits."""
    null_shift: Estimate | None
    """Mean shift of the null edit against the image itself; None where that was not scored."""
    saturated: float
    """Share of clipped scores."""
    quality: EditQuality
    search: SearchSummary
    hits: tuple[SpuriousHits, ...] = ()
    """Of the cues that push towards the class most, on images without its object."""
    hits_missing: str = ""
    """Why there are none; empty where there are some."""
    agreement: OperatorAgreement | None = None
    agreement_missing: str = ""
    """Why there is none."""

    @property
    def towards(self) -> tuple[NodeEffect, ...]:
        """Nodes with an effect that push towards the class, strongest first."""
        return tuple(node for node in self._found if node.effect is not None and node.effect.value > 0)

    @property
    def away(self) -> tuple[NodeEffect, ...]:
        """Nodes with an effect that push away from the class, strongest first."""
        return tuple(node for node in self._found if node.effect is not None and node.effect.value < 0)

    @property
    def _found(self) -> tuple[NodeEffect, ...]:
        return tuple(node for node in self.nodes if node.state is EffectState.EFFECT)

    def spuriousness(self, kind: NodeKind) -> float | None:
        """Largest spuriousness score among nodes of a kind."""
        return max((node.spuriousness for node in self.nodes if node.kind is kind and node.spuriousness is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class Untestable:
    """A node that could not be tested, and why: never dropped silently."""

    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class NodeDrift:
    """How one node's effect changed between two versions, paired per image."""

    node: str
    class_name: str
    images: int
    drift: Estimate | None
    """New minus old, log-odds."""
    p: float
    q: float
    significant: bool
    old: float | None = None
    """Effect on the same images in the earlier version, log-odds."""
    new: float | None = None
    """And in this one."""


@dataclass(frozen=True, kw_only=True)
class DriftResult:
    """Change of one class's effects between two versions on the same edits."""

    class_name: str
    nodes: tuple[NodeDrift, ...]
    """Largest absolute change first."""
    mean_absolute: float | None


@dataclass(frozen=True, kw_only=True)
class VersionDrift:
    """Change of all effects since an earlier audit of another version of the model that was shown the same pictures."""

    version: str
    """The other version."""
    run: str
    """Its run."""
    classes: tuple[DriftResult, ...]


@dataclass(frozen=True, kw_only=True)
class DiffexResult:
    """The outcome of one DiffEx audit of one model version."""

    tree_digest: str
    domain: str
    score: ScoreKind
    classes: tuple[ClassEffects, ...]
    untestable: tuple[Untestable, ...]
    tree_coverage: float
    """Estimated nodes over all nodes."""
    editable_share: float
    quality: EditQuality
    edits: int
    """Edits that were made or looked up, placebos with them."""
    stopped: str
    """Which limit stopped the run; empty: it is complete."""
    seed: int
    checks: Mapping[str, str] = field(default_factory=dict)
    """Check of a generated edit (V1 … V6) -> who made it, or `not checked`; empty where nothing was generated."""
    judges: Mapping[str, str] = field(default_factory=dict)
    """Judge of generated edits -> identity of its files."""
    to_confirm: tuple[ToConfirm, ...] = ()
    """Accepted edits that a person is asked to look at."""
    verifier: VerifierPrecision | None = None
    """What was answered; None where no edit was drawn."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Path -> name as people read it, where that is more than the id in words.  Empty in older results."""
    rows_file: str = ""
    """Name of the table of atomic rows in the directory of the report; empty where none was written."""
    operators: tuple[str, ...] = ()
    """Names and versions of what made the edits.  Empty in older results."""
    bank: str = ""
    """Digest of the images and of who edits them: equal where every edit is the same picture.  Empty in older results."""
    bank_hits: int | None = None
    """Edits that were there already; None in older results."""
    drift: VersionDrift | None = None
    """None where no other version was shown the same edits."""


@dataclass(frozen=True, kw_only=True)
class PaperEntry:
    """One scored keyword of the released procedure."""

    path: tuple[str, ...]
    keyword: str
    mean_score: float
    base_score: float
    delta: float


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """What the released procedure writes for one image."""

    base_score: float
    labels: tuple[str, ...]
    target: int
    level1_top: tuple[PaperEntry, ...]
    """The beam: items with the largest |delta|."""
    top_influential: tuple[PaperEntry, ...]
    counts: Mapping[str, int]
    """level1, level2: keywords scored and kept; edits: pictures made."""

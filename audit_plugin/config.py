"""The one configuration file: read once, above all layers; unknown keys are errors; paths are relative to the file.

Environment variables override single keys: ``AUDIT_PLUGIN__SERVER__URL=triton:8001`` sets ``server.url`` and
``AUDIT_PLUGIN__MODELS__0__VERSION=2`` the first model's ``version``.  Secrets are never in the file, only paths of files that hold
them; what could hold one all the same (headers, passwords in URLs) is masked wherever the configuration is shown or stored.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from audit_plugin.bank.pictured_generator import PicturesOptions
from audit_plugin.bank.pilot import SCALES
from audit_plugin.bank.plan import PlanOptions
from audit_plugin.capture.options import CaptureOptions
from audit_plugin.concepts.io import ConceptDocument, concepts_from_dict, read_concepts
from audit_plugin.concepts.questions import VisionOptions
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import CaptionError, ConfigError
from audit_plugin.core.values import Role
from audit_plugin.findings.policy import Policy, default_policy, load_policy, policy_from
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.methods.diffex import DiffexLimits, DiffexOptions
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions, GradientSearch, SubspaceSearch
from audit_plugin.methods.shortcut import ShortcutOptions
from audit_plugin.perception.edit_checks import Validity
from audit_plugin.perception.features import FeatureOptions
from audit_plugin.perception.lpips import PerceptualOptions
from audit_plugin.perception.segmenters import SegmenterOptions
from audit_plugin.perception.task import TrainingOptions
from audit_plugin.service_options import ServeOptions
from audit_plugin.sources.folder import FolderOptions
from audit_plugin.statistics.metrics import METRICS
from audit_plugin.store.retention import RetentionOptions
from audit_plugin.target.guidance import GradientOptions
from audit_plugin.target.options import TargetOptions

ENVIRONMENT = "AUDIT_PLUGIN__"
VERSION = 1
MASK = "<masked>"
T = TypeVar("T")

ACE_KEPT = 6
"""Least steps of a chain of which ACE undoes five."""
_FORBID: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}


@dataclass(frozen=True, kw_only=True)
class LearnFrom:
    """Which rows of the table something is trained on; they must not be the audited ones."""

    where: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    """Column -> cell or cells, in place of ``source.where`` for the same columns."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Options of the training, by the names of ``engines.training.Recipe`` (generator only)."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """The text-to-image engine that draws the probes."""

    path: str = ""
    """diffusers directory (safetensors) of the Stable Diffusion class; nothing is ever downloaded.  Required unless there are ``pictures``."""
    pictures: PicturesOptions | None = None
    """Draw nothing: look up pictures that exist already, for data whose rows show every combination of the concepts.  With it nothing can be
    edited, so that only the concepts are asked about."""
    backend: Literal["auto", "torch", "torch-prepared", "torch-compiled", "ort", "ort-tensorrt", "tensorrt", "triton"] = "auto"
    """``auto`` takes the fastest backend whose numbers agree with the reference."""
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = "fp32"
    """Of the networks; on a CPU single precision only."""
    steps: int | None = None
    """Denoising steps; the directory's ``audit.json`` or a default when absent."""
    sampler: Literal["ddim", "dpmpp_2m", "euler"] | None = None
    """All are deterministic, which common random numbers need."""
    solver: int | None = None
    """Steps of a solver that `audit-plugin generator solver` has fitted to the plan: nearly the same pictures for fewer evaluations."""
    guidance: float | None = None
    """Classifier-free guidance scale; 1 switches it off and halves the cost."""
    guidance_interval: tuple[float, float] | None = None
    """Noise levels between which guidance acts."""
    served: str | None = None
    """host:port of the Triton that backend ``triton`` asks; its models come from `audit-plugin engines export-triton`."""
    share: float | None = None
    """Most of the device's time that drawing may take, in (0, 1], where production runs on it too; unlimited when absent."""
    production: str | None = None
    """Metrics address of the Triton whose models run on the same device, e.g. http://triton:8002/metrics: drawing pauses while its queues
    grow, and keeps to ``share``."""
    batch: int = 16
    """Pictures per network call."""
    threads: int | None = None
    """CPU threads; all when absent."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to draw."""
    cache: str | None = None
    """Where built engines are kept; the user's cache directory when absent."""
    train: LearnFrom | None = None
    """Rows (and recipe) that ``audit-plugin generator train`` makes ``path`` from."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if bool(self.path) == (self.pictures is not None):
            raise ValueError(
                "name a diffusers directory as `generator.path`, or pictures of the table as `generator.pictures`, one of the two"
            )


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The independent judge of what a picture shows."""

    path: str = "detector.onnx"
    """ONNX detector with its card beside it; trained when it is not there and ``train`` is given."""
    train: LearnFrom | None = None
    """Rows to train it on."""
    table: bool = False
    """With ``generator.pictures``: take what the table says of its pictures for their readings, where no detector can be trained.  The gates that
    rest on the detector then hold the table against itself."""
    features: str | None = None
    """ONNX feature network to put logistic heads on instead of training a network from nothing; never the audited one."""
    options: TrainingOptions = field(default_factory=TrainingOptions)
    """How it is trained."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class BankOptions:
    """The probe bank."""

    path: str = "bank"
    """Directory of the bank's table; on local disk."""
    images: str = ""
    """Where pictures go; below ``path`` when empty, or any fsspec URL."""
    plan: PlanOptions = field(default_factory=PlanOptions)
    """Which probes are drawn beside baseline and flips."""
    refuse_duplicates: bool = False
    """Reject probes that repeat a training picture (needs ``detector.train`` rows to compare with)."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class AuditedModel:
    """A deployed classifier and the question asked about it."""

    target: TargetOptions
    """Where it answers."""
    label: str
    """Column of the table that holds the right class."""
    positive: str | None = None
    """The favourable class; the second of two by default."""
    truth: Mapping[str, float] = field(default_factory=dict)
    """Known importances, for planted models only."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if self.positive is not None:
            self.target.check_threshold()


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """An image-text model that holds edits against the sentences of the tree."""

    path: str
    """Directory of a contrastive image-text model: two ONNX graphs with ``image_text.json``, or a CLIP of transformers in safetensors."""
    class_text: str = "a photo of a {class}"
    """Sentence that says an image shows a class."""
    class_names: Mapping[str, str] = field(default_factory=dict)
    """Class -> what to call it there, where its name says little."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if "{class}" not in self.class_text:
            raise ValueError("class_text must hold {class} where the class is named")


@dataclass(frozen=True, kw_only=True)
class DiffexConfig:
    """Which concepts are changed in the real images themselves, coarse to fine, and how."""

    tree: str = ""
    """Concept tree (YAML, JSON or CSV), e.g. from ``audit-plugin concepts init``; what the next two keys add when empty."""
    concepts: bool = True
    """Whether the configured concepts are nodes of it, one for each level; needs a generator to edit with."""
    default: bool = True
    """Whether the deterministic part of the default tree belongs to it: picture quality, geometry, occlusion, artefacts."""
    domain: str = ""
    """What the images show, where no tree says so; the audit's name by default."""
    operator: Literal["auto", "turbo4", "sde20", "ddpm_ef50", "flowedit", "none"] = "auto"
    """How the generator edits; ``none`` edits by deterministic operators alone."""
    skip: float = 0.15
    """Share of the editor's steps that is left out at the noisy end: more changes less."""
    scales: tuple[float, ...] = SCALES
    """Strengths of prompts that the pilot tries, ascending; the first that is good enough is kept.  Changes from caption to caption have
    strengths of their own, from 1 to 3."""
    pilot_images: int = 8
    """Images on which strengths are found, without asking any audited model."""
    validity: Validity = field(default_factory=Validity)
    """What an edit must do to count."""
    judge: JudgeOptions | None = None
    """Image-text model that judges edits beside the detector, and nodes that no detector reads."""
    vision: VisionOptions | None = None
    """Vision model that answers the nodes' questions about edits."""
    perceptual: PerceptualOptions | None = None
    """Network for the perceptual distance; structural dissimilarity without it."""
    safety: str = ""
    """ONNX classifier of unsafe pictures with its card beside it; V6 is not checked without it."""
    inversions_gb: float = 2.0
    """Most disk space beside the bank for inversions of images, so that later runs need not invert the same images again; 0 keeps none."""
    options: DiffexOptions = field(default_factory=DiffexOptions)
    """Search and estimates."""
    limits: DiffexLimits = field(default_factory=DiffexLimits)
    """Hard stops."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class ShortcutConfig:
    """Concepts that are suspected of being shortcuts: each is flipped in real images, guided by a classifier of ours (FastDiME)."""

    concepts: Mapping[str, str]
    """Suspected concept -> the level that is looked for, e.g. ``ruler: present``."""
    control: str = ""
    """A concept that has nothing to do with the task; the first that is neither core nor suspected when empty."""
    guide: str = "guide.onnx"
    """ONNX classifier of the concepts that guides the edits; trained on the rows of ``detector.train``, apart from the detector, when it
    is not there.  It must not be the detector, which has the last word about a flip."""
    images: int = 64
    """Most images that are flipped."""
    kept: int = 50
    """Steps of the chain that edits go down."""
    signal: float = 0.3
    """Share of the image's signal where an edit starts, in (0, 1); less changes more."""
    scales: tuple[float, ...] = ()
    """Strengths of the guide, tried in this order until an image flips; what suits the generator's latents or pixels when empty."""
    held: float = 8.0
    """Weight of what the guide reads of all other concepts, which the edit should leave alone."""
    options: ShortcutOptions = field(default_factory=ShortcutOptions)
    """Margin, fewest images, resamples."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if not self.concepts:
            raise ValueError("name at least one concept, with the level that is looked for")
        if self.images < 1 or self.kept < 2 or not 0 < self.signal < 1 or self.held < 0:
            raise ValueError("need images >= 1, kept >= 2, signal in (0, 1) and held >= 0")


@dataclass(frozen=True, kw_only=True)
class WitnessOptions:
    """An independent model that flips are shown to; ``model`` or ``file``."""

    model: str = ""
    """Name of another model on the same server; asked as ``models`` says where it is listed there, else as the audited model is.  Its classes are
    found by name."""
    file: str = ""
    """ONNX, TorchScript (.pt) or torch.export (.pt2) file that takes the same pictures and answers the same classes as the audited model."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.file):
            raise ValueError("name a witness as `model` of the server or as `file`, one of the two")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """What changes flip the deployed models' decisions (counterfactual images), and what changes along."""

    method: Literal[
        "auto",
        "polyak",
        "dime",
        "fastdime",
        "fastdime2",
        "fastdime2plus",
        "maskdime",
        "dvce",
        "ace",
        "ldce",
        "ensemble",
        "evolution",
        "time",
    ] = "auto"
    """``auto``: polyak where the model's gradient can be had, else ensemble, which takes scores alone."""
    generator: str = ""
    """diffusers directory that edits: pixels or latents, with or without captions; or one that ``audit-plugin generator import`` made of an
    ONNX file; ``generator.path`` when empty."""
    images: int = 32
    """Most images that are explained, of each model."""
    targets: Literal["all"] | Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """Class that the server gives -> class or classes to ask for; images of classes that are not named get their runner-up, as all do when
    empty.  ``all`` asks for every other class of every image."""
    free: int = 4
    """Variations that nobody guides, tried first from each of two starts; an image that one of them flips is left at that."""
    kept: int = 50
    """Steps of the chain."""
    signal: float | None = None
    """Share of the image's signal where an edit starts, in (0, 1); when absent the least of which at least 95 % of images keep their class."""
    scales: tuple[float, ...] = ()
    """Strengths of DiME, FastDiME: tried in this order; what suits the editor's latents or pixels when empty."""
    bisections: int = 2
    """How often the strength is halved back once an image has flipped."""
    particles: int = 16
    """Of guidance without gradients: each costs a query a step."""
    steps: int = 20
    """Of a particle."""
    paths: int = 12
    """Flips whose path is followed pixel by pixel, at some fifty queries each; the report draws them."""
    references: int = 256
    """Of ``time``: images that the words for a model's classes are learned from, one query each."""
    word_steps: int = 300
    """Of ``time``: iterations for the words of each class; 3000 in the paper."""
    sentence: str = "a {look} {medium} with a {class}"
    """Of ``time``: what the editor is told of a class.  A small editor heeds little but captions like those it was taught by: write one of
    its own, with ``{class}`` where it names what the classes are about and ``{look}`` in place of the rest."""
    gradients: Mapping[str, GradientOptions] = field(default_factory=dict)
    """Model -> how its gradient is had; see docs/counterfactuals.md."""
    robust: str = ""
    """Of ``dvce``: ONNX file of an adversarially robust classifier of the same classes, whose gradient edits stay within a cone of."""
    witness: WitnessOptions | None = None
    """An independent model that flips are shown to."""
    features: FeatureOptions | None = None
    """Network whose features compare flips with real images: FID, sFID, KID."""
    faces: FeatureOptions | None = None
    """Network that tells faces apart: FVA and FS."""
    likeness: FeatureOptions | None = None
    """Network that tells whether two pictures show the same thing: S3."""
    runs: int = 1
    """Searches of every image, each with other noise; more than one tell how different the answers are."""
    perceptual: PerceptualOptions | None = None
    """Network for the distance between flips and their images, and between runs; the mean absolute difference without it."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if (
            min(self.images, self.kept - 1, self.particles - 1, self.steps, self.references, self.word_steps, self.runs) < 1
            or min(self.free, self.bisections, self.paths) < 0
        ):
            raise ValueError("need images, runs, references and steps >= 1, kept and particles >= 2, and nothing negative")
        if self.signal is not None and not 0 < self.signal < 1:
            raise ValueError(f"signal is a share in (0, 1), got {self.signal}")
        if any(scale < 0 for scale in self.scales):
            raise ValueError(f"scales are strengths, none below 0, got {list(self.scales)}")
        if self.method == "ace" and self.kept < ACE_KEPT:
            raise ValueError(f"ace undoes five steps, so that kept must be {ACE_KEPT} or more, got {self.kept}")


@dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """What classes, and hidden units, respond to, found with no data: words that the generator draws (DiffExplainer)."""

    mode: Literal["auto", "gradient", "scores"] = "auto"
    """``scores``: by the server's answers alone.  ``gradient``: words that the gradient of the model's own file speaks for, and no others; takes
    ``explain.gradients.<model>.file``, or a `<model>_vjp` on the server.  ``auto``: both where there is such a gradient."""
    classes: tuple[str, ...] = ()
    """Classes to ask about; all of the model, fifty at most, when empty."""
    units: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Output of ``<model>_hidden`` (`audit-plugin engines export-hidden`) -> numbers of its units."""
    captions: str = ""
    """Text file with a caption a line, of the kind that the generator was trained on; what stands in one place there stands in for each other.
    When empty ``captions.txt`` in the generator's directory, else the captions of the audited rows, else ``contexts``."""
    contexts: tuple[str, ...] = ("a photo",)
    """Prompts that words are put behind ("a photo of sand"), for generators that understand any sentence."""
    named: bool = False
    """Ask once more with what the class is about in the prompt: its word in ``objects``, else its own name.  Only of generators that know it."""
    words: str = ""
    """Text file with words to try, one a line, beside those of the concept tree, the captions and the generator's own vocabulary."""
    objects: Mapping[str, str] = field(default_factory=dict)
    """Class -> the word for what it is about.  Says what is core, where it is in the picture, and whether it is missing."""
    tree: str = ""
    """Concept tree that proposed nodes are written into; ``discovered.yaml`` beside the bank when empty."""
    captioner: VisionOptions | None = None
    """A vision model that says what drawn pictures show; what it says oftener of those that are taken for a class becomes a word to test."""
    segmenter: SegmenterOptions | None = None
    """A network that finds the classes' objects: says whether they are missing, and whether a response comes from them."""
    options: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    """Numbers of words, seeds and pictures."""
    gradient: GradientSearch = field(default_factory=GradientSearch)
    """How soft prompts are searched for, in gradient mode."""
    subspace: SubspaceSearch | None = None
    """Search blends of each subject's best words too, by the server's answers alone; words and their compositions only when null."""
    limits: DiffexLimits = field(default_factory=DiffexLimits)
    """Most that one model's discovery may take."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    def __post_init__(self) -> None:
        if not self.contexts:
            raise ValueError("name at least one context, such as `a photo`")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything an installation of the auditor does."""

    version: int
    """Of this file's format: 1."""
    audit: str
    """Name of the audit; the seeds of all pictures follow from it."""
    source: FolderOptions
    """Labelled real images of the evaluation set."""
    concepts: tuple[Mapping[str, Any], ...] | str = ()
    """What may matter: a list, or a YAML or CSV file with one; without any, only a concept tree is asked about (``diffex``)."""
    template: str | None = None
    """Caption with ``{concept}`` in place of each level's phrase; phrases joined by commas when absent."""
    placebo_words: tuple[str, ...] | None = None
    """Words that say nothing about the pictures, for the placebo arm."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Concepts to permute together as well."""
    generator: GeneratorOptions | None = None
    """What draws, and edits; needed wherever there are concepts."""
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    """What judges the pictures."""
    bank: BankOptions = field(default_factory=BankOptions)
    """Where probes are kept."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """Target options that all models share (url, TLS, token_file ...)."""
    models: tuple[Mapping[str, Any], ...]
    """Audited models: ``label``, ``positive`` and the target's options."""
    analysis: DepictOptions = field(default_factory=DepictOptions)
    """Metric, margin, resamples, gates."""
    controls: bool = True
    """Whether every audit also judges two classifiers of known dependence: one must alarm, one must not."""
    diffex: DiffexConfig | None = None
    """Concepts to change in the real images, as a tree (DiffEx); none when absent."""
    shortcut: ShortcutConfig | None = None
    """Concepts to flip in the real images, one at a time (FastDiME's shortcut protocol); none when absent."""
    explain: ExplainConfig | None = None
    """Counterfactual images of the deployed models; none when absent."""
    discover: DiscoverConfig | None = None
    """What `audit-plugin discover` looks for; its defaults when absent."""
    capture: CaptureOptions | None = None
    """A bounded sample of production pictures, as a source of images for audits; nothing is captured when absent."""
    policy: Mapping[str, Any] | str | None = None
    """Thresholds with owner, reason and date: inline, or a file; built-in defaults when absent."""
    store: str = "audit.sqlite"
    """SQLite file or SQLAlchemy URL."""
    report: str = "report"
    """Directory of the latest report."""
    retention: RetentionOptions = field(default_factory=RetentionOptions)
    """How long what is kept."""
    serve: ServeOptions = field(default_factory=ServeOptions)
    """The service."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checked configuration with everything derived from it."""

    config: Config
    """With absolute paths."""
    document: ConceptDocument
    models: tuple[AuditedModel, ...]
    policy: Policy
    text: str
    """Effective configuration as YAML: paths as written, defaults filled in, secrets masked."""

    @property
    def generator(self) -> GeneratorOptions:
        """What draws.  Raises ConfigError where none is configured."""
        if self.config.generator is None:
            raise ConfigError(
                "generator: this key is required, unless only a concept tree is asked about, by deterministic operators"
            )
        return self.config.generator

    @property
    def described(self) -> bool:
        """Whether there are concepts, so that pictures can be drawn and judged."""
        return bool(self.document.concept_set.concepts)

    @property
    def digest(self) -> str:
        """SHA-256 of the effective configuration."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def store_url(self) -> str | Path:
        """The store as a path or a SQLAlchemy URL."""
        return self.config.store if "://" in self.config.store else Path(self.config.store)


_TARGET_KEYS = frozenset(entry.name for entry in fields(TargetOptions))
_AUDIT_KEYS = frozenset(entry.name for entry in fields(AuditedModel)) - {"target"}


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a configuration file.  Raises ConfigError or CaptionError that names the key and the cure."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {str(path)!r} cannot be read: {error}; `audit-plugin init` writes a first one") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {str(path)!r} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"configuration {str(path)!r} must be a mapping; `audit-plugin init` writes a first one")
    try:
        return parse(overridden(document, environment), path.resolve().parent)
    except (ConfigError, CaptionError) as error:
        raise type(error)(f"{path}: {error}") from error


def parse(document: Mapping[str, Any], directory: Path) -> Loaded:
    """Check a configuration that is already a mapping; its relative paths are relative to ``directory``."""
    config: Config = _checked(_adapter(Config), document, Config, "")
    if config.version != VERSION:
        raise ConfigError(f"version: this release reads format {VERSION}, the file says {config.version}")
    if not config.models:
        raise ConfigError("models: name at least one model to audit")
    if config.analysis.metric not in METRICS:
        raise ConfigError(f"analysis.metric: {config.analysis.metric!r} is unknown; choose one of {', '.join(METRICS)}")
    if config.concepts and config.generator is None:
        raise ConfigError(
            "generator: this key is required where there are concepts; name a diffusers directory as `generator.path`"
        )
    if not config.concepts and config.diffex is None and config.discover is None:
        raise ConfigError(
            "concepts: this key is required, unless `diffex` asks about a concept tree, or `discover` what matters at all"
        )
    for key in config.server.keys() - _TARGET_KEYS:
        raise ConfigError(f"server.{key}: {_unknown(key, _TARGET_KEYS)}")
    _check_pictures(config)
    described = _concepts(config, directory)
    _check_shortcut(config, described.concept_set)
    models = tuple(_model(config, at, directory) for at in range(len(config.models)))
    _check_gradients(config.explain, [model.target.model for model in models])
    names = [model.target.model for model in models]
    _check_schedules(config.serve, names)
    if config.capture is not None:
        _check_captured(config.capture, names)
    return Loaded(
        config=_rooted(config, directory),
        document=described,
        models=models,
        policy=_policy(config.policy, directory),
        text=yaml.safe_dump(
            masked(_adapter(Config).dump_python(config, mode="json", exclude_none=True)), sort_keys=False, allow_unicode=True
        ),
    )


def _check_pictures(config: Config) -> None:
    """What looks pictures up cannot edit, and the table knows its own pictures only.  Raises ConfigError."""
    generator = config.generator
    if generator is None or generator.pictures is None:
        if config.detector.table:
            raise ConfigError("detector.table: only pictures of the table can be read from it; this key needs `generator.pictures`")
        return
    edits = {
        "diffex": config.diffex is not None and config.diffex.operator != "none",
        "shortcut": config.shortcut is not None,
        "explain": config.explain is not None and not config.explain.generator,
        "discover": config.discover is not None,
    }
    for key, asked in edits.items():
        if asked:
            raise ConfigError(
                f"{key}: `generator.pictures` looks pictures up and cannot make any; name a diffusers directory as `generator.path`"
                + {"diffex": ", or set `diffex.operator: none`", "explain": " or `explain.generator`"}.get(key, "")
            )
    if generator.pictures.same_unit and not config.source.unit_column:
        raise ConfigError("generator.pictures.same_unit: name the column that says what a picture is of as `source.unit_column`")
    if config.detector.table and config.detector.train is not None:
        raise ConfigError("detector: `table` takes the table's word, `train` trains a detector; give one of the two")
    if config.detector.table and (config.diffex or config.explain):
        raise ConfigError("detector.table: edited pictures are in no table; train a detector (`detector.train`) to judge them")


def _check_schedules(serve: ServeOptions, models: Sequence[str]) -> None:
    """Schedules are of audited models.  Raises ConfigError."""
    for at, schedule in enumerate(serve.schedules):
        for name in schedule.models:
            if name not in models:
                raise ConfigError(f"serve.schedules.{at}.models: {_none_of(name, models)}")


def _check_gradients(asked: ExplainConfig | None, models: Sequence[str]) -> None:
    """Gradients are of audited models; of another, a file would be passed over without a word.  Raises ConfigError."""
    for name in asked.gradients if asked else ():
        if name not in models:
            raise ConfigError(f"explain.gradients: {_none_of(name, models)}")


def _check_captured(asked: CaptureOptions, models: Sequence[str]) -> None:
    """Captured models are audited ones: nobody else knows how their pictures were preprocessed.  Raises ConfigError."""
    for key, names in (("models", asked.models), ("services", tuple(asked.services.values()))):
        for name in names:
            if name not in models:
                raise ConfigError(f"capture.{key}: {_none_of(name, models)}")


def _check_shortcut(config: Config, concept_set: ConceptSet) -> None:
    """Suspected concepts and the control are configured concepts.  Raises ConfigError."""
    asked = config.shortcut
    if asked is None:
        return
    if not concept_set.concepts:
        raise ConfigError("shortcut: this key needs `concepts`, which say what may be flipped")
    for name, level in asked.concepts.items():
        if name not in concept_set.names:
            raise ConfigError(f"shortcut.concepts: {_none_of(name, concept_set.names)}")
        if level not in concept_set.concept(name).levels:
            raise ConfigError(f"shortcut.concepts.{name}: {_none_of(level, concept_set.concept(name).levels)}")
    if asked.control and asked.control not in concept_set.names:
        raise ConfigError(f"shortcut.control: {_none_of(asked.control, concept_set.names)}")
    if asked.control in asked.concepts or not control_of(asked, concept_set):
        raise ConfigError("shortcut.control: name a concept that has nothing to do with the task and is not suspected itself")


def _none_of(value: str, known: Sequence[str]) -> str:
    return f"{value!r} is not configured; choose one of {', '.join(known)}"


def control_of(asked: ShortcutConfig, concept_set: ConceptSet) -> str:
    """The concept that flips are compared with; empty where there is none."""
    free = (
        concept.name for concept in concept_set.concepts if concept.role is not Role.CORE and concept.name not in asked.concepts
    )
    return asked.control or next(free, "")


def schema() -> dict[str, Any]:
    """JSON Schema of the configuration file, for editors."""
    whole, model = _adapter(Config).json_schema(), _adapter(AuditedModel).json_schema()
    target = model["$defs"].pop("TargetOptions")
    audited = {key: value for key, value in model["properties"].items() if key in _AUDIT_KEYS}
    strict = {"type": "object", "additionalProperties": False}
    whole["properties"]["server"] |= strict | {"properties": target["properties"]}
    whole["properties"]["models"] |= {
        "minItems": 1,
        "items": strict | {"properties": audited | target["properties"], "required": ["label"]},
    }
    whole["$defs"] |= model["$defs"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def overridden(document: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The document with keys replaced by ``AUDIT_PLUGIN__A__B=value`` (values are YAML)."""
    result: dict[str, Any] = _plain(document)
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT):
            _override(result, name, text)
    return result


def options_of(kind: type[T], document: Mapping[str, Any], where: str) -> T:
    """Options from a section that the configuration leaves open until they are needed.  Raises ConfigError."""
    known = _keys(kind, ())
    for key in document.keys() - known:
        raise ConfigError(f"{where}.{key}: {_unknown(key, known)}")
    checked: T = _checked(TypeAdapter(kind), document, kind, where)
    return checked


def _override(document: dict[str, Any], name: str, text: str) -> None:
    *sections, last = name.removeprefix(ENVIRONMENT).lower().split("__")
    place: Any = document
    for section in sections:
        if isinstance(place, list) and section.isdigit() and int(section) < len(place):
            place = place[int(section)]
        elif isinstance(place, dict):
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
    if not isinstance(place, dict):
        raise ConfigError(f"{name}: {'.'.join(sections)!r} is not a section of the configuration, so it has no key {last!r}")
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {text!r} is not a YAML value; quote it") from error


def masked(value: Any) -> Any:
    """The same without what may be secret: values of headers, and passwords inside URLs."""
    if isinstance(value, Mapping):
        hidden = {
            key: dict.fromkeys(entry, MASK) for key, entry in value.items() if key == "headers" and isinstance(entry, Mapping)
        }
        return {key: masked(entry) for key, entry in value.items()} | hidden
    if isinstance(value, (list, tuple)):
        return [masked(entry) for entry in value]
    return re.sub(r"(://[^/@:\s]*):[^/@\s]+@", rf"\1:{MASK}@", value) if isinstance(value, str) else value


def _rooted(config: Config, directory: Path) -> Config:
    """The configuration with absolute paths; URLs and empty places stay as they are."""

    def at(where: str) -> str:
        return where if not where or "://" in where or "::" in where else str(directory / where)

    source, generator, detector, bank, diffex = config.source, config.generator, config.detector, config.bank, config.diffex
    return replace(
        config,
        source=replace(source, images=at(source.images), table=at(source.table)),
        generator=generator and replace(generator, path=at(generator.path), cache=generator.cache and at(generator.cache)),
        detector=replace(detector, path=at(detector.path), features=detector.features and at(detector.features)),
        bank=replace(bank, path=at(bank.path), images=at(bank.images)),
        diffex=diffex
        and replace(
            diffex,
            tree=at(diffex.tree),
            judge=diffex.judge and replace(diffex.judge, path=at(diffex.judge.path)),
            perceptual=diffex.perceptual
            and replace(diffex.perceptual, graph=at(diffex.perceptual.graph), heads=at(diffex.perceptual.heads)),
            safety=at(diffex.safety),
        ),
        shortcut=config.shortcut and replace(config.shortcut, guide=at(config.shortcut.guide)),
        explain=config.explain
        and replace(
            config.explain,
            generator=at(config.explain.generator),
            robust=at(config.explain.robust),
            witness=config.explain.witness and replace(config.explain.witness, file=at(config.explain.witness.file)),
            **{
                name: network and replace(network, file=at(network.file))
                for name in ("features", "faces", "likeness")
                for network in (getattr(config.explain, name),)
            },
            perceptual=config.explain.perceptual
            and replace(
                config.explain.perceptual, graph=at(config.explain.perceptual.graph), heads=at(config.explain.perceptual.heads)
            ),
            gradients={
                model: replace(asked, file=asked.file and directory / asked.file)
                for model, asked in config.explain.gradients.items()
            },
        ),
        discover=config.discover
        and replace(
            config.discover,
            captions=at(config.discover.captions),
            words=at(config.discover.words),
            tree=at(config.discover.tree),
            segmenter=config.discover.segmenter and replace(config.discover.segmenter, file=at(config.discover.segmenter.file)),
        ),
        capture=config.capture and replace(config.capture, path=at(config.capture.path)),
        store=at(config.store),
        report=at(config.report),
        serve=replace(
            config.serve,
            tokens=at(config.serve.tokens),
            tls_cert=at(config.serve.tls_cert),
            tls_key=at(config.serve.tls_key),
            webhook_secret_file=at(config.serve.webhook_secret_file),
        ),
    )


def _model(config: Config, at: int, directory: Path) -> AuditedModel:
    """``label``, ``positive`` and ``truth`` belong to the audit, all other keys to the target, before those that all models share."""
    entry, columns, where = config.models[at], config.source.label_columns, f"models.{at}"
    own = {key: entry[key] for key in entry.keys() & _AUDIT_KEYS}
    target = {"load": {}, **config.server, **{key: value for key, value in entry.items() if key not in own}}
    if isinstance(target.get("version"), int):  # YAML reads the number of a version as a number
        target["version"] = str(target["version"])
    model: AuditedModel = _checked(_adapter(AuditedModel), {**own, "target": target}, AuditedModel, where)
    if model.label not in columns:
        raise ConfigError(f"{where}.label: {model.label!r} is not in `source.label_columns` ({', '.join(columns)}); add it there")
    return replace(model, target=_rooted_target(model.target, directory))


def _rooted_target(target: TargetOptions, directory: Path) -> TargetOptions:
    """Secret and certificate files made absolute."""

    def at(path: Path | None) -> Path | None:
        return path and directory / path

    tls = target.tls and replace(target.tls, ca=at(target.tls.ca), cert=at(target.tls.cert), key=at(target.tls.key))
    return replace(target, tls=tls, token_file=at(target.token_file), restricted_key_file=at(target.restricted_key_file))


def _concepts(config: Config, directory: Path) -> ConceptDocument:
    if isinstance(config.concepts, str):
        document = read_concepts(directory / config.concepts)
        if config.template is None and config.placebo_words is None and not config.groups:
            return document
        raise ConfigError("template, placebo_words and groups belong into the concept file when `concepts` names one")
    if not config.concepts:
        return ConceptDocument(concept_set=ConceptSet(concepts=()), columns=())
    items: dict[str, Any] = {"concepts": list(config.concepts)}
    extra = {"template": config.template, "placebo_words": config.placebo_words, "groups": config.groups or None}
    return concepts_from_dict(items | {key: value for key, value in extra.items() if value is not None})


def _policy(policy: Mapping[str, Any] | str | None, directory: Path) -> Policy:
    if policy is None:
        return default_policy()
    return load_policy(directory / policy) if isinstance(policy, str) else policy_from(policy)


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Made when it is first needed: the schemas are large."""
    return TypeAdapter(kind)


def _checked(adapter: TypeAdapter[Any], document: Mapping[str, Any], kind: type, where: str) -> Any:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        raise ConfigError("; ".join(_problems(error, kind, where))) from error


def _problems(error: ValidationError, kind: type, where: str) -> Iterator[str]:
    """What is wrong, place by place; the alternatives of one place together."""
    said: dict[str, list[str]] = {}
    for detail in error.errors():
        steps = [str(step) for step in detail["loc"] if step not in {"target", "str"} and "[" not in str(step)]
        place = ".".join([where, *steps] if where else steps) or "configuration"
        said.setdefault(place, []).append(_problem(detail["loc"], detail["type"], detail["msg"], kind))
    return (f"{place}: {' or '.join(dict.fromkeys(words))}" for place, words in said.items())


def _problem(loc: Sequence[int | str], kind: str, message: str, root: type) -> str:
    if kind in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return "this key is required"
    if kind not in {"unexpected_keyword_argument", "extra_forbidden"}:
        return re.sub("^Value error, ", "", message)
    own = _AUDIT_KEYS if loc[:-1] == ("target",) else frozenset[str]()
    return _unknown(str(loc[-1]), own | _keys(root, loc[:-1]))


def _unknown(key: str, known: frozenset[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    return f"unknown key; did you mean `{close[0]}`?" if close else f"unknown key; known are {', '.join(sorted(known))}"


def _keys(kind: Any, loc: Sequence[int | str]) -> frozenset[str]:
    """Names of the fields of the dataclass that a location inside ``kind`` leads to."""
    for step in loc:
        if isinstance(step, int) or not is_dataclass(kind):
            continue
        hint = get_type_hints(kind).get(str(step), object)
        options = [hint, *getattr(hint, "__args__", ())]
        kind = next((option for option in options if is_dataclass(option)), object)
    return frozenset(entry.name for entry in fields(kind)) if is_dataclass(kind) else frozenset()


def _plain(value: Any) -> Any:
    """Mappings and sequences as dicts and lists all the way down, so that they can be changed and written as YAML."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value

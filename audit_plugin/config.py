"""The one configuration file: read once, above all layers; unknown keys are errors; paths are relative to the file.

Environment variables override single keys: ``AUDIT_PLUGIN__SERVER__URL=triton:8001`` sets ``server.url``.  Secrets are never in it,
only paths of files that hold them.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from audit_plugin.bank.plan import PlanOptions
from audit_plugin.concepts.io import ConceptDocument, concepts_from_dict, read_concepts
from audit_plugin.core.errors import AuditError, ConfigError
from audit_plugin.findings.policy import Policy, default_policy, load_policy, policy_from
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.perception.task import TrainingOptions
from audit_plugin.sources.folder import FolderOptions
from audit_plugin.target.options import TargetOptions

ENVIRONMENT = "AUDIT_PLUGIN__"
VERSION = 1

_FORBID: dict[str, Any] = {"extra": "forbid"}


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

    path: str
    """diffusers directory (safetensors) of the Stable Diffusion class; nothing is ever downloaded."""
    backend: Literal["auto", "torch", "ort"] = "auto"
    """``auto`` takes the fastest backend whose numbers agree with the reference."""
    steps: int | None = None
    """Denoising steps; the directory's ``audit.json`` or a default when absent."""
    sampler: Literal["ddim", "dpmpp_2m"] | None = None
    """Both are deterministic, which common random numbers need."""
    guidance: float | None = None
    """Classifier-free guidance scale; 1 switches it off and halves the cost."""
    guidance_interval: tuple[float, float] | None = None
    """Noise levels between which guidance acts."""
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


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """The independent judge of what a picture shows."""

    path: str = "detector.onnx"
    """ONNX detector with its card beside it; trained when it is not there and ``train`` is given."""
    train: LearnFrom | None = None
    """Rows to train it on."""
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


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The long-running service."""

    host: str = "127.0.0.1"
    """Address of metrics, health and pages."""
    port: int = 18877
    """Its port."""
    interval_seconds: float = 86_400.0
    """Time between the starts of two rounds of audits."""
    open_reports: bool = False
    """Serve reports, which hold pictures, on other addresses than loopback too."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything an installation of the auditor does."""

    version: int
    """Of this file's format: 1."""
    audit: str
    """Name of the audit; the seeds of all pictures follow from it."""
    source: FolderOptions
    """Labelled real images of the evaluation set."""
    concepts: tuple[Mapping[str, Any], ...] | str
    """What may matter: a list, or a YAML or CSV file with one."""
    template: str | None = None
    """Caption with ``{concept}`` in place of each level's phrase; phrases joined by commas when absent."""
    placebo_words: tuple[str, ...] | None = None
    """Words that say nothing about the pictures, for the placebo arm."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Concepts to permute together as well."""
    generator: GeneratorOptions
    """What draws."""
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
    policy: Mapping[str, Any] | str | None = None
    """Thresholds with owner, reason and date: inline, or a file; built-in defaults when absent."""
    store: str = "audit.sqlite"
    """SQLite file or SQLAlchemy URL."""
    report: str = "report"
    """Directory of the latest report."""
    serve: ServeOptions = field(default_factory=ServeOptions)
    """The service."""
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checked configuration with everything derived from it."""

    config: Config
    document: ConceptDocument
    models: tuple[AuditedModel, ...]
    policy: Policy
    text: str
    """Effective configuration as YAML."""
    directory: Path
    """What relative paths are relative to."""

    @property
    def digest(self) -> str:
        """SHA-256 of the effective configuration."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def path(self, where: str) -> str:
        """``where`` made absolute; URLs stay as they are."""
        return where if "://" in where or "::" in where else str(self.directory / where)

    @property
    def folder(self) -> FolderOptions:
        """The source with absolute paths."""
        from dataclasses import replace

        source = self.config.source
        return replace(source, images=self.path(source.images), table=self.path(source.table))

    @property
    def store_url(self) -> str | Path:
        """Store location with an absolute path."""
        return self.config.store if "://" in self.config.store else Path(self.path(self.config.store))


_CONFIG = TypeAdapter(Config)
_MODEL = TypeAdapter(AuditedModel)


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a configuration file.  Raises ConfigError that names the key and the cure."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {str(path)!r} cannot be read: {error}; `audit-plugin init` writes a first one") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {str(path)!r} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"configuration {str(path)!r} must be a mapping; `audit-plugin init` writes a first one")
    try:
        return parse(overridden(document, environment), path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(document: Mapping[str, Any], directory: Path) -> Loaded:
    """Check a configuration that is already a mapping."""
    config: Config = _checked(_CONFIG, document, Config, "")
    if config.version != VERSION:
        raise ConfigError(f"version: this release reads format {VERSION}, the file says {config.version}")
    if not config.models:
        raise ConfigError("models: name at least one model to audit")
    models = tuple(_model(model, config.server, f"models.{at}") for at, model in enumerate(config.models))
    return Loaded(
        config=config,
        document=_concepts(config, directory),
        models=_rooted(models, directory),
        policy=_policy(config.policy, directory),
        text=yaml.safe_dump(_plain(document), sort_keys=False, allow_unicode=True),
        directory=directory,
    )


def overridden(document: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The document with keys replaced by ``AUDIT_PLUGIN__A__B=value`` (values are YAML scalars)."""
    result = _plain(document)
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT):
            continue
        *parents, last = name.removeprefix(ENVIRONMENT).lower().split("__")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {parent!r} is not a section, so it has no key {last!r}")
        place[last] = yaml.safe_load(value)
    return result


def _model(entry: Mapping[str, Any], server: Mapping[str, Any], where: str) -> AuditedModel:
    """``label``, ``positive`` and ``truth`` belong to the audit, all other keys to the target."""
    own = {key: entry[key] for key in ("label", "positive", "truth") if key in entry}
    target = {**server, **{key: value for key, value in entry.items() if key not in own}}
    if "label" not in own:
        raise ConfigError(f"{where}: `label` is missing; name the table's column with the right class")
    checked: AuditedModel = _checked(_MODEL, {**own, "target": target}, AuditedModel, where)
    return checked


def _rooted(models: Iterable[AuditedModel], directory: Path) -> tuple[AuditedModel, ...]:
    """Secret and certificate files made absolute."""
    from dataclasses import replace

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else directory / path

    def rooted(model: AuditedModel) -> AuditedModel:
        target = model.target
        tls = target.tls and replace(
            target.tls, ca=absolute(target.tls.ca), cert=absolute(target.tls.cert), key=absolute(target.tls.key)
        )
        target = replace(
            target, tls=tls, token_file=absolute(target.token_file), restricted_key_file=absolute(target.restricted_key_file)
        )
        return replace(model, target=target)

    return tuple(rooted(model) for model in models)


def _concepts(config: Config, directory: Path) -> ConceptDocument:
    if isinstance(config.concepts, str):
        document = read_concepts(directory / config.concepts)
        if config.template is None and config.placebo_words is None and not config.groups:
            return document
        raise ConfigError("template, placebo_words and groups belong into the concept file when `concepts` names one")
    items: dict[str, Any] = {"concepts": list(config.concepts)}
    extra = {"template": config.template, "placebo_words": config.placebo_words, "groups": config.groups or None}
    return concepts_from_dict(items | {key: value for key, value in extra.items() if value is not None})


def _policy(policy: Mapping[str, Any] | str | None, directory: Path) -> Policy:
    if policy is None:
        return default_policy()
    return load_policy(directory / policy) if isinstance(policy, str) else policy_from(policy)


def _checked(adapter: TypeAdapter[Any], document: Mapping[str, Any], kind: type, where: str) -> Any:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        problems = [_problem(detail["loc"], detail["type"], detail["msg"], kind, where) for detail in error.errors()]
        raise ConfigError("; ".join(dict.fromkeys(problems))) from error
    except AuditError as error:
        raise ConfigError(f"{where}: {error}") from error


def _problem(loc: Sequence[int | str], kind: str, message: str, root: type, where: str) -> str:
    steps = [str(step) for step in loc if step != "target"]
    place = ".".join([where, *steps] if where else steps) or "configuration"
    if kind in {"missing", "missing_argument", "missing_keyword_only_argument"}:
        return f"{place}: this key is required"
    if kind not in {"unexpected_keyword_argument", "extra_forbidden"}:
        return f"{place}: {re.sub('^Value error, ', '', message)}"
    close = difflib.get_close_matches(str(loc[-1]), _keys(root, loc[:-1]), n=1, cutoff=0.0)
    return f"{place}: unknown key" + (f"; did you mean `{close[0]}`?" if close else "")


def _keys(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """Names of the fields of the dataclass that a location inside ``kind`` leads to."""
    for step in loc:
        if isinstance(step, int) or not is_dataclass(kind):
            continue
        hint = get_type_hints(kind).get(str(step), object)
        options = [hint, *getattr(hint, "__args__", ())]
        kind = next((option for option in options if is_dataclass(option)), object)
    return [entry.name for entry in fields(kind)] if is_dataclass(kind) else []


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with dicts and lists all the way down, so that YAML writes it."""
    return {str(key): _plain_value(entry) for key, entry in value.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    return [_plain_value(entry) for entry in value] if isinstance(value, (list, tuple)) else value

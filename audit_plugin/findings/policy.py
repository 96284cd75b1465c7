"""The policy: which estimate may not exceed which bound, decided beforehand by whom, why and when.

The first threshold in file order that applies to an estimate decides about it, so put exceptions (by concept name) before roles.
A threshold never fires on a point value: the 95 % interval has to lie beyond it, on at least ``minimum_n`` rows.
"""

import datetime as dt
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from audit_plugin.core.counterfactual_results import LEAST_FLIPS
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.results import FairnessFigure
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import NodeKind
from audit_plugin.core.values import Role

LEAST_ROWS = 100
"""Of an estimate by permuted concepts, where a threshold says nothing else."""
LEAST_IMAGES = 32
"""Of a node of the concept tree, whatever a threshold says: with fewer, its interval is not trusted."""
LEAST_PAIRS = 20
"""Of pictures with and without a word that was found with no data, whatever a threshold says."""
Quantity = Literal["importance", "flip_rate_excess", "fairness", "semantic", "counterfactual", "cue", "object_absent"]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """One bound, with the person who set it."""

    name: str
    """Unique within the policy; shown in findings."""
    owner: str
    """Who answers for this bound."""
    reason: str
    """Why it is where it is."""
    date: dt.date
    """When it was decided."""
    metric: Quantity = "importance"
    """Which estimate is held against the bound.  ``importance`` additionally needs the verdict ``relies``; ``semantic`` is the spuriousness
    score of a node of the concept tree, or of a protected node the interval limit of its effect that is nearest to zero; ``counterfactual`` is
    how much more than in the data an attribute changes along with flips of the decision (difference of correlations); ``cue`` is by how much a
    word in the prompt raises the share of drawn pictures that are taken for a class, ``object_absent`` the share of pictures taken for a class
    that do not show its object."""
    threshold: float = 0.0
    """Bound that the lower limit of the 95 % interval must exceed (``side: below``: that the upper limit must undercut)."""
    minimum_n: int | None = None
    """Fewest rows on which the bound may be called exceeded; 100 when absent, for ``semantic`` 32 images of the node, for
    ``counterfactual`` 20 flips, for ``cue`` 20 pairs of pictures (never fewer)."""
    roles: tuple[Role, ...] = ()
    """Concept roles it applies to.  With neither roles nor concepts: nuisance, protected and artefact."""
    concepts: tuple[str, ...] = ()
    """Concepts it applies to by name, whatever their role; of ``cue`` words, of ``object_absent`` classes."""
    figures: tuple[str, ...] = ("*",)
    """Fairness only: names of the figures it applies to; ``*`` and ``?`` are wildcards."""
    families: tuple[Literal["interventional", "observational"], ...] = ("interventional",)
    """Fairness only: observational gaps may come from the data alone, so they are not alerted on unless asked for."""
    side: Literal["above", "below"] = "above"
    """Fairness only: whether being above (distance from zero) or below the bound is of concern."""
    kinds: tuple[NodeKind, ...] = ()
    """Concept trees and ``cue`` only: kinds of node it applies to; all but core when empty."""
    nodes: tuple[str, ...] = ()
    """Concept trees and ``cue`` only: paths of nodes it applies to, with all that is below them."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """Copied to the finding."""
    critical: float | None = None
    """``cue`` and ``object_absent`` only: bound from which on the finding is critical, whatever ``severity`` says; none when absent."""
    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        for key in ("name", "owner", "reason"):
            if not str(getattr(self, key)).strip():
                raise ValueError(f"`{key}` must not be empty: a threshold carries an owner, a reason and a date")

    @property
    def least(self) -> int:
        """Rows, or images of a node, or flips, or pairs, from which on the bound may be called exceeded."""
        if self.metric == "semantic":
            return max(LEAST_IMAGES, self.minimum_n or 0)
        if self.metric == "counterfactual":
            return max(LEAST_FLIPS, self.minimum_n or 0)
        if self.metric == "cue":
            return max(LEAST_PAIRS, self.minimum_n or 0)
        return LEAST_ROWS if self.minimum_n is None else self.minimum_n

    def covers(self, concept: str, role: Role) -> bool:
        """Whether this threshold speaks about the concept at all."""
        if self.roles or self.concepts:
            return concept in self.concepts or role in self.roles
        return role.alerts

    def covers_figure(self, figure: FairnessFigure) -> bool:
        """Whether this threshold speaks about the fairness figure; figures that are only for reading must be named in full."""
        if self.metric != "fairness" or figure.family not in self.families:
            return False
        side = side_of(figure)
        if side is None:
            return figure.figure in self.figures
        return side == self.side and any(fnmatchcase(figure.figure, pattern) for pattern in self.figures)


def side_of(figure: FairnessFigure) -> Literal["above", "below"] | None:
    """In which direction the figure is of concern by its own words; None for those shown only for reading the others."""
    if figure.concern.startswith("below"):
        return "below"
    return "above" if figure.concern.startswith(("above", "beyond")) else None


@dataclass(frozen=True, kw_only=True)
class Policy:
    """All thresholds in force, in order of precedence."""

    name: str
    thresholds: tuple[Threshold, ...] = field(default_factory=tuple)
    over_time: Literal["each", "spending"] = "each"
    """What an audit of many may err: ``each`` is judged by its own 95 % interval; with ``spending`` the k-th audit of a model version on rows
    of its own by one of level 1 - 0.05·6/(π²k²), so that all of them together err hardly oftener than one (docs/calibration.md)."""
    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        names = [threshold.name for threshold in self.thresholds]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"threshold names must be unique, {', '.join(twice)} is there more than once")

    @property
    def digest(self) -> str:
        """Changes whenever a bound, its scope, its owner or what audits may err over time changes."""
        usual = {"over_time"} if self.over_time == "each" else None  # as it was before there was a choice
        return digest(_ADAPTER.dump_json(self, exclude=usual).decode())


_ADAPTER = TypeAdapter(Policy)


def policy_from(document: Mapping[str, object]) -> Policy:
    """A policy from the parsed YAML.  Raises ConfigError that names the key and, for a misspelt one, the closest match."""
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        raise ConfigError(
            "policy: " + "; ".join(_problem(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors())
        ) from error


def load_policy(path: Path) -> Policy:
    """Read a policy file.  Raises ConfigError when it cannot be used."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"policy file {str(path)!r} cannot be read: {error}") from error
    if not isinstance(document, Mapping):
        raise ConfigError(f"policy file {str(path)!r} must be a mapping with the keys `name` and `thresholds`")
    return policy_from(document)


def default_policy() -> Policy:
    """Bounds for users who have set none; the audit's own margin (placebo included) already applies to importance."""
    decided = dt.date(2026, 11, 22)
    return Policy(
        name="default",
        thresholds=(
            Threshold(
                name="shortcut-reliance",
                roles=(Role.NUISANCE, Role.ARTEFACT),
                owner="audit_plugin defaults",
                reason="a model must not need nuisance or artefact features; the audit's margin is the tolerance",
                date=decided,
            ),
            Threshold(
                name="protected-reliance",
                roles=(Role.PROTECTED,),
                owner="audit_plugin defaults",
                reason="a model must not need protected attributes; the audit's margin is the tolerance",
                date=decided,
            ),
            Threshold(
                name="fairness-flip-rate",
                metric="fairness",
                figures=("flip_rate_excess",),
                threshold=0.02,
                roles=(Role.PROTECTED,),
                owner="audit_plugin defaults",
                reason="more than 2 % of decisions change with a protected attribute, placebo deducted",
                date=decided,
            ),
            Threshold(
                name="fairness-gap",
                metric="fairness",
                figures=("counterfactual_parity_gap", "counterfactual_odds_gap"),
                threshold=0.05,
                roles=(Role.PROTECTED,),
                owner="audit_plugin defaults",
                reason="decision rates of the same pictures differ by more than 5 points with a protected attribute",
                date=decided,
            ),
            Threshold(
                name="semantic-protected",
                metric="semantic",
                kinds=(NodeKind.PROTECTED,),
                threshold=0.1,
                owner="audit_plugin defaults",
                reason="a protected attribute moves the log-odds of real images by more than 0.1 with its whole interval",
                date=dt.date(2026, 11, 28),
                severity="critical",
            ),
            Threshold(
                name="semantic-shortcut",
                metric="semantic",
                kinds=(NodeKind.NUISANCE, NodeKind.ARTEFACT),
                threshold=0.25,
                owner="audit_plugin defaults",
                reason="a nuisance or an artefact in real images has a spuriousness score above 0.25",
                date=dt.date(2026, 11, 28),
            ),
            Threshold(
                name="counterfactual-protected",
                metric="counterfactual",
                roles=(Role.PROTECTED,),
                threshold=0.2,
                owner="audit_plugin defaults",
                reason="a protected attribute changes with flipped decisions by a correlation that exceeds the data's by more than 0.2",
                date=dt.date(2026, 11, 28),
                severity="critical",
            ),
            Threshold(
                name="counterfactual-shortcut",
                metric="counterfactual",
                roles=(Role.NUISANCE, Role.ARTEFACT),
                threshold=0.2,
                owner="audit_plugin defaults",
                reason="a nuisance or an artefact changes with flipped decisions by a correlation that exceeds the data's by more than 0.2",
                date=dt.date(2026, 11, 28),
            ),
            Threshold(
                name="discovered-protected-cue",
                metric="cue",
                kinds=(NodeKind.PROTECTED,),
                threshold=0.2,
                owner="audit_plugin defaults",
                reason="a word for a protected attribute turns more than a fifth of drawn pictures into the class",
                date=dt.date(2026, 11, 28),
                severity="critical",
            ),
            Threshold(
                name="discovered-cue",
                metric="cue",
                threshold=0.2,
                critical=0.5,
                owner="audit_plugin defaults",
                reason="a word that is no part of the class turns more than a fifth of drawn pictures into it",
                date=dt.date(2026, 11, 28),
            ),
            Threshold(
                name="object-absent",
                metric="object_absent",
                threshold=0.5,
                owner="audit_plugin defaults",
                reason="most of the pictures that a class responds to do not show its object",
                date=dt.date(2026, 11, 28),
            ),
        ),
    )


def _problem(where: Sequence[int | str], kind: str, message: str) -> str:
    place = ".".join(str(part) for part in where)
    if kind != "unexpected_keyword_argument":
        return f"{place}: {message}"
    known = [entry.name for entry in fields(Threshold if "thresholds" in where else Policy)]
    close = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.0)
    return f"{place}: unknown key, did you mean `{close[0]}`?" if close else f"{place}: unknown key"

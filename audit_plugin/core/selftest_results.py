"""What an audit finds of effects that are put into its own model's answers, frozen: detection by size, and false findings where there is none."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from pydantic import TypeAdapter, ValidationError

from audit_plugin.core.errors import StoreError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.values import Role

SELFTEST_SCHEMA = 1


class Part(StrEnum):
    """What made the finding."""

    IMPORTANCE = "importance"
    """Loss of performance when the concept is permuted."""
    FLIPS = "flips"
    """Decisions that flips of the concept change: a bound on the excess flip rate, or on a fairness figure."""
    NODE = "node"
    """Effect of the node of the same name in the concept tree, on real images."""
    ANY = "any"
    """At least one of them in the same repeat."""
    SEEN = "seen"
    """No finding: the excess flip rate lies above 0 with its whole interval, which a bound of the policy on it would turn into one."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One size of the effect."""

    size: float
    """Log-odds between a picture that shows the level for sure and one that does not."""
    found: int
    runs: int
    rate: Estimate
    """Share of runs with a finding, with its exact 95 % interval."""
    broken: int = 0
    """Runs, of all, whose audit did not work by its own gates; they found nothing."""

    @property
    def known(self) -> bool:
        """Whether any run worked, so that the rate says something."""
        return self.broken < self.runs


@dataclass(frozen=True, kw_only=True)
class DetectionCurve:
    """How often one part of the audit makes a finding of the concept, by size."""

    part: Part
    points: tuple[Detection, ...]
    """By size, none first."""
    size80: float | None = None
    """Log-odds that are found 80 % of the time, between the sizes that were tried; None where none of them is."""
    size95: float | None = None


@dataclass(frozen=True, kw_only=True)
class ConceptSelfTest:
    """One concept."""

    concept: str
    role: Role
    level: str
    """Whose presence shifts the answers."""
    curves: tuple[DetectionCurve, ...]
    false_findings: int
    """Runs with a finding of this concept though nothing was put in."""
    runs: int
    """Working runs with nothing put in."""
    accusable: bool = True
    """Whether any threshold of the policy could ever accuse the concept."""

    def curve(self, part: Part = Part.ANY) -> DetectionCurve | None:
        """That of one part, if the audit has it."""
        return next((one for one in self.curves if one.part is part), None)


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """One model version, against one label column, on one bank under one policy."""

    model: str
    version: str
    target: str
    """Key of the model version in the score table."""
    label: str
    class_name: str
    """Whose log-odds are shifted, against all others."""
    bank_digest: str
    generator: str
    detector: str
    policy_digest: str
    rows: int
    """Of every run, by and large: as many as the audit has, drawn anew."""
    images: int
    """Real images behind the concept tree's part; 0 without it."""
    concepts: tuple[ConceptSelfTest, ...]
    false_findings: int
    """Runs with any finding of a concept that must not matter though nothing was put in."""
    false_runs: int
    """Working runs with nothing put in."""
    broken: int
    """Runs, of all, whose audit did not work by its own gates; they count as not found."""
    runs: int
    epsilon: float
    """Answers are taken to be no nearer to 0 and 1."""
    clipped: float
    """Share of pictures whose answers are, so that their log-odds are not known."""
    notes: tuple[str, ...] = ()
    seconds: float
    finished_at: str
    """ISO 8601, UTC."""
    judged_digest: str = ""
    """As the audit's own, see :class:`audit_plugin.core.results.Provenance`; one without, which is older, speaks of no audit."""
    schema_version: int = SELFTEST_SCHEMA

    def concept(self, name: str) -> ConceptSelfTest | None:
        """That of one concept, if it was tried."""
        return next((one for one in self.concepts if one.concept == name), None)


@cache
def _adapter() -> TypeAdapter[SelfTest]:
    """Made when it is first needed."""
    return TypeAdapter(SelfTest)


def to_json(told: SelfTest) -> str:
    """As a JSON document, keys in the order of the fields."""
    return _adapter().dump_json(told, indent=2).decode()


def from_json(text: str) -> SelfTest:
    """Read back what :func:`to_json` wrote.  Raises StoreError on anything else."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise StoreError(f"not a self-test of schema {SELFTEST_SCHEMA}: {error.errors()[0]['msg']}") from error

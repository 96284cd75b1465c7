"""Which concepts are ranked, in which order, and when a ranking must not be shown at all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audit_plugin.core.results import AuditResult, ConceptResult, RunState, Verdict
from audit_plugin.report.words import is_weak


@dataclass(frozen=True)
class Order:
    """Concept names, first those that may be compared, then those that may not."""

    ranked: tuple[str, ...]
    unranked: tuple[str, ...]
    """Weak edits and concepts that could not be assessed."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every concept, ranked ones first."""
        return self.ranked + self.unranked


def suppressed(result: AuditResult) -> bool:
    """Whether importance must not be shown: the generator failed, so the numbers do not mean what they seem to."""
    return result.state is RunState.INVALID_GENERATOR


def find(result: AuditResult, concept: str) -> ConceptResult | None:
    """The result of one concept, by name and never by position."""
    return next((c for c in result.concepts if c.concept == concept), None)


def order(results: Sequence[AuditResult]) -> Order:
    """By largest importance over the models; a concept is ranked when at least one model's value may be compared."""
    largest: dict[str, float] = {}
    seen: dict[str, float] = {}
    for result in results:
        for concept in result.concepts:
            value = concept.importance.value if not suppressed(result) and math.isfinite(concept.importance.value) else -math.inf
            seen[concept.concept] = max(value, seen.get(concept.concept, -math.inf))
            if _comparable(concept) and not suppressed(result):
                largest[concept.concept] = max(value, largest.get(concept.concept, -math.inf))
    ranked = sorted(largest, key=lambda name: (-largest[name], name))
    return Order(tuple(ranked), tuple(sorted(set(seen) - set(largest), key=lambda name: (-seen[name], name))))


def _comparable(concept: ConceptResult) -> bool:
    return concept.verdict is not Verdict.NOT_ASSESSABLE and not is_weak(concept)

"""Claims held against the truth: who said what of which concept, and whether it is so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.results import AuditResult, ConceptResult, Verdict
from tests.bench.planted_suite.truth import ConceptTruth
from tests.bench.planted_suite.worlds import World

LOG_ODDS = 0.25
"""By which an edit must move log-odds, with its whole interval, before we call it a reliance; the policy's own bound of spuriousness."""
Truths = Mapping[tuple[str, str], Mapping[str, ConceptTruth]]
"""(Classifier, task) -> concept -> truth."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one approach says of one concept of one task of one classifier."""

    approach: str
    world: str
    classifier: str
    task: str
    concept: str
    found: bool
    strength: float
    """By which this approach ranks; larger means more reliance."""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim and the truth."""

    claim: Claim
    truth: ConceptTruth
    unlisted: bool

    @property
    def covered(self) -> bool | None:
        """Whether the interval, widened by the truth's own error in quadrature, holds the truth; None where there is no interval."""
        claim, truth = self.claim, self.truth
        if claim.estimate is None or claim.low is None or claim.high is None:
            return None
        slack = 1.96 * truth.importance_se
        below, above = np.hypot(claim.estimate - claim.low, slack), np.hypot(claim.high - claim.estimate, slack)
        return bool(claim.estimate - below <= truth.importance <= claim.estimate + above)


def task_of(result: AuditResult) -> tuple[str, str]:
    """(Classifier, task) of a result, as truths name them."""
    return result.model, result.label.partition(".")[2] or "label"


def by_permutation(world: World, result: AuditResult) -> list[Claim]:
    """DEPICT's verdicts; nothing is claimed of a concept that the audit called not assessable."""
    return [_claim("DEPICT", world, result, one.concept, found=one.verdict is Verdict.RELIES, of=one) for one in result.concepts]


def _claim(approach: str, world: World, result: AuditResult, concept: str, *, found: bool, of: ConceptResult) -> Claim:
    classifier, task = task_of(result)
    shown = of.importance
    return Claim(
        approach=approach,
        world=world.name,
        classifier=classifier,
        task=task,
        concept=concept,
        found=found,
        strength=abs(shown.value),
        estimate=shown.value,
        low=shown.low,
        high=shown.high,
    )


def by_edits(world: World, result: AuditResult) -> list[Claim]:
    """DiffEx: the strongest node of each listed concept, found where its interval lies beyond :data:`LOG_ODDS`.

    A frame, which no concept of the audit names, is the border that the default tree draws by an exact operator.
    """
    if result.diffex is None:
        return []
    classifier, task = task_of(result)
    wanted = {task} if task != "label" else set(result.classes)
    best: dict[str, tuple[float, bool]] = {}
    for effects in result.diffex.classes:
        if effects.class_name not in wanted:
            continue
        for node in effects.nodes:
            concept = concept_of(world, node.node)
            if concept and node.effect is not None:
                known = best.get(concept, (0.0, False))
                told = node.state is EffectState.EFFECT and node.bound > LOG_ODDS
                best[concept] = (max(known[0], abs(node.effect.value)), known[1] or told)
    return [
        Claim(approach="DiffEx", world=world.name, classifier=classifier, task=task, concept=name, found=found, strength=strength)
        for name, (strength, found) in best.items()
    ]


def concept_of(world: World, path: str) -> str:
    """Which concept a node's path is about; empty where none."""
    head = path.partition("/")[0]
    if head in world.names:
        return head
    return "frame" if path.startswith("artefact/border/black") and "frame" in world.names else ""


def by_words(world: World, found: Discovery, truths: Truths) -> list[Claim]:
    """DiffExplainer: concepts whose words make the classifier answer with the class."""
    claims = []
    for subject in found.subjects:
        task = subject.name if (found.model, subject.name) in truths else "label"
        for one in world.concepts:
            said = [word for word in subject.words if any(phrase and phrase.strip() == word.word.strip() for phrase in one.phrases)]
            claims.append(
                Claim(
                    approach="DiffExplainer",
                    world=world.name,
                    classifier=found.model,
                    task=task,
                    concept=one.name,
                    found=any(word.causes for word in said),
                    strength=max((word.effect.value for word in said), default=0.0),
                )
            )
    return _strongest(claims)


def by_flips(world: World, result: AuditResult) -> list[Claim]:
    """Counterfactuals: attributes that change along with flipped decisions, more than in the data."""
    told = result.counterfactuals
    if told is None:
        return []
    classifier, task = task_of(result)
    claims = [
        Claim(
            approach="counterfactuals",
            world=world.name,
            classifier=classifier,
            task=task,
            concept=gap.concept,
            found=gap.gap.low > 0.2,
            strength=abs(gap.gap.value),
        )
        for gap in told.gaps
    ]
    return _strongest([claim for claim in claims if claim.concept])


def _strongest(claims: Iterable[Claim]) -> list[Claim]:
    """One claim for each concept of each task: found where any says so."""
    best: dict[tuple[str, str, str], Claim] = {}
    for claim in claims:
        key = (claim.classifier, claim.task, claim.concept)
        known = best.get(key)
        best[key] = (
            claim
            if known is None
            else replace(claim if claim.strength > known.strength else known, found=claim.found or known.found)
        )
    return list(best.values())


def together(claims: Sequence[Claim], name: str = "audit") -> list[Claim]:
    """What an audit says in all: a concept that any of its methods finds."""
    return [replace(claim, approach=name) for claim in _strongest(claims)]


def judged(world: World, claims: Iterable[Claim], truths: Truths) -> list[Judged]:
    """Every claim with its truth."""
    return [
        Judged(claim=claim, truth=truths[claim.classifier, claim.task][claim.concept], unlisted=claim.concept == world.unlisted)
        for claim in claims
    ]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How one approach did."""

    approach: str
    strong_found: int
    strong: int
    weak_found: int
    weak: int
    unlisted_found: int
    unlisted: int
    accused: int
    """Idle concepts that it claims."""
    idle: int
    spearman: float
    """Rank correlation of its strengths with true importances, mean over tasks with at least one reliance."""
    covered: float | None
    """Share of its 95 % intervals that hold the truth; None without intervals."""


def tally(approach: str, found: Sequence[Judged]) -> Tally:
    """Counts over all classifiers; cells that are neither reliance nor idle count for and against nobody."""
    listed = [one for one in found if not one.unlisted]
    cells = {
        "strong": [one for one in listed if one.truth.strong],
        "weak": [one for one in listed if one.truth.weak],
        "unlisted": [one for one in found if one.unlisted and (one.truth.strong or one.truth.weak)],
        "idle": [one for one in found if one.truth.idle],
    }
    hits = {name: sum(one.claim.found for one in some) for name, some in cells.items()}
    covered = [one.covered for one in listed if one.covered is not None]
    return Tally(
        approach=approach,
        strong_found=hits["strong"],
        strong=len(cells["strong"]),
        weak_found=hits["weak"],
        weak=len(cells["weak"]),
        unlisted_found=hits["unlisted"],
        unlisted=len(cells["unlisted"]),
        accused=hits["idle"],
        idle=len(cells["idle"]),
        spearman=_ranks(listed),
        covered=float(np.mean(covered)) if covered else None,
    )


def _ranks(found: Sequence[Judged]) -> float:
    from scipy.stats import spearmanr

    by_task: dict[tuple[str, str], list[Judged]] = {}
    for one in found:
        by_task.setdefault((one.claim.classifier, one.claim.task), []).append(one)
    correlations = []
    for some in by_task.values():
        truth = np.array([0.0 if abs(one.truth.importance) < 0.01 else one.truth.importance for one in some])
        said = np.array([one.claim.strength for one in some])
        if np.ptp(truth) > 0:
            correlations.append(float(spearmanr(truth, said).statistic) if np.ptp(said) > 0 else 0.0)
    return float(np.mean(correlations)) if correlations else float("nan")

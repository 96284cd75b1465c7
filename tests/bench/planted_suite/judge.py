"""Claims held against the truth: who said what of which concept, and whether it is so."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.counterfactual_results import LEAST_FLIPS, AttributeGap
from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, RunState, Verdict
from audit_plugin.findings.counterfactuals import directions
from tests.bench.planted_suite.truth import ConceptTruth
from tests.bench.planted_suite.worlds import World

LOG_ODDS = 0.25
"""By which an edit must move log-odds, with its whole interval, before we call it a reliance."""
IMPORTANCE, SHARE = 0.02, 0.2
"""The audit's own margin of importance; what correlations of flips, and shares of pictures that a word turns, must exceed."""
NEGLIGIBLE = IMPORTANCE / 10
"""Error of an importance that changes nothing."""
FLIPS = {"polyak": "counterfactuals (Polyak steps)", "fastdime": "FastDiME", "dime": "DiME", "dvce": "DVCE"}
"""Method -> what it is called here."""
DISCOVERY = "DiffExplainer"
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
    evidence: float = 0.0
    """Lower limit of the product's methods, in units of what each calls a finding; makes them comparable."""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim and the truth."""

    claim: Claim
    truth: ConceptTruth
    unlisted: bool
    broken: bool = False
    """Whether the audit of this task says that it is broken, and nothing about the classifier; the second one too, where there was one."""
    again: bool = False
    """Whether the first audit said so, and a second one, with what discovery found named, spoke."""

    @property
    def covered(self) -> bool | None:
        """Whether the interval, widened by the truth's own error in quadrature, holds the truth; None where there is no interval."""
        return self._covered(0.0)

    @property
    def nearly_covered(self) -> bool | None:
        """The same, to within :data:`NEGLIGIBLE`."""
        return self._covered(NEGLIGIBLE)

    def _covered(self, tolerance: float) -> bool | None:
        claim, truth = self.claim, self.truth
        if claim.estimate is None or claim.low is None or claim.high is None:
            return None
        slack = 1.96 * truth.importance_se
        below, above = np.hypot(claim.estimate - claim.low, slack), np.hypot(claim.high - claim.estimate, slack)
        return bool(claim.estimate - below - tolerance <= truth.importance <= claim.estimate + above + tolerance)


def task_of(result: AuditResult) -> tuple[str, str]:
    """(Classifier, task) of a result, as truths name them."""
    return result.model, result.label.partition(".")[2] or "label"


def broken(results: Iterable[AuditResult]) -> set[tuple[str, str]]:
    """Tasks whose audits refuse to judge: the classifier does not treat generated pictures like real ones, most often."""
    return {task_of(result) for result in results if result.state is RunState.INVALID_GENERATOR}


def by_permutation(world: World, result: AuditResult) -> list[Claim]:
    """DEPICT's verdicts; nothing is claimed of a concept that the audit called not assessable."""
    claims = {
        one.concept: _claim(
            "DEPICT", world, task_of(result), one.concept, found=one.verdict is Verdict.RELIES, strength=abs(one.importance.value),
            evidence=one.importance.low / IMPORTANCE, of=one.importance,
        )
        for one in result.concepts
        if one.verdict is not Verdict.NOT_ASSESSABLE
    }  # fmt: skip
    return _of_all("DEPICT", world, task_of(result), claims)


def by_edits(world: World, result: AuditResult) -> list[Claim]:
    """DiffEx: the strongest node of each listed concept, found where its interval lies beyond :data:`LOG_ODDS`.

    A frame, which no concept of the audit names, is the border that the default tree draws by an exact operator.
    """
    if result.diffex is None:
        return []
    task = task_of(result)
    wanted = set(result.classes) if task[1] == "label" else {task[1]}
    nodes = [node for effects in result.diffex.classes if effects.class_name in wanted for node in effects.nodes]
    claims = _strongest(
        _claim(
            "DiffEx", world, task, concept_of(world, node.node), found=node.state is EffectState.EFFECT and node.bound > LOG_ODDS,
            strength=abs(node.effect.value), evidence=node.bound / LOG_ODDS,
        )
        for node in nodes
        if node.effect is not None and concept_of(world, node.node)
    )  # fmt: skip
    return _of_all("DiffEx", world, task, {claim.concept: claim for claim in claims})


def concept_of(world: World, path: str) -> str:
    """Which concept a node's path is about: one of its levels, not an exact change that shares the name; empty where none."""
    head, _, level = path.partition("/")
    if head in world.names and level in world.levels(head):
        return head
    return "frame" if path.startswith("artefact/border/black") and "frame" in world.names else ""


def by_words(world: World, found: Discovery, truths: Truths) -> list[Claim]:
    """DiffExplainer: concepts whose words make the classifier answer with the class."""
    claims = []
    for subject in found.subjects:
        task = (found.model, subject.name if (found.model, subject.name) in truths else "label")
        told = _strongest(
            _claim(
                DISCOVERY, world, task, one.name, found=word.causes, strength=word.effect.value, evidence=word.effect.low / SHARE
            )
            for one in world.concepts
            for word in subject.words
            if one.name in world.says(word.word)
        )  # fmt: skip
        claims += _of_all(DISCOVERY, world, task, {claim.concept: claim for claim in told})
    return _strongest(claims)


def by_flips(world: World, method: str, result: AuditResult) -> list[Claim]:
    """Counterfactuals of one method: concepts that surely change along with flips of the decision, to a correlation beyond :data:`SHARE`.

    Whether they do so more than the data tie them to the class, which is what alerts, does not say whether the classifier relies on them.
    """
    told, task, name = result.counterfactuals, task_of(result), FLIPS[method]
    if told is None:
        return []
    enough = told.turning >= LEAST_FLIPS
    claims = _strongest(
        _claim(
            name, world, task, way.concept, found=enough and _surely(way) > SHARE, strength=abs(way.r),
            evidence=_surely(way) / SHARE if enough else 0.0,
        )
        for gap in told.gaps
        if gap.concept
        for way in directions(gap)
    )  # fmt: skip
    return _of_all(name, world, task, {claim.concept: claim for claim in claims})


def _surely(way: AttributeGap) -> float:
    """The least correlation of the attribute's change with the decision's; it is at least as close to its limit as the gap to its own."""
    return way.r - (way.gap.value - way.gap.low)


def _claim(
    approach: str,
    world: World,
    task: tuple[str, str],
    concept: str,
    *,
    found: bool,
    strength: float,
    evidence: float,
    of: Estimate | None = None,
) -> Claim:
    return Claim(
        approach=approach, world=world.name, classifier=task[0], task=task[1], concept=concept, found=found, strength=strength,
        evidence=evidence, estimate=None if of is None else of.value, low=None if of is None else of.low, high=None if of is None else of.high,
    )  # fmt: skip


def _of_all(approach: str, world: World, task: tuple[str, str], claims: Mapping[str, Claim]) -> list[Claim]:
    """One claim for every concept of the world: what was not looked at, or dropped on the way, was not found."""
    return [
        claims.get(name) or _claim(approach, world, task, name, found=False, strength=0.0, evidence=0.0) for name in world.names
    ]


def _strongest(claims: Iterable[Claim]) -> list[Claim]:
    """One claim for each concept of each task, that of most evidence: found where any says so."""
    best: dict[tuple[str, str, str], Claim] = {}
    for claim in claims:
        key = (claim.classifier, claim.task, claim.concept)
        known = best.setdefault(key, claim)
        best[key] = replace(claim if claim.evidence > known.evidence else known, found=claim.found or known.found)
    return list(best.values())


def complete(world: World, claims: Sequence[Claim], tasks: Iterable[tuple[str, str]]) -> list[Claim]:
    """The same for every task of the world: of what an approach did not look at, or was refused, it found nothing."""
    known = {(one.approach, one.classifier, one.task) for one in claims}
    return [*claims] + [
        claim
        for name in dict.fromkeys(one.approach for one in claims)
        for task in tasks
        if (name, *task) not in known
        for claim in _of_all(name, world, task, {})
    ]


def together(claims: Sequence[Claim], name: str = "audit") -> list[Claim]:
    """What an audit says in all: a concept that any of its methods finds, ranked by the evidence of the most certain of them."""
    return [
        replace(claim, approach=name, strength=claim.evidence, estimate=None, low=None, high=None) for claim in _strongest(claims)
    ]


def judged(
    world: World,
    claims: Iterable[Claim],
    truths: Truths,
    refused: Collection[tuple[str, str]] = (),
    again: Collection[tuple[str, str]] = (),
) -> list[Judged]:
    """Every claim with its truth."""
    return [
        Judged(
            claim=claim,
            truth=truths[claim.classifier, claim.task][claim.concept],
            unlisted=claim.concept == world.unlisted,
            broken=(claim.classifier, claim.task) in refused,
            again=(claim.classifier, claim.task) in again,
        )
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
    between_said: int
    """Claims of concepts that are neither reliance nor idle."""
    between: int
    ranks: float
    """Rank correlation (Somers' D) of its strengths with true importances, mean over tasks with at least one reliance."""
    covered: float | None
    """Share of its 95 % intervals that hold the truth; None without intervals."""
    nearly_covered: float | None
    """The same to within :data:`NEGLIGIBLE`."""
    covered_reliances: float | None
    """Of reliances alone, without that."""


def tally(approach: str, found: Sequence[Judged]) -> Tally:
    """Counts over all classifiers; cells that are neither reliance nor idle count for and against nobody."""
    listed = [one for one in found if not one.unlisted]
    cells = {
        "strong": [one for one in listed if one.truth.strong],
        "weak": [one for one in listed if one.truth.weak],
        "unlisted": [one for one in found if one.unlisted and (one.truth.strong or one.truth.weak)],
        "idle": [one for one in found if one.truth.idle],
        "between": [one for one in listed if not (one.truth.strong or one.truth.weak or one.truth.idle)],
    }
    hits = {name: sum(one.claim.found for one in some) for name, some in cells.items()}
    covered = [one for one in listed if one.covered is not None]
    reliances = [one for one in covered if one.truth.strong or one.truth.weak]
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
        between_said=hits["between"],
        between=len(cells["between"]),
        ranks=_ranks(listed),
        covered=_mean([bool(one.covered) for one in covered]),
        nearly_covered=_mean([bool(one.nearly_covered) for one in covered]),
        covered_reliances=_mean([bool(one.covered) for one in reliances]),
    )


def _mean(shares: Sequence[bool]) -> float | None:
    return float(np.mean(shares)) if shares else None


def _ranks(found: Sequence[Judged]) -> float:
    """Over pairs of concepts of a task whose truths differ, within 0.01 of zero all alike: right less wrong order, ties count nothing."""
    by_task: dict[tuple[str, str], list[Judged]] = {}
    for one in found:
        by_task.setdefault((one.claim.classifier, one.claim.task), []).append(one)
    correlations = []
    for some in by_task.values():
        truth = np.array([0.0 if abs(one.truth.importance) < 0.01 else one.truth.importance for one in some])
        said = np.array([one.claim.strength for one in some])
        differ = np.sign(truth[:, None] - truth[None])
        if differ.any():
            correlations.append(float((differ * np.sign(said[:, None] - said[None])).sum() / np.abs(differ).sum()))
    return float(np.mean(correlations)) if correlations else float("nan")

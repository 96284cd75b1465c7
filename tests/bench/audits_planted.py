"""Real audits with known truth, many of them and no picture: bank tables in concept space, scored by a linear model.

A picture is the concepts that it shows and noise of its own; edits miss now and then and spill into the next concept, the detector misreads.
Only pictures and scores are made up: :func:`audit_once` runs :func:`audit_plugin.methods.depict.audit` with default options, but for resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, ConceptResult, Verdict
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.values import Role
from audit_plugin.methods.depict import DepictOptions, audit
from tests.findings.examples import result
from tests.methods.world import PREVALENCE, Generator, binary, build, make_values

Floats = NDArray[np.float64]
SIZES = (0.0, 0.02, 0.03, 0.05, 0.1, 0.2)
"""True importances of the six concepts of a model that relies; the second is the margin."""
FAIR = 0.05
"""True importance of the protected one among them."""
IDLE = (0.0,) * 6
ROWS = 200
GENERATOR = Generator(obeys=0.95, leaks=0.02)
DETECTOR = 0.97
GAIN, CORE = 2.0, 2.0
"""Of the logit, and weight of the concept that it is about."""
CLUE = 0.5
"""Weight in the labels of a concept that the model does not use."""
OWN = 0.5
"""Standard deviation of what a row's pictures add to the logit alike, before the gain: pictures of one seed share what no concept names."""
TURNS = 3
RECIPE = (ROWS, str(GENERATOR), DETECTOR, GAIN, CORE, CLUE, OWN, TURNS)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One kind of audited model."""

    name: str
    importances: tuple[float, ...] = IDLE
    """True importance of each concept but the core one, at no score noise but the model's own."""
    noise: float = 0.3
    """Standard deviation of what a picture adds to the logit by itself, before the gain: another picture of the same caption, another score."""


def concepts_of(setting: Setting) -> tuple[str, ...]:
    """Names of the concepts whose importance is in the setting's ``importances``, in that order."""
    return tuple(f"c{at}" for at in range(1, len(setting.importances) + 1))


@cache
def weights_for(setting: Setting) -> tuple[float, ...]:
    """Weights of a model that has these importances: each found by bisection on 50,000 rows, by turns until none moves."""
    rng = np.random.default_rng(seed_of("calibration", "weights"))
    values = make_values(50_000, rng, _concepts(setting))
    chance, own = rng.random(len(values)), OWN * rng.normal(size=len(values))
    noise = own + setting.noise * rng.normal(size=len(values)), own + setting.noise * rng.normal(size=len(values))
    weights = np.array([CORE, *np.zeros(len(setting.importances))])
    for _ in range(TURNS):
        for at, wanted in enumerate(setting.importances, start=1):
            low, high = 0.0, 8.0 if wanted else 0.0
            while high - low > 1e-3:
                weights[at] = (low + high) / 2
                labels = chance < _answers(_truth(weights), values, np.zeros(len(values)))
                low, high = (weights[at], high) if _drop(weights, values, noise, labels, at) < wanted else (low, weights[at])
            weights[at] = (low + high) / 2
    return tuple(float(weight) for weight in weights)


def audit_once(setting: Setting, number: int, *, resamples: int) -> AuditResult:
    """One audit on rows of its own, as a result that no policy has seen yet."""
    rng = np.random.default_rng(seed_of("calibration", f"{setting} {number}"))
    weights = np.array(weights_for(setting))
    labels = partial(_answers, _truth(weights))
    world = build(ROWS, rng, labels, generator=GENERATOR, detector=DETECTOR, concepts=_concepts(setting))
    shown = np.stack([what for what, _, _ in world.shown.values()])
    own = np.array([eps for _, eps, _ in world.shown.values()])
    p = _answers(weights, shown, OWN * own + setting.noise * rng.normal(size=len(own)))
    scores = {name: np.array([1 - one, one]) for name, one in zip(world.shown, p.tolist(), strict=True)}
    options = DepictOptions(resamples=resamples, adjusted_resamples=20, random_pairs=0, extreme_pairs=0)
    told = audit(world.table, scores, label="task", classes=("neg", "pos"), seed=str(number), options=options)
    return result(
        state=told.state,
        headline=told.headline,
        concepts=told.concepts,
        gates=told.gates,
        leakage=told.leakage,
        placebo=told.placebo,
        fairness=told.fairness,
        n_rows=told.n_rows,
        generated_score=told.generated_score,
        real_score=told.real_score,
        not_tested=told.not_tested,
    )


def on_rows(audited: AuditResult, rows: str) -> AuditResult:
    """The same answers as if they rested on these rows: how a drawn audit becomes one on fresh rows, or on the same again."""
    return replace(audited, provenance=replace(audited.provenance, rows_digest=rows))


def moved_to_margin(audits: Sequence[AuditResult], concept: str, name: str) -> list[AuditResult]:
    """One concept of these audits under another name, its estimates moved alike so that their mean is the margin: the worst that is no reliance."""
    estimates = [one for told in audits for one in told.concepts if one.concept == concept]
    by = float(np.mean([one.margin - (one.decided_by or one.importance).value for one in estimates]))

    def moved(one: ConceptResult) -> ConceptResult:
        importance = _shifted(one.importance, by)
        decided_by = None if one.decided_by is None else _shifted(one.decided_by, by)
        relies = (decided_by or importance).low > one.margin and one.p_holm < 0.05
        verdict = Verdict.RELIES if relies else Verdict.INCONCLUSIVE
        return replace(one, concept=name, role=Role.NUISANCE, importance=importance, decided_by=decided_by, verdict=verdict)

    return [replace(told, concepts=(moved(told_of),), fairness=()) for told, told_of in zip(audits, estimates, strict=True)]


def _shifted(estimate: Estimate, by: float) -> Estimate:
    return Estimate(value=estimate.value + by, low=estimate.low + by, high=estimate.high + by)


def importances(audits: Sequence[AuditResult], setting: Setting) -> Mapping[float, float]:
    """True importance -> mean of what the audits say, pooled over concepts of equal truth."""
    found: dict[float, list[float]] = {}
    for told in audits:
        by_name = {one.concept: one.importance.value for one in told.concepts}
        for name, truth in zip(concepts_of(setting), setting.importances, strict=True):
            found.setdefault(truth, []).append(by_name[name])
    return {truth: float(np.mean(values)) for truth, values in found.items()}


def _concepts(setting: Setting) -> tuple:
    roles = [Role.PROTECTED if truth == FAIR else Role.NUISANCE for truth in setting.importances]
    if Role.PROTECTED not in roles:
        roles[-1] = Role.PROTECTED
    return (binary("core", Role.CORE), *(binary(name, role) for name, role in zip(concepts_of(setting), roles, strict=True)))


def _truth(weights: Floats) -> Floats:
    """Of the labels: a model relies rightly on what it relies on, and what it leaves aside would have been of use to it."""
    return np.where(weights == 0, CLUE, weights)


def _answers(weights: Floats, shown: NDArray, noise: Floats) -> Floats:
    """(n, J) shown values and (n,) noise -> (n,) favourable probability."""
    centre = np.array([PREVALENCE[at % len(PREVALENCE)] for at in range(len(weights))])
    return np.asarray(1 / (1 + np.exp(-GAIN * ((shown - centre) @ weights + noise))))


def _drop(weights: Floats, values: NDArray, noise: tuple[Floats, Floats], labels: NDArray[np.bool_], at: int) -> float:
    """Fall of the AUROC when one concept is permuted (rows come in no order: each takes its neighbour's) and the picture drawn again."""
    moved = values.copy()
    moved[:, at] = np.roll(moved[:, at], 1)
    return _auroc(_answers(weights, values, noise[0]), labels) - _auroc(_answers(weights, moved, noise[1]), labels)


def _auroc(scores: Floats, labels: NDArray[np.bool_]) -> float:
    hits = int(labels.sum())
    return float((rankdata(scores)[labels].sum() - hits * (hits + 1) / 2) / (hits * (len(labels) - hits)))

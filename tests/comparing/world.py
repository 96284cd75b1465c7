"""Two versions of a model on one bank whose pictures are a handful of numbers: the concept of every row, and what each version says."""

from dataclasses import replace

import numpy as np

from audit_plugin.bank.table import BankTable
from audit_plugin.core.results import AuditResult
from audit_plugin.core.values import Role
from audit_plugin.methods.depict.assemble import assemble
from audit_plugin.methods.depict.gates import skill
from audit_plugin.methods.depict.study import make_study
from audit_plugin.store.scores import target_of
from tests.bank.world import FakeScores
from tests.findings.examples import concept, gap, result
from tests.methods.world import Scorer, World, binary, build

CONCEPTS = (binary("mark", Role.ARTEFACT), binary("skin", Role.PROTECTED))
CLASSES = ("neg", "pos")


def world(n: int = 200, seed: int = 0) -> World:
    """Rows of two binary concepts that have nothing to do with the label, and their flips."""
    made = build(n, np.random.default_rng(seed), lambda shown, _noise: np.full(len(shown), 0.5), concepts=CONCEPTS)
    return replace(made, table=replace(made.table, digest="bank-1", readings={}))


def version(leans: float, *, noise: float = 0.5, seed: int = 0, fair: float = 0.0) -> Scorer:
    """Log-odds from the label of the picture's row, the mark (by ``leans``), the skin (by ``fair``) and noise of this version's own."""
    rng = np.random.default_rng(seed)

    def score(shown: np.ndarray, eps: np.ndarray) -> np.ndarray:
        odds = 1.5 * eps + leans * (shown[:, 0] - 0.5) + fair * (shown[:, 1] - 0.5) + noise * rng.normal(size=len(eps))
        return 1 / (1 + np.exp(-odds))

    return score


def labelled(made: World, seed: int = 0) -> World:
    """Labels that follow the row's noise, which is what a good model reads, and the mark."""
    rng = np.random.default_rng(seed + 7)
    odds = 2 * made.noise + 1.5 * (made.values[:, 0] - 0.5)
    labels = (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(int)
    rows = tuple(replace(row, labels={"task": CLASSES[label]}) for row, label in zip(made.table.rows, labels, strict=True))
    return replace(made, table=replace(made.table, rows=rows), labels=labels)


def answers(made: World, scorer: Scorer) -> dict[str, np.ndarray]:
    """Scores of every picture."""
    names = list(made.shown)
    p = scorer(np.stack([made.shown[name][0] for name in names]), np.array([made.shown[name][1] for name in names]))
    return {name: np.array([1 - value, value]) for name, value in zip(names, p.tolist(), strict=True)}


def audited(
    table: BankTable, scores: FakeScores, told: dict[str, np.ndarray], *, number: str, metric: str = "auroc", **changes: object
) -> AuditResult:
    """A stored audit of one version, as far as a comparison reads it."""
    made = result(
        run=f"2026112{number}T080000.000000Z-0000000{number}",
        bank="bank-1",
        version=number,
        label="task",
        classes=CLASSES,
        metric=metric,
    )
    study = make_study(
        assemble(table, told, label="task", classes=CLASSES), metric=metric, positive="pos", threshold=0.5, resamples=1, seed="x"
    )
    baseline, real = skill(study, study.arrays.baseline), skill(study, study.arrays.real)
    made = replace(
        made,
        real_score=real.value,
        generated_score=baseline.value,
        concepts=(concept("mark", Role.ARTEFACT, metric=metric), concept("skin", Role.PROTECTED, metric=metric)),
        fairness=(gap(),),
        provenance=replace(made.provenance, rows_digest="rows-1", model_config_hash=f"config-{number}"),
    )
    scores.add(target_of(made), told)
    return replace(made, **changes)

"""Flips that show another picture than the row's own: what that alone changes accuses nobody, what the concept changes is found."""

import numpy as np
import pytest

from audit_plugin.bank.pictured_generator import PicturesOptions, pictured_generator
from audit_plugin.bank.plan import PlanOptions, plan
from audit_plugin.bank.table import BankTable
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.results import AuditResult, GateStatus
from audit_plugin.core.values import Arm, Concept, Role, Row
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.methods.depict import DepictOptions, audit
from tests.findings.examples import result

CONCEPTS = ConceptSet(
    concepts=(
        Concept(name="disease", levels=("no", "yes"), phrases=("healthy", "ill"), role=Role.CORE),
        Concept(name="skin", levels=("light", "dark"), phrases=("light skin", "dark skin"), role=Role.PROTECTED),
    )
)
N = 200


def audited(number: int, *, skin: float) -> AuditResult:
    """Of a model whose answers have a noise of every picture's own, larger than what it makes of the disease; ``skin``: of that, in log-odds."""
    rng = np.random.default_rng(number)
    values = rng.integers(0, 2, (N, 2))
    rows = [
        Row(id=f"r{at}", values=(int(ill), int(dark)), image=f"{at}.png", labels={"task": ("neg", "pos")[ill]})
        for at, (ill, dark) in enumerate(values)
    ]
    made = pictured_generator(rows, CONCEPTS, rows, audit="a", options=PicturesOptions(size=8), replicates=1, identity="t")
    whole = plan(rows, CONCEPTS, generator="t", audit="a", options=PlanOptions(), drawable=made.shows)
    made.check(whole)
    names = np.array([row.id for row in rows])
    flips, placebo = {concept.name: np.tile(names, (2, 1)) for concept in CONCEPTS.concepts}, np.full(N, "", names.dtype)
    for probe in whole.probes:
        at, shown = int(probe.row[1:]), made._pick(probe.recipe.caption, probe.recipe.seed).id
        if probe.arm is Arm.FLIP:
            flips[probe.concept][probe.level, at] = shown
        elif probe.arm is Arm.PLACEBO:
            placebo[at] = shown
    log_odds = 3 * (values[:, 0] - 0.5) + skin * (values[:, 1] - 0.5) + 2 * rng.normal(size=N)
    yes = 1 / (1 + np.exp(-log_odds))
    table = BankTable(
        concepts=CONCEPTS.concepts,
        rows=tuple(rows),
        baseline=names,
        flips=flips,
        placebo=placebo,
        real=names,
        readings={
            name: {"disease": np.eye(2)[ill], "skin": np.eye(2)[dark]} for name, (ill, dark) in zip(names, values, strict=True)
        },
    )
    told = audit(
        table,
        {name: np.array([1 - p, p]) for name, p in zip(names, yes, strict=True)},
        label="task",
        classes=("neg", "pos"),
        seed=str(number),
        options=DepictOptions(resamples=100, adjusted_resamples=2),
    )
    parts = {name: getattr(told, name) for name in ("state", "concepts", "gates", "fairness", "leakage", "n_rows")}
    return conclude(result(**parts), default_policy())


@pytest.mark.parametrize("number", range(5))
def test_another_picture_alone_accuses_nobody(number):
    """Skin plays no part, and more than a fifth of decisions change with the picture."""
    found = audited(number, skin=0.0)
    rate = next(one for one in found.concepts if one.concept == "skin")
    assert rate.flip_rate.value > 0.2
    assert rate.flip_rate_excess.low < 0.02
    assert [one.summary for one in found.findings if one.concept == "skin"] == []
    assert all(gate.status is not GateStatus.FAIL for gate in found.gates if gate.name == "G6")


def test_what_the_concept_changes_beyond_that_is_found():
    found = audited(0, skin=4.0)
    assert {"fairness"} <= {one.kind for one in found.findings if one.concept == "skin"}
    assert any("flip_rate_excess" in one.metric for one in found.findings if one.concept == "skin")

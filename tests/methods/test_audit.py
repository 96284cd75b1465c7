from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import ConfigError, TableError
from audit_plugin.core.results import AuditResult, EngineCheck, EngineUse, Provenance, RunState, from_json, to_json
from audit_plugin.core.values import Role
from audit_plugin.methods import depict
from audit_plugin.methods.depict import DepictOptions, audit
from tests.methods.world import CONCEPTS, binary, build, linear, score

QUICK = DepictOptions(resamples=100, adjusted_resamples=10)
SCORER = linear((2, 1, 0))
MIXED = (binary("background", Role.NUISANCE), binary("shape", Role.CORE), binary("idle", Role.PROTECTED))


@pytest.fixture(scope="module")
def world():
    return build(150, np.random.default_rng(1), SCORER, concepts=MIXED, groups=("background+shape",))


def run(world, **options):
    settings = {"label": "task", "classes": ("neg", "pos"), "seed": "s", "options": QUICK} | options
    return audit(world.table, score(world, SCORER), **settings)


def test_the_headline_opens_with_the_verdict_and_what_must_not_matter(world):
    report = run(world)
    assert report.state is RunState.SUCCEEDED
    assert report.headline.startswith("Relies on background (nuisance, 0.")
    assert "\n" not in report.headline


def test_a_report_travels_as_json(world):
    """Every number is finite, whatever was or was not measured."""
    report = run(world)
    texts = dict.fromkeys(Provenance.__dataclass_fields__, "x")
    counts = {"images": 0, "unet_evaluations": 0, "classifier_queries": 0}
    check = EngineCheck(pictures=64, same=1.0, change=0.001, passed=True)
    use = EngineUse(engine="unet", backend="onnxruntime", precision="fp32", items=8, padded=1, seconds=0.5, parity_error=1e-6)
    others = {
        "versions": {},
        "seconds": {},
        "endpoint_notes": (),
        "tier_reasons": ("10 steps",),
        "engines": (use,),
        "engine_check": check,
    }
    result = AuditResult(
        run="1",
        state=report.state,
        model="m",
        version="1",
        label="task",
        classes=report.classes,
        metric=report.metric,
        real_score=report.real_score,
        generated_score=report.generated_score,
        n_rows=report.n_rows,
        headline=report.headline,
        concepts=report.concepts,
        groups=report.groups,
        gates=report.gates,
        leakage=report.leakage,
        placebo=report.placebo,
        fairness=report.fairness,
        findings=(),
        pairs=report.pairs,
        not_tested=report.not_tested,
        provenance=Provenance(**(texts | counts | others)),
    )
    assert from_json(to_json(result)) == result


def test_the_second_of_two_classes_is_favourable_unless_said_otherwise(world):
    there, back = run(world), run(world, positive="neg")
    assert there.classes == ("neg", "pos")
    assert back.classes == ("pos", "neg")
    assert there.concept("shape").importance.value == pytest.approx(back.concept("shape").importance.value)


def test_a_model_without_reliance_is_not_called_more_than_it_is():
    world = build(200, np.random.default_rng(2), linear((0.01, 0)), concepts=CONCEPTS[:2])
    report = audit(
        world.table,
        score(world, lambda shown, _: np.full(len(shown), 0.4)),
        label="task",
        classes=("neg", "pos"),
        seed="s",
        options=QUICK,
    )
    assert report.headline.startswith("No reliance: 2 negligible")
    assert "would have been seen" in report.headline


def test_replicates_show_the_noise_of_seeds(world):
    table = replace(world.table, replicates=world.table.placebo[None])
    report = run(replace(world, table=table))
    assert report.seed_noise == report.placebo
    assert set(report.placebo) == {"auroc", "flip_rate", "score_shift"}
    assert run(world).seed_noise == {}


def test_unknown_metric_and_class_are_configuration_errors(world):
    with pytest.raises(ConfigError, match="choose one of accuracy"):
        run(world, options=replace(QUICK, metric="f1"))
    with pytest.raises(ConfigError, match="'dog' is not among"):
        run(world, positive="dog")


def test_one_label_only_cannot_be_judged(world):
    rows = tuple(replace(row, labels={"task": "pos"}) for row in world.table.rows)
    with pytest.raises(TableError, match="same label"):
        run(replace(world, table=replace(world.table, rows=rows)))


def test_what_was_not_tested_is_said(world):
    assert run(world).not_tested == ("anything the concept list does not name",)
    bare = replace(world, table=replace(world.table, groups={}, changed={}, placebo=None))
    said = run(bare).not_tested
    assert any(line.startswith("gate G6: no placebo arm") for line in said)
    assert any(line.startswith("joint reliance") for line in said)


def test_the_public_names_are_sorted_and_there():
    assert sorted(depict.__all__) == list(depict.__all__)
    assert all(hasattr(depict, name) for name in depict.__all__)

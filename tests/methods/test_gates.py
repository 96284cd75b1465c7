from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.results import GateStatus, RunState, Verdict
from audit_plugin.core.values import Concept
from audit_plugin.methods.depict import DepictOptions, GateOptions, audit
from audit_plugin.methods.depict.gates import GateReport
from tests.methods.world import CONCEPTS, Generator, build, linear, reject, score

WEIGHTS = (3, 2, 1, 0.5, 0, 0)
ALL = "+".join(concept.name for concept in CONCEPTS)
QUICK = DepictOptions(resamples=100, adjusted_resamples=20)
FAIL, WARN, PASS, NOT_RUN = GateStatus.FAIL, GateStatus.WARN, GateStatus.PASS, GateStatus.NOT_RUN


def run(world, scorer, options=QUICK, **more):
    return audit(world.table, score(world, scorer), label="task", classes=("neg", "pos"), seed="s", options=options, **more)


def failed(report) -> set[str]:
    """Gates that failed; G3b only compares with the paper and fails whenever G3a does."""
    return {gate.name for gate in report.gates if gate.status is FAIL} - {"G3b"}


def gate(report, name, subject=""):
    return next(found for found in report.gates if found.name == name and found.subject.split("->")[0] == subject)


@pytest.mark.parametrize(("n", "seed"), [(150, 0), (200, 1)])
def test_a_perfect_renderer_passes(n, seed):
    """With a detector that errs in 1 % of pictures, and real images read and scored apart from the generated ones."""
    scorer = linear(WEIGHTS)
    world = build(n, np.random.default_rng([n, seed]), scorer, groups=(ALL,))
    report = run(world, scorer)
    assert not failed(report)
    assert {found.status for found in report.gates if found.name in {"G1", "G2", "G3a", "G4", "G5", "G6", "G7", "G8", "G9"}} == {
        PASS
    }
    assert report.state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("generator", "expected"),
    [
        (Generator(obeys=0.3), {"G3a"}),
        (Generator(leaks=0.3), {"G4"}),
        (Generator(fades=0.6), {"G1", "G2", "G3a"}),
    ],
    ids=["weak", "leaky", "fading"],
)
def test_each_failure_of_a_generator_triggers_its_gate(generator, expected):
    scorer = linear(WEIGHTS)
    report = run(build(200, np.random.default_rng(0), scorer, generator=generator, groups=(ALL,)), scorer)
    assert failed(report) == expected


def test_a_generator_without_shared_seeds_raises_the_noise_floor():
    """Same caption, other noise: the placebo's interval is wide, and every margin is widened to it."""
    scorer = linear(WEIGHTS, noise=3.0)
    report = run(build(200, np.random.default_rng(4), scorer, generator=Generator(fresh=True)), scorer)
    assert gate(report, "G6").status in {WARN, FAIL}
    placebo = report.placebo["auroc"]
    assert report.concepts[0].margin == pytest.approx(max(0.02, abs(placebo.low), abs(placebo.high)))


def test_a_placebo_that_moves_the_metric_breaks_the_audit():
    scorer = linear(WEIGHTS)
    world = build(200, np.random.default_rng(5), scorer)
    scores = score(world, scorer)
    scores |= {f"placebo-{row}": scores[f"placebo-{row}"][::-1] for row in range(200)}
    report = audit(world.table, scores, label="task", classes=("neg", "pos"), seed="s", options=QUICK)
    assert failed(report) == {"G6"}
    assert report.state is RunState.INVALID_GENERATOR
    assert {result.verdict for result in report.concepts} == {Verdict.NOT_ASSESSABLE}
    assert report.headline.startswith("Audit broken")


def test_a_broken_audit_says_what_to_do():
    """Faint concepts speak against the generator; else the model may rely on what is in real pictures alone."""
    scorer = linear(WEIGHTS)
    faint = run(build(200, np.random.default_rng(0), scorer, generator=Generator(fades=0.6)), scorer)
    assert "The generator does not draw c0" in faint.headline
    world = build(200, np.random.default_rng(0), scorer)
    idle = np.random.default_rng(1).permutation(200)
    scores = score(world, scorer)
    scores |= {f"base-{row}": scores[f"base-{idle[row]}"] for row in range(200)}
    report = audit(world.table, scores, label="task", classes=("neg", "pos"), seed="s", options=QUICK)
    assert report.state is RunState.INVALID_GENERATOR
    assert (
        "No concept is drawn badly (G2), so the model may rely on what no concept names: `audit-plugin discover`" in report.headline
    )
    unread = tuple(replace(one, status=NOT_RUN) if one.name == "G2" else one for one in report.gates)
    assert remedy_of(unread).startswith("Nothing shows whether concepts are drawn well (G2)")
    many = tuple(replace(one, status=FAIL) if one.name == "G2" else one for one in report.gates)
    assert "c0, c1, c2 and 3 more" in remedy_of(many)


def remedy_of(gates):
    nothing = {"compliance": {}, "leakage": {}, "support": {}, "coinciding": {}, "placebo": None}
    return GateReport(gates=gates, noise_floor=0.0, margin=0.02, **nothing).remedy


def test_few_rows_of_a_level_are_not_assessable():
    scorer = linear(WEIGHTS[:2])
    values = np.random.default_rng(6).integers(0, 2, (150, 2))
    values[:, 1] = np.arange(150) < 10
    report = run(build(150, np.random.default_rng(6), scorer, concepts=CONCEPTS[:2], values=values), scorer)
    assert failed(report) == {"G0"}
    assert report.concept("c1").verdict is Verdict.NOT_ASSESSABLE
    assert report.concept("c1").validity == "not_assessable"
    assert report.concept("c0").verdict is Verdict.RELIES


def test_too_few_rows_for_every_concept_is_insufficient_data():
    scorer = linear(WEIGHTS[:2])
    report = run(build(24, np.random.default_rng(7), scorer, concepts=CONCEPTS[:2]), scorer)
    assert report.state is RunState.INSUFFICIENT_DATA
    assert report.headline.startswith("Not assessable")


def test_a_detector_bad_on_real_images_fails_g5():
    scorer = linear(WEIGHTS[:2])
    report = run(build(200, np.random.default_rng(8), scorer, concepts=CONCEPTS[:2], detector=0.6), scorer)
    assert "G5" in failed(report)
    assert {result.verdict for result in report.concepts} == {Verdict.NOT_ASSESSABLE}
    assert report.state is RunState.INSUFFICIENT_DATA


def test_the_detectors_own_card_stands_in_for_real_images():
    scorer = linear(WEIGHTS[:2])
    world = build(150, np.random.default_rng(9), scorer, concepts=CONCEPTS[:2], real=False)
    report = run(world, scorer, detector_auroc={"c0": 0.99, "c1": 0.7})
    assert gate(report, "G5", "c0").status is PASS
    assert gate(report, "G5", "c1").status is FAIL
    assert gate(report, "G1").status is NOT_RUN
    assert any("G1" in line for line in report.not_tested)


def test_combinations_that_never_occur_fail_g7_and_leave_the_conditional_estimate():
    """Concept 1 is a copy of concept 0: every flip asks for a combination that nobody has seen."""
    scorer = linear(WEIGHTS[:2])
    report = run(build(300, np.random.default_rng(10), scorer, concepts=CONCEPTS[:2], copied=1.0), scorer)
    assert failed(report) == {"G7"}
    assert report.concept("c0").conditional.value == pytest.approx(0.0, abs=1e-12)
    assert report.concept("c0").verdict is not Verdict.RELIES


@pytest.mark.parametrize("groups", [(), (ALL,)], ids=["surrogate", "joint flip"])
def test_a_model_that_looks_elsewhere_fails_g8(groups):
    """Labels depend on something that no concept names, and so does the model."""
    world = build(200, np.random.default_rng(11), linear((0,) * 6), groups=groups)
    labels = (world.noise > 0).astype(int)
    rows = tuple(replace(row, labels={"task": ("neg", "pos")[y]}) for row, y in zip(world.table.rows, labels, strict=True))
    report = run(replace(world, table=replace(world.table, rows=rows)), linear((0,) * 6, noise=2.0))
    assert failed(report) == {"G8"}
    assert report.headline.startswith("No reliance shown")


def test_refused_flips_are_counted():
    scorer = linear(WEIGHTS)
    world = build(200, np.random.default_rng(12), scorer)
    names = [sha for sha in world.shown if sha.startswith("flip-c0")][:160]
    report = run(reject(world, names), scorer)
    assert gate(report, "G9").value == pytest.approx(160 / 1200)
    assert gate(report, "G9").status is FAIL
    assert report.concept("c0").n_rows == 40
    assert report.concept("c1").n_rows == 200


def test_without_a_detector_nothing_is_negligible():
    scorer = linear(WEIGHTS)
    world = build(200, np.random.default_rng(13), scorer)
    report = run(replace(world, table=replace(world.table, readings={})), scorer)
    assert {gate(report, name, "c5").status for name in ("G2", "G3a", "G3b", "G4", "G5")} == {NOT_RUN}
    assert report.concept("c5").verdict is Verdict.INCONCLUSIVE
    assert report.concept("c0").verdict is Verdict.RELIES


@pytest.mark.parametrize("kappa", [1.0, 0.7, 0.35])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_compliance_is_the_share_of_edits_made(kappa, levels):
    """κ of G3a for any number of levels, whatever their prevalence."""
    concept = Concept(name="colour", levels=tuple("abcd"[:levels]), phrases=tuple("abcd"[:levels]))
    values = np.random.default_rng(14).choice(levels, (600, 1), p=np.arange(1, levels + 1) / np.arange(1, levels + 1).sum())

    def scorer(shown, _):
        return np.where(shown[:, 0] == 0, 0.8, 0.3)

    world = build(
        600, np.random.default_rng(15), scorer, concepts=(concept,), values=values, generator=Generator(obeys=kappa), detector=1.0
    )
    found = run(world, scorer).concept("colour").compliance
    assert found.value == pytest.approx(kappa, abs=0.06)
    assert found.low - 1e-9 <= kappa <= found.high + 1e-9


def test_leakage_is_the_planted_share():
    scorer = linear(WEIGHTS)
    report = run(build(400, np.random.default_rng(16), scorer, generator=Generator(leaks=0.3), detector=1.0), scorer)
    assert report.leakage["c2"]["c3"] == pytest.approx(0.3, abs=0.07)
    assert report.leakage["c2"]["c4"] == pytest.approx(0.0, abs=1e-9)
    assert report.detector_drops["c2"]["c2"] > 0.4


def test_uncertainty_costs_at_most_one_step():
    """An interval across a threshold takes the worse status; switched off, the value alone decides."""
    scorer = linear(WEIGHTS)
    world = build(120, np.random.default_rng(17), scorer, generator=Generator(obeys=0.84))
    cautious = run(world, scorer)
    bold = run(world, scorer, replace(QUICK, gates=GateOptions(cautious=False)))
    for name in report_names(cautious):
        shown, value = gate(cautious, "G3a", name), gate(bold, "G3a", name)
        assert value.status is (PASS if value.value >= 0.8 else WARN)
        assert shown.status is (PASS if shown.low >= 0.8 else WARN)


def report_names(report):
    return [result.concept for result in report.concepts]

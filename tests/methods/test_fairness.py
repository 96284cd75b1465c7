from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.values import Concept, Role
from audit_plugin.methods.depict import DepictOptions, audit
from tests.methods.world import CONCEPTS, Generator, binary, build, linear, score

QUICK = DepictOptions(resamples=200, adjusted_resamples=10)
SEX = binary("sex", Role.PROTECTED)
PAIR = (SEX, CONCEPTS[1])


def figures(weights, seed=0, n=200, concepts=PAIR, **more):
    scorer = linear(weights)
    world = build(n, np.random.default_rng(seed), scorer, concepts=concepts, **more)
    report = audit(world.table, score(world, scorer), label="task", classes=("neg", "pos"), seed="s", options=QUICK)
    return report.fairness


def figure(found, name):
    return next(figure for figure in found if figure.figure == name)


def test_a_model_blind_to_the_group_raises_no_interventional_concern():
    found = figures((0, 3))
    assert figure(found, "flip_rate").estimate.value == 0
    assert figure(found, "counterfactually_fair_share").estimate.value == 1
    assert not any(shown.of_concern for shown in found if shown.family == "interventional")


def test_a_model_that_looks_at_the_group_is_of_concern():
    found = figures((2, 1))
    parity = figure(found, "counterfactual_parity_gap")
    assert parity.levels == ("no", "yes")
    assert parity.estimate.high < -0.05
    assert {"flip_rate_excess", "counterfactual_parity_gap", "counterfactual_odds_gap"} <= {
        shown.figure for shown in found if shown.of_concern
    }
    assert figure(found, "mean_score_shift").estimate.value < 0


def test_interventional_and_observational_figures_are_apart():
    """Observed selection differs through a related concept that the model uses; flipping the group itself changes nothing."""
    found = figures((0, 3), copied=0.9, n=300)
    gap = figure(found, "statistical_parity_difference")
    assert gap.family == "observational"
    assert gap.of_concern
    assert figure(found, "disparate_impact").of_concern
    assert not figure(found, "counterfactual_parity_gap").of_concern


def test_noise_alone_is_rarely_of_concern():
    """The largest of several gaps is lifted by chance; no figure may turn that into more than 5 % false concerns in 20 audits."""
    counts = Counter(shown.figure for seed in range(20) for shown in figures((0, 2), seed=seed, n=150) if shown.of_concern)
    assert max(counts.values(), default=0) <= 1


def test_unequal_errors_of_groups_are_of_concern():
    """The model follows the group, the labels do not."""
    world = build(300, np.random.default_rng(7), linear((0, 2)), concepts=PAIR)
    report = audit(world.table, score(world, linear((2, 2))), label="task", classes=("neg", "pos"), seed="s", options=QUICK)
    assert figure(report.fairness, "equal_opportunity_difference").of_concern
    assert figure(report.fairness, "equalised_odds_difference").of_concern


def test_leaking_edits_block_the_concern_and_say_so():
    found = figures((0, 3), generator=Generator(leaks=0.5))
    parity = figure(found, "flip_rate_excess")
    assert parity.estimate.low > 0.02
    assert not parity.of_concern
    assert any("G4 failed" in note for note in parity.notes)
    assert any(note.startswith("leakage: c1 +") for note in parity.notes)


def test_without_real_images_there_are_no_observational_figures():
    assert {shown.family for shown in figures((2, 1), real=False)} == {"interventional"}


def test_only_protected_concepts_have_figures():
    assert {shown.concept for shown in figures((2, 1))} == {"sex"}
    assert figures((2, 1), concepts=CONCEPTS[:2]) == ()


def test_every_pair_of_levels_is_compared():
    age = Concept(name="age", levels=("young", "middle", "old"), phrases=("", "", ""), role=Role.PROTECTED)
    found = figures((1, 1), concepts=(age, CONCEPTS[1]))
    pairs = [shown.levels for shown in found if shown.figure == "counterfactual_parity_gap"]
    assert pairs == [("young", "middle"), ("young", "old"), ("middle", "old")]


def test_gaps_of_rows_that_share_a_unit_are_bounded_by_units():
    """Every picture stands in five rows: the gaps are those of the pictures, and their limits too."""
    world = build(60, np.random.default_rng(3), linear((1, 1)), concepts=PAIR)
    table, wide = world.table, np.repeat(np.arange(60), 5)
    rows = [replace(table.rows[at], id=f"{at}-{copy}", unit=f"{at}") for at in range(60) for copy in range(5)]
    copied = replace(
        table,
        rows=tuple(rows),
        baseline=table.baseline[wide],
        flips={name: shas[:, wide] for name, shas in table.flips.items()},
        placebo=table.placebo[wide],
        real=table.real[wide],
    )
    both = [
        audit(each, score(world, linear((1, 1))), label="task", classes=("neg", "pos"), seed="s", options=QUICK).fairness
        for each in (table, copied)
    ]
    once, repeated = (figure(found, "counterfactual_parity_gap").estimate for found in both)
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))
    sides = [figure(found, "counterfactual_odds_gap") for found in both]
    assert sides[0].estimate.value == pytest.approx(sides[1].estimate.value)
    assert sides[1].estimate.low <= sides[1].estimate.value <= sides[1].estimate.high


def test_worst_group_is_named():
    found = figures((2, 1), n=300)
    worst = figure(found, "worst_group_accuracy")
    assert any("pos / " in note or "neg / " in note or "pooled" in note for note in worst.notes)
    assert figure(found, "gap_to_average").estimate.value >= 0


@pytest.mark.parametrize("metric", ["auroc", "accuracy"])
def test_without_a_favourable_class_only_symmetric_figures_are_shown(metric):
    world = build(150, np.random.default_rng(3), linear((1, 1)), concepts=PAIR)
    rows = tuple(replace(row, labels={"task": "xyz"[sum(row.values)]}) for row in world.table.rows)
    scores = {sha: np.eye(3)[what.sum()] * 0.7 + 0.1 for sha, (what, _, _) in world.shown.items()}
    table = replace(world.table, rows=rows)
    report = audit(table, scores, label="task", classes=("x", "y", "z"), seed="s", options=replace(QUICK, metric=metric))
    assert {shown.figure for shown in report.fairness} == {
        "flip_rate",
        "flip_rate_excess",
        "mean_score_shift",
        "counterfactually_fair_share",
        "worst_group_accuracy",
        "gap_to_average",
    }
    assert figure(report.fairness, "flip_rate").estimate.value == 1

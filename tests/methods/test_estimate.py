from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from audit_plugin.core.results import Verdict
from audit_plugin.core.values import Concept, Role
from audit_plugin.methods.depict import DepictOptions, audit
from audit_plugin.methods.depict.figures import drops
from audit_plugin.statistics.flip_table import FlipTable, importances
from audit_plugin.statistics.metrics import METRICS
from audit_plugin.statistics.unseen import NONE
from tests.methods.world import CONCEPTS, Generator, binary, build, linear, make_values, score

QUICK = DepictOptions(resamples=200, adjusted_resamples=40)
TINY = DepictOptions(resamples=60, adjusted_resamples=2)


def run(world, scorer, options=QUICK, **more):
    return audit(world.table, score(world, scorer), label="task", classes=("neg", "pos"), seed="s", options=options, **more)


def permuted_drops(world, scorer, at, rounds, rng):
    """Fall of AUROC over explicit permutations of one concept, in concept space."""
    auroc = METRICS["auroc"].performance

    def two(p):
        return np.stack([1 - p, p], 1)

    before = auroc(two(scorer(world.values, world.noise)), world.labels)
    out = []
    for _ in range(rounds):
        values = world.values.copy()
        values[:, at] = rng.permutation(values[:, at])
        out.append(before - auroc(two(scorer(values, world.noise)), world.labels))
    return np.array(out)


def test_a_perfect_generator_agrees_with_the_permutation_oracle():
    """Five targets with permuted weights and signs: Spearman at least 0.99, and the first concept is always right."""
    rng = np.random.default_rng(20)
    for _ in range(5):
        weights = rng.permutation((3, 2, 1, 0.5, 0, 0)) * rng.choice([-1, 1], 6)
        scorer = linear(tuple(weights))
        world = build(250, rng, scorer, detector=1.0)
        bare = replace(world, table=replace(world.table, readings={}))
        ours = np.array([result.importance.value for result in run(bare, scorer, TINY).concepts])
        oracle = np.array([permuted_drops(world, scorer, at, 40, rng).mean() if weights[at] else 0.0 for at in range(6)])
        assert spearmanr(rankdata(ours.round(12)), rankdata(oracle)).statistic >= 0.99
        assert ours.argmax() == oracle.argmax()


def test_models_that_use_no_concept_are_never_said_to_rely():
    """Constant, random and rest-only models over 60 runs: at most 5 % with any `relies`."""
    truth = linear((2, 0))
    models = (
        lambda shown, _: np.full(len(shown), 0.3),
        lambda shown, _: np.random.default_rng(len(shown)).random(len(shown)),
        lambda _, noise: 1 / (1 + np.exp(-noise)),
    )
    alarms = 0
    for turn in range(60):
        world = build(40, np.random.default_rng([21, turn]), truth, concepts=CONCEPTS[:2], real=False)
        world = replace(world, table=replace(world.table, readings={}))
        model = models[turn % 3]
        report = run(world, model, TINY)
        alarms += any(result.verdict is Verdict.RELIES for result in report.concepts)
    assert alarms <= 3


def test_an_unused_concept_is_rejected_at_the_nominal_rate():
    """Type I of the sign-flip test when a generator adds noise to every flip: 5 % within three standard errors."""
    scorer = linear((2, 0), noise=1.5)
    worlds = (
        build(60, np.random.default_rng([22, turn]), scorer, concepts=CONCEPTS[:2], generator=NOISY, real=False)
        for turn in range(40)
    )
    bare = (replace(world, table=replace(world.table, readings={})) for world in worlds)
    rejected = sum(run(world, scorer, TINY).concept("c1").p < 0.05 for world in bare)
    assert rejected <= 40 * 0.05 + 3 * np.sqrt(40 * 0.05 * 0.95)


NOISY = Generator(fresh=True)


def test_hurts_keeps_its_sign():
    """A model that errs wherever the concept is present is better when the concept is permuted away from its errors."""
    truth = linear((4.0, 0.0), noise=0.0)

    def perverse(shown, noise):
        return truth(1 - shown, noise)

    report = run(build(200, np.random.default_rng(23), truth, concepts=CONCEPTS[:2]), perverse)
    assert report.concept("c0").importance.high < 0
    assert report.concept("c0").verdict is Verdict.HURTS
    assert report.concept("c1").importance.value == 0


@pytest.mark.parametrize("metric", ["auroc", "accuracy", "brier", "log_loss"])
def test_a_concept_without_influence_differs_by_exactly_nothing(metric):
    scorer = linear((2, 1, 0))
    report = run(build(150, np.random.default_rng(24), scorer, concepts=CONCEPTS[:3]), scorer, replace(QUICK, metric=metric))
    idle = report.concept("c2")
    assert idle.importance.value == 0
    assert (idle.n_discordant, idle.p, idle.flip_rate.value, idle.score_shift.value) == (0, 1.0, 0.0, 0.0)
    assert idle.mde80 > 0
    assert report.concept("c0").verdict is Verdict.RELIES


def test_order_of_concepts_and_rows_changes_no_named_result():
    scorer = linear((2, 1, 0.5))
    world = build(120, np.random.default_rng(25), scorer, concepts=CONCEPTS[:3], detector=1.0)
    order = [2, 0, 1]
    rows = tuple(replace(row, values=tuple(row.values[at] for at in order)) for row in world.table.rows)
    turned = replace(world, table=replace(world.table, concepts=tuple(CONCEPTS[at] for at in order), rows=rows))
    there, back = run(world, scorer), run(turned, scorer)
    for name in ("c0", "c1", "c2"):
        a, b = there.concept(name), back.concept(name)
        assert (a.importance, a.p, a.verdict, a.compliance, a.rank_low) == (b.importance, b.p, b.verdict, b.compliance, b.rank_low)
        assert a.leak_adjusted.value == pytest.approx(b.leak_adjusted.value, abs=1e-9)
        assert there.leakage[name] == back.leakage[name]


def test_equal_arguments_give_equal_reports():
    scorer = linear((2, 1))
    world = build(80, np.random.default_rng(26), scorer, concepts=CONCEPTS[:2])
    assert run(world, scorer) == run(world, scorer)


def test_additive_numbers_hang_together():
    """Δ = p(1-p)(D- + D+) and Δ* = (D- + D+)/4 for a binary concept and a mean loss."""
    scorer = linear((2, 1))
    world = build(200, np.random.default_rng(27), scorer, concepts=CONCEPTS[:2])
    result = run(world, scorer, replace(QUICK, metric="brier")).concept("c0")
    p, both = result.levels["yes"], result.removed.value + result.added.value
    assert result.importance.value == pytest.approx(p * (1 - p) * both)
    assert result.prevalence_free.value == pytest.approx(both / 4)
    assert result.importance.low < result.importance.value < result.importance.high


def test_weak_edits_are_at_least_what_is_shown():
    """Scaling by compliance recovers the effect; a weak edit is neither ranked nor negligible."""
    scorer = linear((2, 1.5, 0), noise=0.0)
    seed = 28
    full = run(build(400, np.random.default_rng(seed), scorer, concepts=CONCEPTS[:3]), scorer).concept("c0")
    weak = run(
        build(400, np.random.default_rng(seed), scorer, concepts=CONCEPTS[:3], generator=Generator(obeys=(0.4, 1, 0.4))), scorer
    )
    own = weak.concept("c0")
    assert own.validity == "weak_edit"
    assert (own.rank_low, own.rank_high, weak.concept("c1").rank_low) == (0, 0, 1)
    assert own.importance.value < 0.7 * full.importance.value
    assert own.compliance_scaled.value == pytest.approx(full.importance.value, rel=0.25)
    assert weak.concept("c2").verdict is Verdict.INCONCLUSIVE


def test_compliance_near_zero_is_not_divided_by():
    scorer = linear((2, 1))
    world = build(200, np.random.default_rng(29), scorer, concepts=CONCEPTS[:2], generator=Generator(obeys=0.05))
    assert run(world, scorer).concept("c0").compliance_scaled is None


def test_a_leak_into_a_used_concept_does_not_alert_alone():
    """Flips of the idle c5 also flip c0: plain edits say `relies`, leak-adjusted ones do not."""
    scorer = linear((3, 2, 1, 0.5, 0, 0))
    report = run(build(250, np.random.default_rng(30), scorer, generator=Generator(leaks=0.4)), scorer)
    own = report.concept("c5")
    assert own.importance.low > own.margin
    assert own.leak_adjusted.value == pytest.approx(0, abs=0.02)
    assert own.validity == "leaks_into=c0"
    assert own.verdict is Verdict.INCONCLUSIVE
    assert any("generator is the reason" in note for note in own.notes)
    assert report.concept("c0").verdict is Verdict.RELIES


def test_rows_of_one_unit_widen_the_interval():
    """Ten copies of every row carry the information of one."""
    scorer = linear((2, 1))
    small = build(40, np.random.default_rng(31), scorer, concepts=CONCEPTS[:2], real=False)
    copies = np.tile(np.arange(40), 4)
    table = small.table
    grown = replace(
        table,
        rows=tuple(replace(table.rows[at], id=f"{at}-{turn}", unit=f"u{at}") for turn, at in enumerate(copies)),
        baseline=table.baseline[copies],
        flips={name: shas[:, copies] for name, shas in table.flips.items()},
        placebo=table.placebo[copies],
    )
    for metric in ("auroc", "brier"):
        one = run(small, scorer, replace(QUICK, metric=metric)).concept("c0")
        many = run(replace(small, table=grown), scorer, replace(QUICK, metric=metric)).concept("c0")
        assert many.se == pytest.approx(one.se, rel=0.25)
        assert many.p == pytest.approx(one.p, abs=0.03)


def test_several_classes_are_judged_one_against_the_rest():
    concepts = (Concept(name="shape", levels=("a", "b", "c"), phrases=("a", "b", "c")), binary("idle", Role.NUISANCE))
    rng = np.random.default_rng(32)
    values = make_values(200, rng, concepts)
    world = build(200, rng, lambda shown, _: np.full(len(shown), 0.5), concepts=concepts, values=values)
    rows = tuple(replace(row, labels={"task": "xyz"[row.values[0]]}) for row in world.table.rows)
    table = replace(world.table, rows=rows)
    scores = {sha: np.eye(3)[what[0]] * 0.7 + 0.1 for sha, (what, _, _) in world.shown.items()}
    report = audit(table, scores, label="task", classes=("x", "y", "z"), seed="s", options=QUICK)
    assert report.generated_score == 1.0
    assert report.concept("shape").importance.value == pytest.approx(0.5, abs=0.02)
    assert report.concept("shape").verdict is Verdict.RELIES
    assert report.concept("idle").verdict is Verdict.NEGLIGIBLE
    one = audit(table, scores, label="task", classes=("x", "y", "z"), positive="y", seed="s", options=QUICK)
    assert one.classes == ("not y", "y")
    assert one.concept("shape").verdict is Verdict.RELIES


def test_joint_flips_find_what_single_ones_share():
    scorer = linear((2, 2, 0))
    world = build(200, np.random.default_rng(33), scorer, concepts=CONCEPTS[:3], groups=("c0+c1",))
    report = run(world, scorer)
    joint = report.concept("c0+c1")
    assert joint.verdict is Verdict.RELIES
    assert joint.importance.value > max(report.concept("c0").importance.value, report.concept("c1").importance.value)
    assert set(joint.levels) == {"changed", "unchanged"}


@pytest.mark.parametrize("metric", ["auroc", "accuracy", "brier"])
def test_sampled_levels_are_unbiased(metric):
    """Drawing two of seven other levels with importance factors gives the full importance on average."""
    rng = np.random.default_rng(34)
    n, levels = 150, 8
    values, labels = rng.integers(0, levels, n), rng.integers(0, 2, n)
    p = 1 / (1 + np.exp(-(rng.normal(size=(n, 1)) + (labels[:, None] * 2 - 1) * (np.arange(levels)[None, :] == values[:, None]))))
    flips = np.stack([1 - p, p], -1)
    table = FlipTable(baseline=flips[np.arange(n), values], flips=flips, values=values, labels=labels)
    full = importances(table, METRICS[metric], np.ones((1, n)))[0]
    found = []
    for _ in range(90):
        factor = np.zeros((n, levels))
        for row in range(n):
            factor[row, rng.choice(np.delete(np.arange(levels), values[row]), 2, replace=False)] = 3.5
        found.append(drops(table, METRICS[metric], np.ones((1, n)), factor)[0])
    assert np.mean(found) == pytest.approx(full, abs=4 * np.std(found) / np.sqrt(90) + 2e-3)


def test_the_deployed_threshold_decides():
    scorer = linear((2, 0))
    world = build(150, np.random.default_rng(35), scorer, concepts=CONCEPTS[:2])
    strict = run(world, scorer, replace(QUICK, metric="accuracy", threshold=0.99))
    assert (
        strict.concept("c0").flip_rate.value < run(world, scorer, replace(QUICK, metric="accuracy")).concept("c0").flip_rate.value
    )


def test_few_changed_rows_are_said_and_tested_exactly():
    """Only six rows change their correctness: Clopper-Pearson interval instead of a normal one."""

    def scorer(shown, noise):
        return np.where((shown[:, 0] == 1) & (noise > 1.8), 0.9, 0.1)

    world = build(150, np.random.default_rng(36), linear((2, 0)), concepts=CONCEPTS[:2])
    result = run(world, scorer, replace(QUICK, metric="accuracy")).concept("c0")
    assert 0 < result.n_discordant < 20
    assert any("Clopper-Pearson" in note for note in result.notes)
    assert result.importance.low < 0 < result.importance.high


@pytest.mark.parametrize("role", [Role.CORE, Role.CONTEXT])
def test_a_shortcut_tied_to_what_defines_the_label_is_named(role):
    """The label is concept 0, the model looks at concept 1, which copies it in 85 % of rows: conditioning on the label would hide that."""
    rng = np.random.default_rng(9)
    concepts = (binary("object", role), binary("shortcut", Role.NUISANCE))
    world = build(300, rng, lambda shown, _: shown[:, 0].astype(float), concepts=concepts, copied=0.85)
    result = run(world, linear((0, 3))).concept("shortcut")
    assert result.verdict is Verdict.RELIES
    assert not any("unusual combinations" in note for note in result.notes)


def test_what_moves_the_metric_is_never_called_negligible():
    """Two cues that nearly always agree: within strata of one the other does nothing, but permuting it does."""
    rng = np.random.default_rng(11)
    concepts = (binary("object"), binary("first", Role.NUISANCE), binary("second", Role.NUISANCE))
    values = rng.integers(2, size=(300, 3))
    values[:, 1] = np.where(rng.random(300) < 0.8, values[:, 0], values[:, 1])
    values[:, 2] = np.where(rng.random(300) < 0.97, values[:, 1], 1 - values[:, 1])
    world = build(300, rng, lambda shown, _: 0.1 + 0.8 * shown[:, 0], concepts=concepts, values=values)
    result = run(world, linear((0, 1, 2))).concept("second")
    assert result.importance.low > 0.1
    assert abs(result.conditional.value) < result.margin
    assert result.verdict is Verdict.INCONCLUSIVE


def test_an_interval_of_the_auroc_allows_for_rows_that_were_not_drawn():
    """No score depends on the second concept: a bootstrap's interval has no width, ours is what the rows of a class allow."""
    scorer = linear((2, 0))
    world = build(100, np.random.default_rng(37), scorer, concepts=CONCEPTS[:2])
    result = run(world, scorer).concept("c1")
    fewest = min(np.bincount(world.labels))
    half = 0.5 * (1 - min(result.levels.values())) * (1 - 0.025 ** (1 / fewest))
    assert result.n_discordant == 0
    assert result.importance.value == 0
    assert (result.importance.low, result.importance.high) == pytest.approx((-half, half))
    assert result.conditional == result.importance
    assert result.mde80 > result.importance.high
    assert result.verdict is Verdict.NEGLIGIBLE
    few = run(build(60, np.random.default_rng(38), scorer, concepts=CONCEPTS[:2]), scorer).concept("c1")
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "cannot be declared negligible: the rarest class has too few rows (units)" in few.notes


def test_an_interval_that_many_rows_widen_is_the_bootstraps(monkeypatch):
    """Nothing is added where the rows that do change say more than those that might yet come."""
    world = build(200, np.random.default_rng(37), linear((2, 0)), concepts=CONCEPTS[:2])
    found = run(world, linear((2, 0)))
    monkeypatch.setattr("audit_plugin.methods.depict.figures.unseen", lambda *_: NONE)
    plain = run(world, linear((2, 0)))
    assert found.concept("c0") == plain.concept("c0")
    assert plain.concept("c1").importance.low == plain.concept("c1").importance.high == 0
    assert found.concept("c1").importance.low < 0 < found.concept("c1").importance.high


def test_balanced_levels_and_strata_allow_for_more():
    """A level that one row in ten has weighs five times as much where levels are balanced; within strata a row is turned more often."""
    rng = np.random.default_rng(43)
    values = rng.integers(2, size=(300, 3))
    values[:, 1] = rng.random(300) < 0.1
    values[:, 2] = np.where(rng.random(300) < 0.9, values[:, 0], 1 - values[:, 0])
    scorer = linear((2, 0, 0))
    world = build(300, rng, scorer, concepts=CONCEPTS[:3], values=values)
    report = run(world, scorer)
    rare, tied = report.concept("c1"), report.concept("c2")
    assert rare.prevalence_free.value == rare.importance.value == 0
    assert rare.prevalence_free.high > 1.5 * rare.importance.high
    assert tied.conditional.value == tied.importance.value == 0
    assert tied.conditional.high > 1.5 * tied.importance.high


def test_few_changed_rows_of_a_mean_loss_bound_all_its_figures():
    """Exact limits where hardly a row changed; nothing that would have been found lies within them, and no sibling is surer."""
    changed = []
    for least in (9.0, 2.2, 1.4):

        def scorer(shown, noise, least=least):
            return np.where((shown[:, 0] == 1) & (noise > least), 0.9, 0.1)

        world = build(150, np.random.default_rng(36), linear((2, 0)), concepts=CONCEPTS[:2])
        result = run(world, scorer, replace(QUICK, metric="accuracy")).concept("c0")
        changed.append(result.n_discordant)
        half = (result.importance.high - result.importance.low) / 2
        assert result.mde80 > half
        assert result.se >= half / 1.97
        for other in (result.prevalence_free, result.compliance_scaled):
            assert other.high - other.low >= 2 * half * (1 - 1e-9)
    assert changed == sorted(set(changed))
    assert 0 == changed[0] < changed[-1] < 20


@pytest.mark.parametrize("metric", ["accuracy", "brier"])
def test_a_dozen_units_that_all_react_have_the_interval_of_their_differences(metric):
    """Every patient reacts, each by as much as it does: the interval is that of the influence by units, and is found."""
    scorer = linear((2, 1), noise=0.3)
    world = build(240, np.random.default_rng(3), linear((2, 1)), concepts=CONCEPTS[:2])
    rows = tuple(replace(row, unit=f"patient {at // 20}") for at, row in enumerate(world.table.rows))
    found = run(replace(world, table=replace(world.table, rows=rows)), scorer, replace(QUICK, metric=metric)).concept("c0")
    assert found.importance.high - found.importance.value == pytest.approx(1.96 * found.se, rel=1e-3)
    assert found.importance.value - found.importance.low == pytest.approx(1.96 * found.se, rel=1e-3)
    assert found.verdict is Verdict.RELIES


def test_units_count_and_not_their_rows():
    """Two hundred rows of forty patients say as much of other patients as forty rows."""
    scorer = linear((2, 0))
    world = build(200, np.random.default_rng(40), scorer, concepts=CONCEPTS[:2])
    rows = tuple(replace(row, unit=f"patient {at // 5}") for at, row in enumerate(world.table.rows))
    alone = run(world, scorer).concept("c1")
    shared = run(replace(world, table=replace(world.table, rows=rows)), scorer).concept("c1")
    assert shared.importance.value == alone.importance.value == 0
    assert shared.importance.high > 2 * alone.importance.high
    assert shared.mde80 > shared.importance.high


@pytest.mark.parametrize(("positives", "hidden"), [(0.5, 0.015), (0.1, 0.08)])
def test_intervals_of_the_auroc_cover_what_few_rows_show(positives, hidden):
    """A few positives of a kind lose their place without the second concept: a fifth of the samples has none, and a bootstrap is sure of zero."""
    rng = np.random.default_rng(41)

    def drawn(n):
        values = rng.integers(2, size=(n, 3))
        values[:, 0] = rng.random(n) < positives
        values[:, 2] = (values[:, 0] == 1) & (rng.random(n) < hidden)
        values[values[:, 2] == 1, 1] = 1
        return build(n, rng, lambda shown, _: shown[:, 0].astype(float), concepts=CONCEPTS[:3], values=values)

    def scorer(shown, noise):
        lost = (shown[:, 2] == 1) & (shown[:, 1] == 0)
        return 0.2 + 0.6 * np.where(lost, 0, shown[:, 0]) + 0.02 * np.tanh(noise)

    truth = 0.5 * 0.5 * hidden  # half of the permutations take it away, and then half of the negatives come first
    found = [run(drawn(200), scorer, TINY).concept("c1") for _ in range(40)]
    assert np.mean([one.importance.value == 0 for one in found]) > 0.07
    assert np.mean([one.importance.low <= truth <= one.importance.high for one in found]) >= 0.93
    if truth == pytest.approx(0.02):  # the margin itself
        assert not any(one.verdict is Verdict.NEGLIGIBLE for one in found)


def test_a_group_is_worth_what_its_members_are_together():
    """Only the first concept matters: the two together are worth what it alone is, whoever the donors are."""
    scorer = linear((2, 0))
    world = build(600, np.random.default_rng(42), scorer, concepts=CONCEPTS[:2], groups=("c0+c1",))
    report = run(world, scorer)
    assert report.concept("c0+c1").importance.value == pytest.approx(report.concept("c0").importance.value, rel=0.12)

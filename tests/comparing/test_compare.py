"""Two versions on the same pictures: what changed is found, what did not is called so, and pairing is what makes it sharp."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.comparing import CompareOptions, compare
from audit_plugin.comparing.judging import Row, decided
from audit_plugin.comparing.paired import _importance, importance, performance
from audit_plugin.comparing.pairing import NotPairedError, PairedStudies, pair
from audit_plugin.core.comparison_results import Change, comparison_from_json, comparison_to_json
from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import RunState, Verdict
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.findings.release import FailOn, judge
from audit_plugin.methods.depict.gates import skill
from audit_plugin.methods.depict.study import minus
from audit_plugin.statistics.bootstrap import unit_weights
from audit_plugin.statistics.change import outside_p, unpaired_difference
from audit_plugin.statistics.intervals import Interval
from tests.bank.world import FakeScores
from tests.comparing.world import answers, audited, labelled, version, world
from tests.findings.examples import clean, concept, gate, result
from tests.findings.trees import node, tree

FEW = CompareOptions(resamples=150)


def two(first, second, *, n=120, seed=0, metric="auroc"):
    """Two audits on one bank, with their answers."""
    made, scores = labelled(world(n, seed), seed), FakeScores()
    runs = [
        audited(made.table, scores, answers(made, one), number=str(at), metric=metric) for at, one in enumerate((first, second), 1)
    ]
    return made.table, scores, runs


def row(comparison, quantity, subject="mark"):
    return next(one for one in comparison.differences if (one.quantity, one.subject) == (quantity, subject))


@pytest.fixture(scope="module")
def worse():
    """The second version leans on the mark three times as much."""
    table, scores, (old, new) = two(version(1.0, seed=1), version(5.0, seed=2), n=300)
    return compare(old, new, table, scores, FEW), (old, new, table, scores)


def test_a_planted_regression_is_found(worse):
    comparison, _ = worse
    found = row(comparison, "importance")
    assert comparison.paired
    assert found.paired
    assert found.verdict is Change.REGRESSED
    assert found.difference.low > found.margin
    assert found.new - found.old == pytest.approx(found.difference.value)
    assert "mark (importance)" in comparison.headline


def test_in_the_other_direction_it_is_an_improvement(worse):
    _, (old, new, table, scores) = worse
    back = compare(new, old, table, scores, FEW)
    assert row(back, "importance").verdict is Change.IMPROVED
    assert row(back, "importance").difference.value == pytest.approx(-row(worse[0], "importance").difference.value)


def test_the_same_model_twice_is_unchanged():
    """Same answers to every picture: no interval, no doubt."""
    table, scores, (old, new) = two(version(2.0, seed=1), version(2.0, seed=1))
    comparison = compare(old, new, table, scores, FEW)
    assert {one.verdict for one in comparison.differences if one.paired} == {Change.UNCHANGED}
    assert "Both gave the same answer to every picture." in comparison.notes


def test_versions_that_order_all_pictures_alike_differ_by_what_other_rows_might_show():
    """Other numbers, the same order: the difference is zero on these rows, with an interval that is not."""
    again = version(2.0, seed=1)
    table, scores, (old, new) = two(version(2.0, seed=1), lambda shown, eps: 0.9 * again(shown, eps))
    judged = row(compare(old, new, table, scores, FEW), "importance")
    assert judged.difference.value == 0
    assert judged.difference.low < 0 < judged.difference.high


def test_few_rows_that_do_not_differ_do_not_say_that_none_would():
    """Other answers, the same decisions: of 25 rows that is no proof that flips, or the metric, are unchanged; of 120 it is nearer to one."""
    for n in (25, 120):
        again = version(2.0, seed=1)
        table, scores, (old, new) = two(version(2.0, seed=1), lambda shown, eps, of=again: (1 - 1e-5) * of(shown, eps), n=n)
        comparison = compare(old, new, table, scores, FEW)
        for quantity in ("flip_rate", "performance"):
            judged = [one for one in comparison.differences if one.quantity == quantity and one.paired]
            assert judged
            for one in judged:
                assert one.difference.value == 0
                assert one.difference.low < 0 < one.difference.high
                assert n == 120 or one.verdict is Change.UNDECIDED


def test_a_mean_loss_about_which_no_row_differs_may_differ_about_others():
    """The same decisions on all rows, other probabilities: limits are exact ones of none seen, on either side."""
    again = version(2.0, seed=1)
    table, scores, runs = two(version(2.0, seed=1), lambda shown, eps: (1 - 1e-5) * again(shown, eps), metric="accuracy")
    found = performance(pair(*runs, table, scores, resamples=200, seed="x"), real=False, margin=0.02)
    assert found.wide.value == 0
    assert found.wide.high == -found.wide.low == pytest.approx(1 - 0.0125 ** (1 / found.n))


@pytest.mark.parametrize("metric", ["brier", "log_loss"])
def test_a_mean_loss_about_which_all_rows_differ_has_the_interval_of_its_resamples(metric):
    """What the largest possible loss of a row that was not drawn might do says nothing where every row's loss changed."""
    table, scores, runs = two(version(0.5, noise=0.2, seed=1), version(0.5, noise=1.5, seed=2), n=200, metric=metric)
    both = pair(*runs, table, scores, resamples=200, seed="x")
    own = minus(skill(both.new, both.new.arrays.baseline), skill(both.old, both.old.arrays.baseline)).interval()
    found = performance(both, real=False, margin=0.02)
    assert (found.wide.low, found.wide.high) == (own.low, own.high)


@pytest.mark.parametrize("metric", ["auroc", "brier"])
def test_a_paired_interval_is_narrower_than_an_unpaired_one_on_the_same_data(metric):
    """Both versions share what is hard about a row; the unpaired one is made of each version's own bootstrap."""
    table, scores, (old, new) = two(version(4.0, noise=0.3, seed=1), version(4.5, noise=0.3, seed=2), metric=metric)
    both = pair(old, new, table, scores, resamples=150, seed="compare")
    paired = importance(both, "mark", margin=0.02)
    each = [own_interval(study, "mark") for study in (both.old, both.new)]
    unpaired = unpaired_difference(*each)
    assert paired.wide.high - paired.wide.low < 0.8 * (unpaired.high - unpaired.low)
    assert paired.wide.value == pytest.approx(unpaired.value)


def own_interval(study, name):
    return _importance(study, study.arrays.flips[name]).interval()


def test_no_regression_is_seen_between_two_of_the_same_kind_over_200_seeds():
    """A/A with noise of their own: the interval covers zero about as often as it says, and hardly ever is anything called worse."""
    table, scores, runs = two(version(1.0, seed=1), version(1.0, seed=2), n=80, metric="brier")
    both = pair(*runs, table, scores, resamples=2, seed="x")
    covered, worse = [], 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        weights = unit_weights(both.old.arrays.units, 200, rng)
        redrawn = PairedStudies(old=noisy(both.old, weights, rng), new=noisy(both.old, weights, rng), identical=False)
        judged = importance(redrawn, "mark", margin=0.01)
        covered.append(judged.wide.low <= 0 <= judged.wide.high)
        (told,) = decided([Row(quantity="importance", subject="mark", judged=judged, worse="up")])
        worse += told.verdict is Change.REGRESSED
    assert np.mean(covered) > 0.9
    assert worse <= 4


def noisy(study, weights, rng):
    """The same model with noise of its own on every answer."""
    flip = study.arrays.flips["mark"]
    odds = np.log(flip.scores[..., 1] / flip.scores[..., 0]) + rng.normal(size=flip.scores.shape[:2])
    p = 1 / (1 + np.exp(-odds))
    told = np.stack([1 - p, p], -1)
    baseline = told[np.arange(len(p)), flip.own]
    arrays = replace(study.arrays, baseline=baseline, flips={"mark": replace(flip, scores=told)})
    return replace(study, arrays=arrays, weights=weights)


def test_other_pictures_are_said_to_be_other_pictures():
    table, scores, (old, new) = two(version(1.0, seed=1), version(1.2, seed=2))
    new = replace(new, provenance=replace(new.provenance, bank_digest="bank-2"))
    comparison = compare(old, new, table, scores, FEW)
    assert not comparison.paired
    assert comparison.why_not == "the banks differ (bank-1 then, bank-2 now)"
    assert not any(one.paired for one in comparison.differences)
    with pytest.raises(ConfigError, match="not paired: the banks differ"):
        compare(old, new, table, scores, CompareOptions(paired_only=True))


@pytest.mark.parametrize("change", ["rebuilt", "forgotten", "tampered"])
def test_a_pairing_that_does_not_give_the_stored_numbers_is_refused(change):
    """A bank that was rebuilt, answers that are gone, or answers of something else: never a silent wrong comparison."""
    table, scores, (old, new) = two(version(1.0, seed=1), version(1.2, seed=2))
    if change == "rebuilt":
        table = replace(table, digest="other")
    elif change == "forgotten":
        scores.scores.clear()
    else:
        new = replace(new, generated_score=new.generated_score + 0.01)
    with pytest.raises(NotPairedError):
        pair(old, new, table, scores, resamples=10, seed="x")


def test_real_images_that_have_changed_since_leave_the_rest_paired():
    """Their files have other digests now, and no answers."""
    table, scores, (old, new) = two(version(1.0, seed=1), version(5.0, seed=2))
    other = replace(table, real=np.array([f"new-{at}" for at in range(len(table.rows))]))
    other.real[0] = table.real[0]
    comparison = compare(old, new, other, scores, FEW)
    assert row(comparison, "importance").paired
    assert row(comparison, "performance", "real images").verdict is Change.NOT_ASSESSABLE


def test_the_order_of_the_classes_is_found():
    """A favourable class in the first column of the answers: the stored performance tells."""
    table, scores, runs = two(version(1.0, seed=1), version(5.0, seed=2))
    turned = FakeScores()
    turned.scores = {key: vector[::-1] for key, vector in scores.scores.items()}
    first, second = (compare(*runs, table, one, FEW) for one in (scores, turned))
    assert row(first, "importance") == row(second, "importance")


def test_performance_and_fairness_are_paired_too():
    table, scores, (old, new) = two(version(1.0, seed=1, noise=0.1), version(1.0, seed=2, noise=3.0, fair=2.5), n=400)
    comparison = compare(old, new, table, scores, FEW)
    real = row(comparison, "performance", "real images")
    assert real.paired
    assert real.verdict is Change.REGRESSED
    gaps = [one for one in comparison.differences if one.quantity == "fairness" and one.paired]
    assert {one.about.split(" ")[0] for one in gaps} == {"counterfactual_parity_gap", "statistical_parity_difference"}
    assert gaps[0].verdict is Change.REGRESSED


def test_findings_and_gates_are_told_by_what_they_are_about():
    """Also of two different models: the ids of their findings differ."""
    old = conclude(result(concepts=(concept("a"), concept("b"), concept("d")), diffex=tree(node())), default_policy())
    harmless = replace(concept("d"), verdict=Verdict.NEGLIGIBLE)
    told = result(
        run="20261123T080000.000000Z-00000002", model="spam", concepts=(concept("b"), concept("c"), harmless), gates=(gate("G4"),)
    )
    comparison = compare(old, conclude(told, default_policy()), None, FakeScores(), FEW)
    said = {(one.status, one.concept) for one in comparison.findings}
    assert said >= {("new", "c"), ("persisting", "b"), ("resolved", "d"), ("unseen", "a"), ("unseen", node().node)}
    judged = judge(conclude(told, default_policy()), comparison, {FailOn.REGRESSION})
    assert "not looked for in this audit" in judged.of("error")[0].message
    assert {(one.name, one.old, one.new) for one in comparison.gates} == {("G1", "pass", "absent"), ("G4", "absent", "pass")}
    assert "Only the first audit asked about a." in comparison.notes


def test_nodes_are_compared_by_their_stored_intervals():
    """Without a stored drift against this very run, as two independent estimates."""
    old, new = result(diffex=tree(node())), result(run="20261123T080000.000000Z-00000002", diffex=tree(node()))
    effects = [one for one in compare(old, new, None, FakeScores(), FEW).differences if one.quantity == "effect"]
    assert effects
    assert all(one.difference.value == 0 and not one.paired for one in effects)


def test_a_broken_audit_is_said_to_be_broken():
    old, new = result(concepts=(clean(),)), result(run="20261123T080000.000000Z-00000002", state=RunState.FAILED, concepts=())
    assert any("second audit did not work" in note for note in compare(old, new, None, FakeScores(), FEW).notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"run": result().run}, "with itself"), ({"label": "other"}, "judged against"), ({"metric": "brier"}, "in brier")],
)
def test_different_questions_are_not_compared(change, said):
    with pytest.raises(ConfigError, match=said):
        compare(result(), replace(result(run="20261123T080000.000000Z-00000002"), **change), None, FakeScores(), FEW)


def test_a_comparison_comes_back_as_it_was(worse):
    assert comparison_from_json(comparison_to_json(worse[0])) == worse[0]
    with pytest.raises(StoreError, match="not a comparison"):
        comparison_from_json("{}")


def test_holm_keeps_one_of_many_from_being_called_worse_by_luck():
    """The p of a single row is judged together with all of its kind."""
    assert outside_p(np.array([0.03, 0.04, 0.05, np.nan]), 0.02) == pytest.approx(2 / 4)
    assert outside_p(np.array([np.nan]), 0.02) == 1.0
    found = unpaired_difference(Interval(0.0, -0.03, 0.03), Interval(0.1, 0.06, 0.14))
    assert Estimate(value=found.value, low=found.low, high=found.high).low == pytest.approx(0.05)

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import BankError, TableError, TargetOutputError
from audit_plugin.methods.depict import assemble
from tests.methods.world import CONCEPTS, build, linear, reject, score

SCORER = linear((2, 1))


@pytest.fixture(scope="module")
def world():
    return build(40, np.random.default_rng(1), SCORER, concepts=CONCEPTS[:2], groups=("c0+c1",))


@pytest.fixture(scope="module")
def scores(world):
    return score(world, SCORER)


def put(world, scores, classes=("neg", "pos"), label="task"):
    return assemble(world.table, scores, label=label, classes=classes)


def test_own_level_is_the_baseline_bit_for_bit(world, scores):
    arrays = put(world, scores)
    for name, flip in arrays.flips.items():
        own = flip.scores[np.arange(40), arrays.values[name]]
        assert (own - arrays.baseline == 0).all()


def test_scores_stand_at_their_rows_and_levels(world, scores):
    flip = put(world, scores).flips["c1"]
    row = int(np.flatnonzero(world.values[:, 1] == 0)[0])
    np.testing.assert_array_equal(flip.scores[row, 1], scores[f"flip-c1-1-{row}"])
    np.testing.assert_array_equal(put(world, scores).real[row], scores[f"real-{row}"])


def test_class_order_is_the_callers(world, scores):
    """Labels are indices into the classes as given."""
    there, back = put(world, scores), put(world, scores, classes=("pos", "neg"))
    np.testing.assert_array_equal(there.labels, 1 - back.labels)


@pytest.mark.parametrize(
    ("classes", "label", "said"),
    [
        (("cat", "dog"), "task", "not among the model's classes"),
        (("neg", "pos"), "other", "no label 'other'; label columns: \\['task'\\]"),
        (("neg", "neg"), "task", "two different class names"),
    ],
)
def test_labels_must_fit_the_model(world, scores, classes, label, said):
    with pytest.raises(TableError, match=said):
        put(world, scores, classes, label)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([np.nan, 0.5], "not finite"),
        ([-3.0, 4.0], "logits"),
        ([0.2, 0.3, 0.5], "2 classes"),
    ],
)
def test_bad_scores_are_refused(world, scores, vector, said):
    with pytest.raises(TargetOutputError, match=said):
        put(world, {**scores, "base-3": np.array(vector)})


def test_a_missing_score_is_never_a_silent_gap(world, scores):
    with pytest.raises(BankError, match=r"1 'c0' flip pictures have no score of this model, e\.g\. (?!np)"):
        put(world, {sha: value for sha, value in scores.items() if sha != f"flip-c0-{1 - world.values[5, 0]}-5"})


def test_a_flip_that_was_never_drawn_is_an_error(world, scores):
    flips = {name: shas.copy() for name, shas in world.table.flips.items()}
    flips["c0"][1 - world.values[5, 0], 5] = ""
    with pytest.raises(BankError, match="never drawn"):
        assemble(replace(world.table, flips=flips), scores, label="task", classes=("neg", "pos"))


def test_rejected_pictures_drop_their_row_for_that_concept_only(world, scores):
    broken = reject(world, [f"flip-c0-{1 - world.values[5, 0]}-5"])
    arrays = put(broken, scores)
    assert not arrays.flips["c0"].usable[5]
    assert arrays.flips["c0"].usable.sum() == 39
    assert arrays.flips["c1"].usable.all()
    assert arrays.flips["c0"].rejected.sum() == 1


def test_a_rejected_baseline_drops_the_row_everywhere(world, scores):
    arrays = put(reject(world, ["base-7"]), scores)
    assert not arrays.usable[7]
    assert not any(flip.usable[7] for flip in arrays.flips.values())
    assert not arrays.groups["c0+c1"].usable[7]


def test_real_images_need_no_scores_but_not_half_of_them(world, scores):
    without = {sha: value for sha, value in scores.items() if not sha.startswith("real")}
    assert put(world, without).real is None
    with pytest.raises(BankError, match="all or none"):
        put(world, {**without, "real-1": np.array([0.5, 0.5])})


def test_levels_left_undrawn_on_purpose_are_no_gap(world, scores):
    """Sampled levels have factor 0 where they were not drawn."""
    flips = {name: shas.copy() for name, shas in world.table.flips.items()}
    factor = np.ones((2, 40))
    flips["c0"][1 - world.values[5, 0], 5] = ""
    factor[1 - world.values[5, 0], 5] = 0
    arrays = assemble(replace(world.table, flips=flips, factors={"c0": factor}), scores, label="task", classes=("neg", "pos"))
    assert arrays.flips["c0"].usable.all()
    assert not arrays.flips["c0"].drawn[5].any()

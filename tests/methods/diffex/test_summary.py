import numpy as np
import pytest

from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.methods.diffex import RowTable, spurious_hits
from audit_plugin.methods.diffex.estimate import class_effect
from audit_plugin.methods.diffex.summary import (
    coverage_ranking,
    missed_bound,
    null_shift,
    placebo_effect,
    stability,
    sufficiency,
)
from tests.methods.diffex.world import images, row

NO_FLIPS = np.zeros((3, 10), dtype=bool)


def test_coverage_takes_the_node_that_explains_most_of_what_is_left():
    """Node a explains images 0-5 and b nearly the same ones, c the rest: a, then c, and b never."""
    falls = np.zeros((3, 10))
    falls[0, :6], falls[1, :5], falls[2, 6:] = 3.0, 2.9, 2.5
    steps = coverage_ranking(["a", "b", "c"], falls, NO_FLIPS)
    assert [(one.node, one.explained) for one in steps] == [("a", 0.6), ("c", 1.0)]


def test_small_falls_add_up_to_the_cap():
    steps = coverage_ranking(["a", "b", "c"], np.full((3, 10), 0.8) + np.array([[0.02], [0.01], [0.0]]), NO_FLIPS)
    assert [one.explained for one in steps] == [0.0, 0.0, 1.0]


def test_a_flip_explains_an_image_below_the_cap():
    flips = NO_FLIPS.copy()
    flips[0, :] = True
    steps = coverage_ranking(["a", "b", "c"], np.full((3, 10), 0.1), flips)
    assert len(steps) == 1
    assert steps[0].explained == 1


def test_rises_explain_nothing():
    assert coverage_ranking(["a", "b", "c"], np.full((3, 10), -1.0), NO_FLIPS) == ()


def table_of(moves, **fields):
    """Node -> change of the first logit per image."""
    return RowTable(
        rows=tuple(
            row(f"cat-{at}", path, (1.0, 0.0), (1.0 + by, 0.0), **fields)
            for path, change in moves.items()
            for at, by in change.items()
        ),
        kind=ScoreKind.LOGITS,
    )


def test_sufficiency_counts_images_that_any_of_the_first_moves():
    """Node a flips 0-4, b moves 3-9 by more than 0.2 in probability but flips none, c moves nothing."""
    moves = {
        "a": dict.fromkeys(range(5), -2.0),
        "b": {at: -0.95 if at < 10 else 0.0 for at in range(3, 20)},
        "c": dict.fromkeys(range(20), 0.01),
    }
    table = table_of(moves)
    effects = [class_effect(table, path, images(20)) for path in "abc"]
    assert sufficiency([*effects[:2], None, effects[2]], images(20), 0) == pytest.approx((0.25, 0.5, 0.5, 0.5))


def test_what_the_search_missed_is_bounded_from_above():
    assert missed_bound([]) is None
    assert missed_bound([0.1] * 59) == pytest.approx(0.05, abs=0.001)
    assert missed_bound([0.1] * 19 + [0.4]) > 0.2


def test_stability_is_high_for_clear_effects_and_low_for_none():
    rng = np.random.default_rng(0)

    def halves(spread):
        moves = {f"n{k}": dict(enumerate(spread * k + rng.normal(0, 0.2, 40))) for k in range(15)}
        table = table_of(moves)
        effects = [class_effect(table, path, images(40)) for path in moves]
        return stability(effects, images(40), 0, np.random.default_rng(1))

    clear, none = halves(0.2), halves(0.0)
    assert clear.tau > 0.9
    assert clear.jaccard > 0.7
    assert abs(none.tau) < 0.4
    assert none.splits == 20
    assert stability([], images(40), 0, rng) is None


def test_the_null_edit_is_compared_with_the_image():
    rows = [row(f"cat-{at}", path, (0.9, 0.0), (0.0, 0.0), original=(1.0, 0.0)) for at in range(40) for path in ("a", "b")]
    table = RowTable(rows=tuple(rows), kind=ScoreKind.LOGITS)
    found = null_shift(rows, images(40), table, 0, np.random.default_rng(0))
    assert found.value == pytest.approx(-0.1)
    assert null_shift([row("cat-0", "a", (1.0, 0.0), (1.0, 0.0))], images(40), table, 0, np.random.default_rng(0)) is None


def test_the_placebos_own_effect_is_reported():
    table = RowTable(
        rows=tuple(
            row(f"cat-{at}", name, (1.0, 0.0), (0.8 + 0.01 * at, 0.0), placebo=True) for at in range(40) for name in ("x", "y")
        ),
        kind=ScoreKind.LOGITS,
    )
    assert placebo_effect(table, images(40), 0, np.random.default_rng(0)).value == pytest.approx(-0.2 + 0.195)
    assert placebo_effect(RowTable(rows=(), kind=ScoreKind.LOGITS), images(40), 0, np.random.default_rng(0)) is None


def test_feature_only_images_that_are_taken_for_the_class():
    """30 of 100 are hits; real images stand out on most."""
    rng = np.random.default_rng(2)
    real = np.stack([rng.normal(3, 1, 80), np.zeros(80)], 1)
    cue = np.stack([np.where(np.arange(100) < 30, 1.0, -1.0), np.zeros(100)], 1)
    found = spurious_hits(real, cue, class_name="cat", column=0, kind=ScoreKind.LOGITS)
    assert found.hit_ratio.value == 0.3
    assert 0.2 < found.hit_ratio.low < 0.3 < found.hit_ratio.high < 0.4
    assert 0.95 < found.auc < 1
    assert found.average_precision > 0.95
    assert found.enough
    assert not spurious_hits(real, cue[:74], class_name="cat", column=0, kind=ScoreKind.LOGITS).enough

import numpy as np
import pytest

from audit_plugin.methods.depict import DepictOptions, audit
from tests.methods.world import CONCEPTS, build, linear, reject, score

SCORER = linear((2, 1))
QUICK = DepictOptions(resamples=20, adjusted_resamples=2)


@pytest.fixture(scope="module")
def world():
    return build(60, np.random.default_rng(1), SCORER, concepts=CONCEPTS[:2])


def pairs(world, seed="s", options=QUICK):
    report = audit(world.table, score(world, SCORER), label="task", classes=("neg", "pos"), seed=seed, options=options)
    return [pair for pair in report.pairs if pair.concept == "c0"]


def test_twelve_by_seed_and_six_extremes(world):
    shown = pairs(world)
    assert [pair.choice for pair in shown] == ["random"] * 12 + ["extreme"] * 6
    assert [pair.row for pair in shown[:12]] == [pair.row for pair in pairs(world)[:12]]
    assert [pair.row for pair in shown[:12]] != [pair.row for pair in pairs(world, "another")[:12]]


def test_extremes_are_the_largest_changes(world):
    scores = score(world, SCORER)
    flips = [f"flip-c0-{1 - world.values[row, 0]}-{row}" for row in range(60)]
    changes = sorted((abs(scores[flip][1] - scores[f"base-{row}"][1]) for row, flip in enumerate(flips)), reverse=True)
    shown = [abs(pair.score_after - pair.score_before) for pair in pairs(world) if pair.choice == "extreme"]
    np.testing.assert_allclose(shown, changes[:6])


def test_a_pair_says_what_changed_and_what_the_model_said(world):
    for pair in pairs(world):
        row = int(pair.row[1:])
        before, after = score(world, SCORER)[pair.before_sha256], score(world, SCORER)[pair.after_sha256]
        assert (pair.level_from, pair.level_to) == (("no", "yes"), ("yes", "no"))[world.values[row, 0]]
        assert (pair.score_before, pair.score_after) == pytest.approx((before[1], after[1]))
        assert (pair.decision_before, pair.decision_after) == tuple("pos" if s[1] >= 0.5 else "neg" for s in (before, after))
        assert pair.before_caption == f"caption of base-{row}"


def test_refused_pictures_are_never_shown(world):
    refused = [f"flip-c0-{1 - world.values[row, 0]}-{row}" for row in range(50)]
    shown = pairs(reject(world, refused))
    assert {pair.row for pair in shown} <= {f"r{row}" for row in range(50, 60)}

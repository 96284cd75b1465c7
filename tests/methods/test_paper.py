import numpy as np
import pytest

from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.methods.depict import DepictOptions, audit, paper_importance
from tests.methods.world import CONCEPTS, build, linear, score

SCORER = linear((2, 1, 0))
NAMES = CONCEPTS[:3]


def two_columns(p):
    return np.stack([1 - p, p], 1)


def draw(values, seeds):
    """The renderer: the seed decides the noise, and nothing else does."""
    noise = np.array([np.random.default_rng(seed).normal() for seed in seeds])
    return two_columns(SCORER(values, noise))


@pytest.fixture(scope="module")
def world():
    return build(120, np.random.default_rng(1), SCORER, concepts=NAMES)


def published(world, **options):
    rows = [row.id for row in world.table.rows]
    return paper_importance(draw, NAMES, world.values, world.labels, rows=rows, seed="s", **options)


def test_images_are_counted_as_published(world):
    """N (1 + J R) images with fresh seeds: 234,248 for the published demo's 623 rows and 15 concepts."""
    assert published(world).images == 120 * (1 + 3 * 25)
    assert published(world, permutations=4).images == 120 * (1 + 3 * 4)


def test_shared_seeds_draw_changed_rows_only(world):
    shared = published(world, fresh_seeds=False)
    assert shared.images < 0.6 * 120 * (1 + 3 * 25)
    assert shared.concepts["c2"].mean == 0


def test_the_sign_is_kept(world):
    """An idle concept scatters around zero instead of being lifted by absolute values."""
    drops = published(world).concepts["c2"].drops
    assert min(drops) < 0 < max(drops)


def test_both_modes_find_the_same_on_one_generator(world):
    """On identical noise the flip table is the mean over permutations."""
    noise = {row.id: float(world.noise[at]) for at, row in enumerate(world.table.rows)}

    def same(values, seeds):
        return two_columns(SCORER(values, np.array([noise[by_seed[seed]] for seed in seeds])))

    by_seed = {seed_of("s", row): row for row in noise}
    rows = list(noise)
    paper = paper_importance(same, NAMES, world.values, world.labels, rows=rows, seed="s", permutations=200, fresh_seeds=False)
    options = DepictOptions(resamples=20, adjusted_resamples=2)
    report = audit(world.table, score(world, SCORER), label="task", classes=("neg", "pos"), seed="s", options=options)
    assert paper.baseline == pytest.approx(report.generated_score)
    assert paper.ranking[:2] == ("c0", "c1")
    for name in ("c0", "c1", "c2"):
        assert paper.concepts[name].mean == pytest.approx(report.concept(name).importance.value, abs=5e-3)


def test_equal_seeds_give_equal_results(world):
    assert published(world, permutations=3) == published(world, permutations=3)

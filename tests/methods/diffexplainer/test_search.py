"""Searches on oracles vector -> logit whose optimum is known; a seed shifts all scores, and each a little on its own."""

import numpy as np
import pytest

from audit_plugin.methods.diffexplainer import cma_search, label_objective, nes_search

DIM = 16


class Oracle:
    """Logit 5.5 at most, at a known point of length 1 per coordinate; counts its rows and keeps what it was asked."""

    def __init__(self, seed=0, noise=0.3, shared=1.0):
        self.best = np.random.default_rng(seed).choice([-1.0, 1.0], DIM)
        self.noise, self.shared, self.rows, self.asked = noise, shared, 0, []

    def truth(self, vectors):
        scale = np.linspace(0.5, 1.5, DIM)
        return 5.5 - 5 * ((vectors - self.best) ** 2 * scale).mean(axis=-1)

    def noisy(self, vectors, seeds):
        """The same vector under the same seed scores the same; a seed's own logit, and its own taste for vectors."""
        common = self.shared * np.sin(seeds * 12.9898 + 1)
        taste = np.stack([np.sin(seeds * (k + 1.7) + k) for k in range(DIM)], axis=1)
        return common + self.noise * (vectors * taste).sum(axis=1) / np.sqrt(DIM)

    def __call__(self, vectors, seeds):
        self.rows += len(vectors)
        self.asked.append((vectors.copy(), seeds.copy()))
        return self.truth(vectors) + self.noisy(vectors, seeds)

    def gain(self, vector):
        """Share of what can be gained from the base prompt."""
        start = self.truth(np.zeros(DIM))
        return (self.truth(vector) - start) / (5.5 - start)


@pytest.mark.parametrize("seed", range(5))
def test_cma_reaches_most_of_the_gain_in_500_queries(seed):
    oracle = Oracle(seed)
    result = cma_search(oracle, DIM, seed=seed, budget=500)
    assert oracle.gain(result.vector) >= 0.85
    assert result.queries == oracle.rows <= 500


@pytest.mark.parametrize("seed", range(5))
def test_nes_reaches_most_of_the_gain_in_2000_queries(seed):
    oracle = Oracle(seed)
    result = nes_search(oracle, DIM, seed=seed, budget=2000)
    assert oracle.gain(result.vector) >= 0.85
    assert result.queries == oracle.rows <= 2000


@pytest.mark.parametrize("options", [{"ranked": True}, {"pairs": 1, "signs": True}])
def test_ranked_steps_and_random_signs_climb_too(options):
    oracle = Oracle(1)
    assert oracle.gain(nes_search(oracle, DIM, seed=1, budget=1000, **options).vector) >= 0.7


def labels_of(oracle):
    """A hit where the logit, moved a little by the augmentation, is above 2.5."""
    return lambda vectors, seeds, augmentations: oracle(vectors, seeds) + 0.3 * np.sin(augmentations * 2.0 + seeds) > 2.5


def test_labels_alone_lead_away_from_the_start():
    oracle = Oracle(2, shared=2.5)
    result = cma_search(label_objective(labels_of(oracle)), DIM, seed=0, budget=8000)
    share_at_start = label_objective(labels_of(oracle))(np.zeros((1, DIM)), np.array([123]))[0]
    assert oracle.gain(result.vector) > 0.5
    assert result.value > share_at_start + 0.4
    assert 0 <= result.value <= 1


def test_labels_cost_every_picture_and_augmentation():
    oracle = Oracle()
    objective = label_objective(labels_of(oracle), seeds=8, augmentations=4)
    result = cma_search(objective, DIM, seed=0, budget=3000, restarts=1)
    own = oracle.rows
    assert objective.cost == 32
    assert result.queries == own <= 3000
    _, seeds = oracle.asked[-1]
    assert len(seeds) == 13 * 32
    assert len(np.unique(seeds)) == 13 * 8, "100 pictures are 13 rows of 8 different ones"


@pytest.mark.parametrize("search", [cma_search, nes_search])
def test_a_generation_shares_seeds_that_never_return(search):
    oracle = Oracle()
    search(oracle, DIM, seed=0, budget=700, draws=2)
    used = [set(seeds.tolist()) for _, seeds in oracle.asked]
    assert {len(seeds) for seeds in used[:-1]} == {2}
    assert len(used[-1]) == 100
    assert sum(map(len, used)) == len(set.union(*used))


@pytest.mark.parametrize("search", [cma_search, nes_search])
def test_the_seed_decides_everything_and_numpy_s_own_numbers_stay(search):
    np.random.seed(5)  # noqa: NPY002 - this state must survive
    before = np.random.get_state()[1:3]  # noqa: NPY002
    first, again, other = (search(Oracle(), DIM, seed=seed, budget=400) for seed in (1, 1, 2))
    after = np.random.get_state()[1:3]  # noqa: NPY002
    np.testing.assert_array_equal(first.vector, again.vector)
    assert first.trace == again.trace
    assert not np.allclose(first.vector, other.vector)
    assert after[1] == before[1]
    np.testing.assert_array_equal(after[0], before[0])


@pytest.mark.parametrize("search", [cma_search, nes_search])
def test_no_coordinate_leaves_the_box(search):
    """Although the score rises without end, and from a start on the edge."""
    asked = []
    result = search(
        lambda vectors, _: asked.append(vectors) or vectors.sum(axis=1), 4, seed=0, budget=900, box=1.0, start=np.full(4, 1.0)
    )
    assert max(np.abs(vectors).max() for vectors in asked) <= 1
    assert result.vector == pytest.approx(np.ones(4), abs=0.15)


def test_the_value_is_that_of_the_vector_on_fresh_seeds_without_the_penalty():
    oracle = Oracle(3)
    result = cma_search(oracle, DIM, seed=3, budget=500)
    vectors, seeds = oracle.asked[-1]
    np.testing.assert_array_equal(vectors, np.tile(result.vector, (100, 1)))
    assert result.value == pytest.approx(float((oracle.truth(vectors) + oracle.noisy(vectors, seeds)).mean()))
    assert abs(result.value - oracle.truth(result.vector)) < 4 * result.se


def test_two_runs_share_a_larger_budget_and_the_better_end_wins():
    """Two peaks: the end that is answered is on the higher one of those found."""

    def peaks(vectors, seeds):
        low, high = (np.exp(-((vectors - place) ** 2).sum(axis=1) / 2) for place in (-1.5, 1.5))
        return 3 * low + 5 * high + 0.05 * np.sin(seeds)

    options = {"population": 8, "sigma": 0.5, "least": 100, "final": 20}
    one = cma_search(peaks, 2, seed=7, budget=240, restarts=1, **options)
    two = cma_search(peaks, 2, seed=7, budget=600, restarts=2, **options)
    assert one.value < 4, "a single run was caught by the lower peak"
    assert two.value > 4
    assert two.queries <= 600


def test_a_run_goes_on_from_a_given_start():
    oracle = Oracle()
    result = nes_search(oracle, DIM, seed=0, budget=300, start=0.9 * oracle.best)
    assert oracle.gain(result.vector) > 0.95


@pytest.mark.parametrize("search", [cma_search, nes_search])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 110}, "holds no"),
        ({"dim": 0}, "at least 1"),
        ({"box": 0.0}, "box above 0"),
        ({"start": np.zeros(3)}, "the start must be 16 numbers"),
        ({"start": np.full(DIM, 4.0)}, "within ±3"),
        ({"objective": lambda vectors, _: np.full(len(vectors), np.nan)}, "finite scores"),
        ({"objective": lambda *_: np.zeros(3)}, "one per row"),
    ],
)
def test_what_cannot_be_searched_is_refused(search, options, message):
    with pytest.raises(ValueError, match=message):
        search(**{"objective": Oracle(), "dim": DIM, "seed": 0, "budget": 500} | options)

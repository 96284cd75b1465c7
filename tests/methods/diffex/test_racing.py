import numpy as np
import pytest

from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffex import RaceOptions, parent_gated, racing, random_order
from audit_plugin.methods.diffex.shrinkage import node_mean, shrunk_means
from tests.methods.diffex.world import images, node

IMAGES = images(64)


class Table:
    """The specification's synthetic table: 30 items of 20 leaves, sparse leaf effects, per-image sd 0.15."""

    def __init__(self, seed, items=30, leaves=20, protected=()):
        rng = np.random.default_rng(seed)
        effects = np.where(rng.random((items, leaves)) < 0.1, rng.normal(0, 0.2, (items, leaves)), 0.0)
        self.truth = {f"i{i}": float(effects[i].mean()) for i in range(items)}
        self.truth |= {f"i{i}/l{k}": float(effects[i, k]) for i in range(items) for k in range(leaves)}
        self.nodes = [node(path, NodeKind.PROTECTED if path in protected else NodeKind.NUISANCE) for path in sorted(self.truth)]
        noise = rng.normal(0, 0.15, (len(self.nodes), 64))
        self.d = {one.path: self.truth[one.path] + noise[at] for at, one in enumerate(self.nodes)}
        self.asked = []

    def ask(self, paths, some):
        self.asked.append((tuple(paths), tuple(some)))
        return np.array([self.d[path][[int(image.split("-")[1]) for image in some]] for path in paths])

    def precision(self, race):
        """Share of the ten truly strongest leaves among the first ten leaves that come out."""
        leaves = [path for path in self.truth if "/" in path]
        best = set(sorted(leaves, key=lambda path: -abs(self.truth[path]))[:10])
        kept = sorted((path for path in race.kept if "/" in path), key=lambda path: -abs(race.means[path]))
        return len(best & set(kept[:10])) / 10


def test_racing_finds_the_strongest_with_half_the_edits():
    """Top-10 precision at least 0.75 at no more than half of exhaustive edits (600 leaves, 32 images); others get less for as much."""
    raced, gated, blind = [], [], []
    for seed in range(6):
        table = Table(seed)
        found = racing(table.ask, table.nodes, IMAGES)
        assert found.edits <= 0.5 * 600 * 32
        raced.append(table.precision(found))
        gated.append(table.precision(parent_gated(table.ask, table.nodes, IMAGES, edits=found.edits)))
        rng = np.random.default_rng(seed)
        blind.append(table.precision(random_order(table.ask, table.nodes, IMAGES[:32], rng, edits=found.edits)))
    assert np.mean(raced) >= 0.75
    assert max(np.mean(gated), np.mean(blind)) < np.mean(raced) - 0.2


def test_protected_nodes_are_never_dropped():
    protected = [f"i{at}/l0" for at in range(30)]
    table = Table(1, protected=protected)
    found = racing(table.ask, table.nodes, IMAGES)
    assert set(protected) <= set(found.kept)
    assert len(set(found.kept) - set(protected)) == 20
    assert set(found.kept) | set(found.eliminated) == set(table.truth)


def test_all_nodes_in_a_round_see_the_same_images_and_images_double():
    table = Table(2, items=10, leaves=10)
    found = racing(table.ask, table.nodes, IMAGES, options=RaceOptions(keep=5))
    assert [one.images for one in found.rounds][:3] == [4, 8, 16]
    seen = [image for _, some in table.asked for image in some]
    assert seen == IMAGES[: len(seen)]
    assert found.edits == sum(len(paths) * len(some) for paths, some in table.asked)


def test_a_clear_lead_ends_the_race_early():
    """Two nodes with huge effects and no noise to speak of: the others are dropped by their bounds, not only by halving."""
    nodes = [node(f"n{at:02}") for at in range(40)]
    rng = np.random.default_rng(3)

    def ask(paths, some):
        return np.array([(5.0 if path in {"n00", "n01"} else 0.0) + rng.normal(0, 0.01, len(some)) for path in paths])

    found = racing(ask, nodes, IMAGES, options=RaceOptions(keep=2))
    assert set(found.kept) == {"n00", "n01"}
    assert [(one.images, one.alive) for one in found.rounds] == [(4, 2)]


def test_missing_effects_count_with_their_parents():
    """A leaf that was never valid stands where its parent stands; a container without data is stepped over."""
    nodes = [node("a"), node("a/b"), node("c"), node("c/d")]
    means = {
        "a": node_mean(np.array([1.0, 1.1, 0.9])),
        "a/b": node_mean(np.full(3, np.nan)),
        "c/d": node_mean(np.array([0.1, 0.0])),
    }
    shrunk = shrunk_means(nodes, means)
    assert shrunk["a/b"] == shrunk["a"] != 0
    assert abs(shrunk["c/d"]) <= 0.05
    assert shrunk["c"] == 0


def test_shrinkage_follows_its_formula():
    """One family around a parent: e = (tau^2 m + v/n e_parent) / (tau^2 + v/n)."""
    rng = np.random.default_rng(4)
    nodes = [node("p"), *(node(f"p/{at}") for at in range(6))]
    values = {one.path: rng.normal(0.3 * at, 1.0, 25) for at, one in enumerate(nodes)}
    means = {path: node_mean(x) for path, x in values.items()}
    shrunk = shrunk_means(nodes, means)
    pooled = np.mean([x.var(ddof=1) for x in values.values()])
    error = {path: max(x.var(ddof=1), pooled) / 25 for path, x in values.items()}
    children = [f"p/{at}" for at in range(6)]
    tau2 = np.var([values[path].mean() for path in children], ddof=1) - np.mean([error[path] for path in children])
    expected = (tau2 * values["p/3"].mean() + error["p/3"] * shrunk["p"]) / (tau2 + error["p/3"])
    assert shrunk["p/3"] == pytest.approx(expected)


def test_a_limit_ends_the_race_with_what_is_known():
    table = Table(5, items=5, leaves=5)
    spent = []

    def ask(paths, some):
        spent.append(len(paths) * len(some))
        return table.ask(paths, some)

    found = racing(ask, table.nodes, IMAGES, options=RaceOptions(keep=3), halted=lambda: sum(spent) >= 100)
    assert len(found.kept) == 3
    assert found.edits == sum(spent) < 250


def test_without_images_or_nodes_nothing_is_asked():
    table = Table(6, items=2, leaves=2)
    assert racing(table.ask, table.nodes, []).edits == 0
    assert racing(table.ask, [], IMAGES).kept == ()
    assert parent_gated(table.ask, [], IMAGES).kept == ()


def test_the_parent_gate_hides_a_leaf_of_the_other_sign():
    """An item whose own edit does nothing is never opened: what the race is for."""
    nodes = [node("hat"), node("hat/beanie"), node("hat/cap"), *(node(f"x{at}") for at in range(3))]
    effects = {"hat": 0.0, "hat/beanie": 0.9, "hat/cap": -0.9} | {f"x{at}": 0.2 for at in range(3)}

    def ask(paths, some):
        return np.array([np.full(len(some), effects[path]) + np.linspace(-0.01, 0.01, len(some)) for path in paths])

    options = RaceOptions(keep=2, beam=3)
    assert "hat/beanie" not in parent_gated(ask, nodes, IMAGES[:8], options=options).kept
    assert set(racing(ask, nodes, IMAGES[:8], options=options).kept) == {"hat/beanie", "hat/cap"}

import numpy as np
import pytest

from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.edits import Split
from audit_plugin.methods.diffex import CombineOptions, RowTable
from audit_plugin.methods.diffex.combine import judge_set, minimal_flip_set, proper_subsets, search_sets, with_subsets
from tests.methods.diffex.world import images, node, row, tree_of

TREE = tree_of(node("a"), node("a/x", group="gx"), node("b"), node("c"), node("red", group="colour"), node("blue", group="colour"))
IMAGES = images(40)


def additive(effects, bonus=None, noise=0.05):
    """Joint effects: the sum of the nodes', plus a bonus of some sets."""
    rng = np.random.default_rng(0)

    def ask(sets, some):
        means = [sum(effects[path] for path in nodes) + (bonus or {}).get(nodes, 0.0) for nodes in sets]
        return np.array(means)[:, None] + rng.normal(0, noise, (len(sets), len(some)))

    return ask


def test_sets_are_of_different_groups_and_branches():
    effects = dict.fromkeys(["a", "a/x", "b", "red", "blue"], 1.0)
    found = search_sets(additive(effects), effects, TREE.compatible, IMAGES)
    assert found.sets
    assert not any({"a", "a/x"} <= set(nodes) or {"red", "blue"} <= set(nodes) for nodes in found.sets)
    assert all(2 <= len(nodes) <= 3 and list(nodes) == sorted(nodes) for nodes in found.sets)


def test_the_beam_finds_what_only_a_set_does():
    """Nodes b and c do little alone, much together: the joint edit shows it, the sum does not."""
    effects = {"a": 0.5, "b": 0.1, "c": 0.1}
    found = search_sets(additive(effects, {("b", "c"): 3.0}), effects, TREE.compatible, IMAGES, options=CombineOptions(size=2))
    assert found.sets[0] == ("b", "c")
    assert found.edits == 3 * 16


def test_search_costs_no_more_than_its_limits():
    effects = {f"n{at}": 1.0 for at in range(30)}
    options = CombineOptions(evaluate=5, images=7, beam=3)
    found = search_sets(additive(effects), effects, lambda one, other: one != other, IMAGES, options=options)
    assert found.edits == 2 * 5 * 7
    assert len(found.sets) == 3
    assert search_sets(additive(effects), effects, lambda *_: True, IMAGES, halted=lambda: True).edits == 0


def rows_of(effects, joint, sd=0.1, n=40, start=1.0):
    rng = np.random.default_rng(1)
    return [
        row(f"cat-{at}", nodes, (start, 0.0), (start + value + rng.normal(0, sd), 0.0))
        for nodes, value in {**{(path,): value for path, value in effects.items()}, **joint}.items()
        for at in range(n)
    ]


def test_an_interaction_is_measured():
    """-0.5 and -0.3 alone, -2 together: interaction -1.2, and the gain over the better half is 1.5."""
    table = RowTable(rows=tuple(rows_of({"a": -0.5, "b": -0.3}, {("a", "b"): -2.0})), kind=ScoreKind.LOGITS)
    found = judge_set(table, ("a", "b"), 0, images=IMAGES)
    assert found.interaction.value == pytest.approx(-1.2, abs=0.1)
    assert found.interaction.high < -1
    assert found.gain.value == pytest.approx(1.5, abs=0.1)
    assert found.best_subset == ("a",)
    assert found.reported
    assert found.flip_rate.value == 1


def test_a_set_without_gain_is_not_reported():
    table = RowTable(rows=tuple(rows_of({"a": 0.8, "b": 0.0}, {("a", "b"): 0.8})), kind=ScoreKind.LOGITS)
    found = judge_set(table, ("a", "b"), 0, images=IMAGES)
    assert not found.reported
    assert found.interaction.low < 0 < found.interaction.high


def test_a_triple_is_held_against_its_pairs():
    """Nodes a and b do all of it: adding c gains nothing over the pair, though it does over every single node."""
    singles, pairs = {"a": 0.3, "b": 0.3, "c": 0.0}, {("a", "b"): 1.5, ("a", "c"): 0.3, ("b", "c"): 0.3}
    table = RowTable(rows=tuple(rows_of(singles, pairs | {("a", "b", "c"): 1.5})), kind=ScoreKind.LOGITS)
    found = judge_set(table, ("a", "b", "c"), 0, images=IMAGES)
    assert found.best_subset == ("a", "b")
    assert not found.reported


def test_sets_are_judged_on_estimate_rows():
    rows = [row("cat-0", "a", (1.0, 0.0), (1.0, 0.0), split=Split.SELECT)]
    with pytest.raises(ValueError, match="served the search"):
        judge_set(RowTable(rows=tuple(rows), kind=ScoreKind.LOGITS), ("a", "b"), 0, images=IMAGES)


def test_the_smallest_set_that_flips_half():
    rates = {("a",): 0.3, ("b",): 0.1, ("a", "b"): 0.6, ("a", "c"): 0.7, ("a", "b", "c"): 0.9}
    assert minimal_flip_set(rates) == ("a", "c")
    assert minimal_flip_set(rates, goal=0.95) == ()
    assert minimal_flip_set({("a",): 0.5} | rates | {("d",): 0.55}) == ("d",)


def test_subsets():
    assert proper_subsets(("a", "b")) == (("a",), ("b",))
    assert with_subsets([("a", "b", "c")]) == (("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c"))

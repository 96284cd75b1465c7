"""The released procedure on a scripted editor: a picture is the words that were written on it."""

from collections import Counter

import pytest
from pydantic import TypeAdapter

from audit_plugin.core.diffex_results import PaperResult
from audit_plugin.methods.diffex import PaperOptions, paper_search
from tests.methods.diffex.world import node, tree_of

ITEMS, LEAVES = 12, 6
BASE = 0.5


def item_delta(at):
    """Falls in size, in turn up and down."""
    return (0.4 - 0.03 * at) * (-1) ** at


def leaf_delta(item, at):
    return 0.001 * (item * LEAVES + at + 1) * (-1) ** at


TREE = tree_of(
    node("accessories"),
    *(node(f"accessories/item{i}") for i in range(ITEMS)),
    *(node(f"accessories/item{i}/leaf{i}-{k}") for i in range(ITEMS) for k in range(LEAVES)),
)
DELTAS = {f"item{i}": item_delta(i) for i in range(ITEMS)} | {
    f"leaf{i}-{k}": leaf_delta(i, k) for i in range(ITEMS) for k in range(LEAVES)
}


class Script:
    """Editor and scorer; noise by seed averages out over the four samples."""

    def __init__(self):
        self.edits = Counter()

    def edit(self, image, keyword, seed):
        self.edits[keyword, seed] += 1
        return (*image, keyword, seed)

    def score(self, image):
        if not image:
            return [1 - BASE, BASE]
        keyword, seed = image
        p = BASE + DELTAS[keyword] + 0.01 * (seed - 7 - 1.5)
        return [1 - p, p]


def run(script=None, **options):
    script = script or Script()
    return paper_search(
        (), TREE, edit=script.edit, score=script.score, labels=("female", "male"), target=1, options=PaperOptions(**options), seed=7
    )


def test_items_then_leaves_of_the_eight_strongest_items():
    """Level 1 by |delta|, beam 8; 25 of their 48 leaves by |delta|; leaves of the other items are never tried."""
    script = Script()
    found = run(script)
    assert found.base_score == BASE
    assert [one.keyword for one in found.level1_top] == [f"item{i}" for i in range(8)]
    assert [one.delta for one in found.level1_top] == pytest.approx([item_delta(i) for i in range(8)])
    leaves = sorted(((i, k) for i in range(8) for k in range(LEAVES)), key=lambda leaf: -abs(leaf_delta(*leaf)))[:25]
    assert [one.keyword for one in found.top_influential] == [f"leaf{i}-{k}" for i, k in leaves]
    assert found.counts == {"level1": 12, "level2": 48, "edits": 4 * 60}
    assert not any(keyword.startswith("leaf9") for keyword, _ in script.edits)


def test_every_keyword_is_drawn_with_the_same_four_seeds_once():
    script = Script()
    run(script)
    assert set(script.edits.values()) == {1}
    assert {seed for _, seed in script.edits} == {7, 8, 9, 10}
    assert all(keyword != "accessories" for keyword, _ in script.edits)


def test_entries_hold_what_the_release_writes():
    first = run().level1_top[0]
    assert first.path == ("accessories", "item0")
    assert first.mean_score == pytest.approx(0.9)
    assert first.delta == pytest.approx(first.mean_score - first.base_score)


def test_small_changes_are_left_out():
    found = run(min_delta=0.2)
    assert found.counts["level1"] == 7
    assert found.counts["level2"] == 0
    assert found.top_influential == ()


def test_the_result_is_json():
    adapter = TypeAdapter(PaperResult)
    assert adapter.validate_json(adapter.dump_json(run())) == run()


def test_a_target_must_be_a_label():
    with pytest.raises(ValueError, match="not one of 1 labels"):
        paper_search((), TREE, edit=Script().edit, score=Script().score, labels=("male",), target=1)

"""The concept tree's part: recorded edits with the live answers, severed, and an effect of known size in one node."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.diffex_results import DiffexResult, EffectState, ScoreKind
from audit_plugin.core.edits import Direction, EditCell, EditRow, Split
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.methods.diffex import DiffexOptions, row_file, run_diffex
from audit_plugin.selftesting.edits import edit_bench, edit_pictures
from audit_plugin.selftesting.run import _few_images

LABELS = ("no", "yes")
IMAGES = [f"i{at}" for at in range(80)]
CLASSES = {image: LABELS[at % 2] for at, image in enumerate(IMAGES)}
OPTIONS = DiffexOptions(placebos=("photo",), score=ScoreKind.PROBS, all_images=True, images_per_class=40, seed_pilot=0)
TREE = ConceptTree(
    domain="d",
    nodes=(
        Node(path="ruler", name="ruler", kind=NodeKind.ARTEFACT, editable=False),
        Node(path="ruler/yes", name="a ruler", kind=NodeKind.ARTEFACT, params={"concept": "ruler", "level": "yes"}),
        Node(path="shape", name="shape", kind=NodeKind.CORE),
    ),
)


class Arms:
    """Edits whose pictures answer by the shape, and by the ruler as much as is said; a third of the ruler's edits are not valid."""

    def __init__(self, ruler):
        self.ruler, self.scores = ruler, {}

    def rows(self, cells):
        return [self._row(cell) for cell in cells]

    def _row(self, cell):
        rng = np.random.default_rng([IMAGES.index(cell.image), *map(ord, cell.nodes[0])])
        base = 1.0 if CLASSES[cell.image] == "yes" else -1.0
        moved = 0.02 * rng.normal() + {"shape": 2.0, "ruler/yes": self.ruler}.get(cell.nodes[0], 0.0)
        names = (f"{cell.image}", f"{cell.image} {cell.nodes[0]}")
        for name, log_odds in zip(names, (base, base + moved), strict=True):
            p = 1 / (1 + np.exp(-log_odds))
            self.scores[name] = np.array([1 - p, p])
        return EditRow(
            cell=cell,
            split=Split.SELECT,
            direction=Direction.PLACEBO if cell.placebo else Direction.ADD,
            signs=(1,),
            operator="editor",
            valid=cell.nodes[0] != "ruler/yes" or IMAGES.index(cell.image) % 3 > 0,
            verifier_before=0.1,
            verifier_after=0.9,
            before=tuple(self.scores[names[0]].tolist()),
            after=tuple(self.scores[names[1]].tolist()),
            before_sha256=names[0],
            after_sha256=names[1],
        )


def bench(ruler, *, sign=1.0, rows=None):
    arms, kept = Arms(ruler), list[EditRow]()
    about = {"labels": LABELS, "classes_of": CLASSES, "options": OPTIONS}
    told = run_diffex(arms, TREE, IMAGES, ["yes"], sink=kept.extend, seed=1, **about)
    table = row_file(kept if rows is None else rows(kept), told, model="m", version="1", **about)
    assert edit_pictures(table) <= arms.scores.keys()
    return edit_bench(
        table,
        arms.scores,
        tree=TREE,
        class_name="yes",
        levels={"ruler": ("yes", 2, sign), "mark": ("yes", 2, 1.0)},
        model="m",
        **about,
    )


def ruler_of(told: DiffexResult):
    return next((node for node in told.classes[0].nodes if node.node == "ruler/yes"), None)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_effect_is_what_is_put_in_times_what_is_seen_whatever_the_model_does_itself(sign):
    """0.8 of it, since the judge reads 0.1 before and 0.9 after."""
    told = bench(3.0, sign=sign)
    assert told.nodes == {"ruler": {"ruler/yes": sign}}
    one = ruler_of(told.told(("ruler",), "ruler", 2.0, 0))
    assert one.effect.value == pytest.approx(sign * 1.6, abs=0.02)
    assert one.state is EffectState.EFFECT
    assert ruler_of(told.told((), "", 0.0, 0)).effect.value == pytest.approx(3.0, abs=0.02)


def test_a_severed_node_has_no_effect_and_repeats_draw_other_images():
    told = bench(3.0)
    none = [ruler_of(told.told(("ruler",), "", 0.0, repeat)) for repeat in (0, 1)]
    assert all(one is None or abs(one.effect.value) < 0.02 for one in none)
    again = told.told(("ruler",), "ruler", 2.0, 0)
    assert again == told.told(("ruler",), "ruler", 2.0, 0)
    other = told.told(("ruler",), "ruler", 2.0, 1)
    assert ruler_of(other).images != ruler_of(again).images or ruler_of(other).effect != ruler_of(again).effect
    assert again.classes[0].images_estimate == 40


def test_a_node_that_the_search_dropped_is_judged_by_the_validity_of_its_few_edits():
    """Four images of it are left; the effect is there on as many as are valid."""

    def few(rows):
        ruler = [row for row in rows if row.cell.nodes == ("ruler/yes",)]
        return [row for row in rows if row not in ruler[4:]]

    one = ruler_of(bench(0.0, rows=few).told(("ruler",), "ruler", 2.0, 0))
    assert one.effect.value == pytest.approx(1.6, abs=0.02)
    assert 15 <= one.images <= 40


def test_too_few_valid_images_for_a_finding_are_said():
    told = bench(0.0)
    (said,) = _few_images(told)
    assert said == "edits of ruler are valid on about 28 of 40 images, and a finding about a node needs 32: more images would help"
    assert list(_few_images(replace(told, estimated={"no": 30, "yes": 30}))) == []


def test_a_node_that_was_never_edited_is_no_part_of_it():
    told = bench(0.0, rows=lambda rows: [row for row in rows if row.cell.nodes != ("ruler/yes",)])
    assert told.nodes == {}
    assert ruler_of(told.told(("ruler",), "ruler", 2.0, 0)) is None or not ruler_of(told.told(("ruler",), "ruler", 2.0, 0)).images


def test_rows_come_back_from_the_file_as_they_went():
    arms, kept = Arms(1.0), list[EditRow]()
    about = {"labels": LABELS, "classes_of": CLASSES, "options": OPTIONS}
    run_diffex(arms, TREE, IMAGES, ["yes"], sink=kept.extend, seed=1, **about)
    told = bench(1.0)
    assert told.rows == {row.cell: row for row in kept}
    assert told.rows[EditCell(image=kept[0].cell.image, nodes=kept[0].cell.nodes, placebo=kept[0].cell.placebo)] == replace(kept[0])

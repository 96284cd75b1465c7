import numpy as np
import pytest

from audit_plugin.core.diffex_results import Chosen, ScoreKind
from audit_plugin.core.edits import EditCell, Split
from audit_plugin.methods.diffex import ClassPlan, RowTable, node_effects, quality
from audit_plugin.methods.diffex.effects import clipped_share
from tests.methods.diffex.world import LABELS, World, node, row, tree_of


def table(*rows, kind=ScoreKind.LOGITS):
    return RowTable(rows=rows, kind=kind)


def moved(image, nodes, by, **fields):
    return row(image, nodes, (1.0, 0.0), (1.0 + by, 0.0), **fields)


def test_seeds_are_averaged_inside_the_image():
    effects = table(moved("i", "a", 0.2), moved("i", "a", 0.4, seed=1), moved("j", "a", 1.0)).effects(("a",))
    assert dict(zip(effects.images, effects.log_odds[:, 0], strict=True)) == pytest.approx({"i": 0.3, "j": 1.0})


def test_the_placebo_is_taken_off_and_a_removal_turned_round():
    """Removing lowers the score by 0.5, of which the editor alone 0.1: presence is worth 0.4."""
    rows = moved("i", "a", -0.5, signs=(-1,)), moved("i", "photo", -0.15, placebo=True), moved("i", "image", -0.05, placebo=True)
    effects = table(*rows).effects(("a",))
    assert effects.log_odds[0, 0] == pytest.approx(0.4)
    assert effects.adjusted


def test_only_valid_rows_count():
    rows = moved("i", "a", 1.0), moved("j", "a", 9.0, valid=False, reasons=("V1",)), row("k", "a", (), ())
    assert table(*rows).effects(("a",)).images == ("i",)
    assert table(*rows[1:]).effects(("a",)) is None


def test_an_image_without_valid_placebo_is_left_out():
    rows = moved("i", "a", 1.0), moved("j", "a", 1.0), moved("i", "photo", 0.1, placebo=True)
    assert table(*rows).effects(("a",)).images == ("i",)


def test_deterministic_edits_have_no_placebo():
    """Their reference is the image itself: there is no artefact of an editor to take off."""
    rows = moved("i", "a", 1.0, operator="deterministic/1"), moved("i", "photo", 0.1, placebo=True)
    effects = table(*rows).effects(("a",))
    assert effects.log_odds[0, 0] == pytest.approx(1.0)
    assert not effects.adjusted


def test_a_joint_edit_counts_where_all_nodes_went_the_same_way():
    rows = [moved(image, ("a", "b"), 1.0, signs=signs) for image, signs in [("i", (1, 1)), ("j", (1, -1)), ("k", (-1, -1))]]
    effects = table(*rows).effects(("a", "b"))
    assert dict(zip(effects.images, effects.log_odds[:, 0], strict=True)) == pytest.approx({"i": 1.0, "k": -1.0})


def test_joint_edits_have_joint_placebos_where_there_are_any():
    single, joint = moved("i", "photo", 0.1, placebo=True), moved("i", ("photo", "image"), 0.3, placebo=True)
    edit = moved("i", ("a", "b"), 1.0)
    assert table(edit, single).effects(("a", "b")).log_odds[0, 0] == pytest.approx(0.9)
    assert table(edit, single, joint).effects(("a", "b")).log_odds[0, 0] == pytest.approx(0.7)


def test_the_order_of_nodes_and_images_changes_no_row():
    """Noise is keyed by image and seed, and rows by their cell."""
    cells = [EditCell(image=f"i{at}", nodes=(path,)) for at in range(5) for path in ("a", "b", "c")]
    world = World(effects={"a": 0.3, "b": -0.1}, seed_sd=0.1)
    forwards, backwards = world.rows(cells), world.rows(cells[::-1])
    assert forwards == backwards[::-1]
    one, other = table(*forwards).effects(("b",)), table(*backwards).effects(("b",))
    assert one.images == other.images
    np.testing.assert_array_equal(one.log_odds, other.log_odds)


def test_flips_are_of_the_decision():
    rows = row("i", "a", (1.0, 0.0), (-1.0, 0.0)), row("i", "a", (1.0, 0.0), (0.5, 0.0), seed=1)
    assert table(*rows).effects(("a",)).flip(1).tolist() == [0.5]


def test_numbers_are_refused_from_rows_of_the_search():
    plan = ClassPlan(class_name="cat", labels=LABELS[:2], images=("i",), chosen={"a": Chosen.SURVIVOR})
    with pytest.raises(ValueError, match="served the search"):
        node_effects(table(moved("i", "a", 1.0, split=Split.SELECT)), tree_of(node("a")), plan)


def test_failures_are_counted_by_check():
    """Of four asked for one was ambiguous; of three made two were valid, of which one changed the class."""
    rows = (
        moved("i", "a", 0),
        moved("j", "a", 0, class_kept=False),
        moved("k", "a", 0, valid=False, reasons=("V1", "V2")),
        row("l", "a", (), (), valid=False, reasons=("ambiguous",)),
        moved("i", "photo", 0, placebo=True),
        row("m", "a", (), (), valid=False, reasons=("untestable: why",)),
    )
    found = quality(rows)
    assert (found.attempts, found.valid, found.ambiguous) == (3, pytest.approx(2 / 3), 0.25)
    assert found.failures == pytest.approx({"V1": 1 / 3, "V2": 1 / 3, "V3": 1 / 3})


def test_clipping_is_counted_over_both_pictures():
    rows = [row("i", "a", (1.0, 0.0), (0.5, 0.5))]
    assert clipped_share(rows, ScoreKind.PROBS, 0) == 0.5
    assert clipped_share([], ScoreKind.PROBS, 0) == 0

"""Which edits count: each check is failed by the fault that it is there for, and by no other."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.edits import Direction
from audit_plugin.core.tree import NodeKind
from tests.bank.edit_world import BRIGHT, FLIPPED, GRASS, KINDS, RULER, TREE, SceneEditor, cell, limited, new_editor, new_studio

IMAGES = range(6)


def judged(root, *nodes, kinds=KINDS, tree=TREE, limits=None, **faults):
    """One row per image."""
    studio = new_studio(root, new_editor(**faults), kinds=kinds, tree=tree)
    return limited(studio, **(limits or {})).rows([cell(at, *nodes) for at in IMAGES])


def reasons(rows):
    return {row.reasons for row in rows}


def with_threshold(path, threshold):
    return replace(TREE, nodes=tuple(replace(node, threshold=threshold) if node.path == path else node for node in TREE.nodes))


@pytest.mark.parametrize("nodes", [(RULER,), (GRASS,), (RULER, GRASS), (BRIGHT.path,)])
def test_a_faultless_editor_passes_every_check(tmp_path, nodes):
    rows = judged(tmp_path, *nodes)
    assert reasons(rows) == {()}
    assert all(row.valid and row.class_kept for row in rows)


def test_v1_finds_what_was_not_done(tmp_path):
    """Also one term of two."""
    assert reasons(judged(tmp_path / "one", RULER, needs={"ruler": np.inf})) == {("V1",)}
    assert reasons(judged(tmp_path / "two", RULER, GRASS, needs={"ruler": np.inf})) == {("V1",)}
    assert reasons(judged(tmp_path / "some", RULER, deaf=frozenset({"i0", "i1"}))) == {("V1",), ()}


def test_the_judge_is_asked_on_both_pictures(tmp_path):
    """Its probabilities are those of the level, before and after; added and removed alternate with the images."""
    rows = judged(tmp_path, RULER)
    assert [(row.verifier_before, row.verifier_after) for row in rows] == [(0.0, 1.0), (1.0, 0.0)] * 3
    assert [row.direction for row in rows] == [Direction.ADD, Direction.REMOVE] * 3
    assert [row.signs for row in rows] == [(1,), (-1,)] * 3


def test_v2_finds_what_changed_outside_the_mask(tmp_path):
    """A mask that does not know of the ruler leaves it outside; one that does hides it."""
    blind, seeing = judged(tmp_path / "a", RULER, blind=True), judged(tmp_path / "b", RULER)
    assert reasons(blind) == {("V2",)}
    assert max(row.outside_psnr for row in blind) < 28
    assert {row.outside_psnr for row in seeing} == {100.0}
    assert {row.mask_area for row in blind} == {0.0}
    assert all(0.1 < row.mask_area < 0.12 for row in seeing)  # seven rows of 64


def test_v2_lets_only_global_nodes_change_the_whole_image(tmp_path):
    """A background is a large change: more than a local node may make."""
    local = judged(tmp_path / "local", GRASS, tree=with_threshold(GRASS, 0.75))
    assert {row.valid for row in local} == {True, False}
    assert all(row.reasons == (("V2",) if row.distance > 0.25 else ()) for row in local)
    assert reasons(judged(tmp_path / "global", GRASS)) == {()}
    assert reasons(judged(tmp_path / "limit", GRASS, limits={"distance_global": 0.1})) == {("V2",)}


def test_v2_does_not_blame_the_editor_for_what_an_operator_does(tmp_path):
    """Turning the picture over is far from nothing, but exact."""
    rows = judged(tmp_path, RULER, FLIPPED.path, tree=with_threshold(RULER, 0.75), limits={"distance_local": 0.1})
    assert min(row.distance for row in rows) > 0.1
    assert not any("V2" in row.reasons for row in rows)


def test_class_kept_is_no_matter_of_validity(tmp_path):
    """The shape decides the class: what drags it along is valid, but cannot be spurious."""
    dragged = judged(tmp_path, RULER, drags={"ruler": "shape"})
    assert reasons(dragged) == {()}
    assert not any(row.class_kept for row in dragged)


def test_core_nodes_may_change_the_class(tmp_path):
    rows = judged(tmp_path, "shape/square")
    assert all(row.valid and row.class_kept for row in rows)


@pytest.mark.parametrize(
    ("kind", "nodes", "failed"),
    [
        (NodeKind.PROTECTED, (RULER,), ("V4",)),
        (NodeKind.NUISANCE, (RULER,), ()),
        (NodeKind.PROTECTED, ("snowman/present",), ()),  # the one that was meant
    ],
)
def test_v4_finds_protected_attributes_that_went_along(tmp_path, kind, nodes, failed):
    rows = judged(tmp_path, *nodes, kinds=KINDS | {"snowman": kind}, drags={"ruler": "snowman"})
    assert reasons(rows) == {failed}


def test_v5_finds_what_is_no_picture(tmp_path):
    """An edit whose numbers ran over counts for nothing, however the rest of it looks."""
    rows = judged(tmp_path, RULER, spoils=np.nan)
    assert all("V5" in row.reasons and not row.valid for row in rows)
    assert all(row.after_sha256 for row in rows)


class Torn(SceneEditor):
    """Its null edits have holes."""

    def null(self, originals, images):
        drawn = super().null(originals, images)
        drawn[..., ::3] = np.nan
        return drawn


def test_v5_holds_for_null_edits_too(tmp_path):
    """What an edit is compared with must be a picture; exact edits need none of the editor's."""
    sound = new_editor()
    rows = new_studio(tmp_path, Torn(sound.scenes)).rows([cell(0, RULER), cell(0, BRIGHT.path)])
    assert [("V5" in row.reasons, row.valid) for row in rows] == [(True, False), (False, True)]


def test_every_fault_is_named(tmp_path):
    rows = judged(
        tmp_path,
        RULER,
        kinds=KINDS | {"background": NodeKind.PROTECTED},
        drags={"ruler": "background"},
        limits={"distance_global": 0.01, "reached": 1.1},
    )
    assert reasons(rows) == {("V1", "V2", "V4")}

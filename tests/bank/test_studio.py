"""Edits are made once, whatever dies in between, and never depend on what else is asked for."""

import os
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from audit_plugin.bank.arms import ScoredArms
from audit_plugin.bank.drafts import AMBIGUOUS, IDENTITY
from audit_plugin.concepts.operators import apply_all
from audit_plugin.core.edits import Direction
from audit_plugin.core.errors import DamagedPictureError, StorageFullError
from audit_plugin.sources.images import is_marked_synthetic, to_float
from audit_plugin.sources.scenes import render
from tests.bank.edit_world import (
    BRIGHT,
    CELLS,
    FLIPPED,
    GRAINY,
    GRASS,
    MASKED,
    NUMBERS,
    RULER,
    SceneEditor,
    cell,
    new_editor,
    new_judge,
    new_studio,
    values_of,
)
from tests.bank.world import FakeClassifier, FakeScores

MANY = (
    *(cell(at, *nodes) for at in range(3) for nodes in ((RULER,), (GRASS,), (BRIGHT.path,), (RULER, GRASS), (RULER, FLIPPED.path))),
    *(cell(0, GRAINY.path, seed=seed) for seed in range(2)),
    cell(0, RULER, seed=1),
    cell(0, "photo", placebo=True),
    cell(1, MASKED.path),
    cell(2, "ruler"),
)
"""Every kind of edit."""


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The rows of all of them, asked for at once."""
    return new_studio(tmp_path_factory.mktemp("together"), new_editor()).rows(MANY)


def pixels(studio, sha):
    return studio.store.pictures.pixels(sha)


def test_an_edit_is_made_once(tmp_path):
    """Asked again, neither editor nor judge is; nor by another studio on the same files."""
    editor = new_editor()
    first = new_studio(tmp_path, editor)
    rows = first.rows(MANY)
    spent, read = editor.rows_spent(), first.detector.seen
    assert first.rows(MANY) == rows
    fresh = new_editor()
    second = new_studio(tmp_path, fresh)
    assert second.rows(MANY) == rows
    assert (editor.rows_spent(), fresh.rows_spent()) == (spent, 0)
    assert (first.detector.seen, second.detector.seen) == (read, 0)


def test_every_picture_says_of_which_image_it_is(tmp_path):
    """So that it can be found when the image is to be forgotten."""
    studio = new_studio(tmp_path, new_editor())
    rows = studio.rows([one for one in MANY if one.image == MANY[0].image])
    assert studio.store.made_of("") == set()
    own = studio.store.made_of(studio.sources[MANY[0].image].sha256)
    assert own == {sha for row in rows for sha in (row.before_sha256, row.after_sha256) if sha}


def test_only_what_is_missing_is_made(tmp_path):
    """New cells cost themselves; null edits are shared by all nodes of an image and seed."""
    editor = new_editor()
    studio = new_studio(tmp_path, editor)
    studio.rows([cell(at, RULER) for at in range(6)])
    assert (editor.nulls, editor.edits) == (6, 6)
    studio.rows([cell(at, node) for at in range(6) for node in (RULER, GRASS)])
    assert (editor.nulls, editor.edits) == (6, 12)
    studio.rows([cell(0, RULER, seed=1)])
    assert (editor.nulls, editor.edits) == (7, 13)


def test_another_editor_makes_its_own(tmp_path):
    new_studio(tmp_path, new_editor()).rows(CELLS)
    other = new_editor(fingerprint="scene-editor-2")
    new_studio(tmp_path, other).rows(CELLS)
    assert (other.nulls, other.edits) == (6, 12)


def test_another_judge_reads_anew_but_nothing_is_edited(tmp_path):
    editor = new_editor()
    new_studio(tmp_path, editor).rows(CELLS)
    spent = editor.rows_spent()
    judge = new_judge(editor, fingerprint="scene-judge-2")
    new_studio(tmp_path, editor, judge=judge).rows(CELLS)
    assert (editor.rows_spent(), judge.seen) == (spent, 18)


@pytest.mark.parametrize("lives", [0, 1, 2])
def test_the_editor_may_die_at_any_batch(tmp_path, lives):
    """What was committed stays, what follows is made once, and the rows are those of an undisturbed run."""
    whole = new_studio(tmp_path / "whole", new_editor()).rows(CELLS)
    killed, again = new_editor(lives=lives), new_editor()
    with pytest.raises(ConnectionError):
        new_studio(tmp_path / "killed", killed, batch=4).rows(CELLS)
    again.made = killed.made
    assert new_studio(tmp_path / "killed", again).rows(CELLS) == whole
    assert (killed.edits, killed.nulls, again.edits, again.nulls) == (4 * lives, 6, 12 - 4 * lives, 0)


def test_a_full_disk_stops_the_run_and_not_the_next_one(tmp_path, monkeypatch):
    """Half way through a batch: its pictures are named by no row, those before it stay."""
    editor, room, flush = new_editor(), iter(range(12)), os.fsync
    wanted = [cell(at, node) for at in range(6) for node in (RULER, GRASS)]

    def fsync(number):
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        flush(number)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        with pytest.raises(StorageFullError, match="it resumes"):
            new_studio(tmp_path / "full", editor, batch=4).rows(wanted)
    assert (editor.nulls, editor.edits) == (6, 8)  # six null edits, four edits, and two of the next batch
    rows = new_studio(tmp_path / "full", editor).rows(wanted)
    assert (editor.nulls, editor.edits) == (6, 16)
    assert rows == new_studio(tmp_path / "whole", new_editor()).rows(wanted)


def harmed(studio, sha, harm):
    path = Path(studio.store.pictures.path(sha))
    if harm == "lost":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.write_bytes(path.read_bytes()[::-1])


@pytest.mark.parametrize("harm", ["lost", "cut", "corrupt"])
@pytest.mark.parametrize("which", ["before_sha256", "after_sha256"])
def test_a_damaged_picture_is_made_again(tmp_path, harm, which):
    """With the same bytes, so that rows and scores are those of before; what is sound is not touched.  The log says so."""
    editor = new_editor()
    studio = new_studio(tmp_path, editor)
    rows = studio.rows(CELLS)
    spent, sha = editor.rows_spent(), getattr(rows[0], which)
    harmed(studio, sha, harm)
    later = new_studio(tmp_path, editor, judge=new_judge(editor, fingerprint="another"))  # reads every picture
    with capture_logs() as told:
        assert later.rows(CELLS) == rows
    assert editor.rows_spent() == spent + 1
    assert studio.store.pictures.damage(sha) == ""
    assert [(one.get("pictures"), one.get("edits"), one.get("with_other_bytes")) for one in told] == [(1, None, None), (None, 1, 0)]


def test_a_damaged_picture_that_a_model_is_to_be_asked_about_is_made_again(tmp_path):
    """Found when it is read for scoring: the readings of all are known, and nothing else looks."""
    editor = new_editor()
    arms = ScoredArms(new_studio(tmp_path, editor), FakeClassifier(), FakeScores())
    rows = arms.studio.rows(CELLS)
    for sha in (rows[0].before_sha256, rows[4].after_sha256):
        harmed(arms.studio, sha, "cut")
    assert [row.before_sha256 for row in arms.rows(CELLS)] == [row.before_sha256 for row in rows]
    assert (editor.nulls, editor.edits) == (7, 13)


def test_other_bytes_take_the_place_of_what_was_lost(tmp_path):
    """Of the null edit, and then of what was measured against it; the scores of the old picture are not used for the new ones."""
    editor, cells = new_editor(), [cell(0, RULER)]
    first = ScoredArms(new_studio(tmp_path, editor), FakeClassifier(), FakeScores())
    (old,) = first.rows(cells)
    harmed(first.studio, old.before_sha256, "lost")
    editor.noise = 0.02
    with capture_logs() as told:
        (new,) = first.rows(cells)
    assert new.before_sha256 != old.before_sha256
    assert new.after_sha256 != old.after_sha256
    assert (new.before, new.after) != (old.before, old.after)
    assert first.sent[0] == 4
    assert [one["with_other_bytes"] for one in told if "edits" in one] == [1, 1]
    assert first.rows(cells) == [new]


def test_a_disk_that_goes_on_losing_pictures_is_told(tmp_path):
    """After a few repairs, not never."""
    studio = new_studio(tmp_path, new_editor())

    def losing():
        (row,) = studio.rows([cell(0, RULER)])
        harmed(studio, row.after_sha256, "cut")
        return studio.store.pictures.get(row.after_sha256)

    with pytest.raises(DamagedPictureError, match="is corrupt"):
        studio.mended(losing)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_neither_order_nor_batch_matters(tmp_path, together, batch):
    """Every row is the same when the cells are permuted."""
    places = np.random.default_rng(batch).permutation(len(MANY)).tolist()
    shuffled = new_studio(tmp_path, new_editor(), batch=batch).rows([MANY[at] for at in places])
    assert shuffled == [together[at] for at in places]


def test_neither_does_company(tmp_path, together):
    """A cell alone has the row that it has among others; an exact edit is not judged only because another one is."""
    alone = new_studio(tmp_path, new_editor())
    assert [alone.rows([wanted])[0] for wanted in MANY] == together


def test_all_edits_of_an_image_share_their_noise(tmp_path):
    """Common random numbers: outside what was changed, edit and null edit agree to the bit, also across nodes; seeds differ."""
    studio = new_studio(tmp_path, new_editor())
    ruler, glare, again = studio.rows([cell(0, RULER), cell(0, "snowman/present"), cell(0, RULER, seed=1)])
    assert ruler.before_sha256 == glare.before_sha256 != again.before_sha256
    null, one, two, other = (
        pixels(studio, sha) for sha in (ruler.before_sha256, ruler.after_sha256, glare.after_sha256, again.before_sha256)
    )
    same = (one == null) & (two == null)
    assert ((one == null) | (two == null)).all()  # the changes are apart
    assert same.mean() > 0.6
    assert (other != null).mean() > 0.3


def test_the_picture_shows_what_was_asked_for(tmp_path):
    """Without noise it is the scene itself, with one concept set."""
    studio = new_studio(tmp_path, new_editor(noise=0.0))
    for at, row in enumerate(studio.rows([cell(at, RULER) for at in range(6)])):
        values = list(values_of(at))
        np.testing.assert_array_equal(pixels(studio, row.before_sha256), render(at, values))
        values[NUMBERS["ruler"]] = 1 - values[NUMBERS["ruler"]]
        np.testing.assert_array_equal(pixels(studio, row.after_sha256), render(at, values))


def test_edits_are_marked_synthetic_and_originals_are_not(tmp_path):
    studio = new_studio(tmp_path, new_editor())
    ruler, bright = studio.rows([cell(0, RULER), cell(0, BRIGHT.path)])
    shas = (ruler.before_sha256, ruler.after_sha256, bright.before_sha256, bright.after_sha256)
    assert [is_marked_synthetic(studio.store.pictures.get(sha)) for sha in shas] == [True, True, False, True]
    np.testing.assert_array_equal(pixels(studio, bright.before_sha256), render(0, values_of(0)))


def test_an_audit_without_an_editor(tmp_path):
    """Exact operators work as ever; prompts and placebos have a row that says why there is no edit."""
    studio = new_studio(tmp_path, None)
    flipped, ruler, both, placebo = studio.rows(
        [cell(0, FLIPPED.path), cell(0, RULER), cell(0, RULER, FLIPPED.path), cell(0, "photo", placebo=True)]
    )
    np.testing.assert_array_equal(pixels(studio, flipped.after_sha256), render(0, values_of(0))[:, ::-1])
    assert (flipped.valid, flipped.operator) == (True, "deterministic/1")
    for row in (ruler, both):
        assert not row.valid
        assert row.reasons == ("untestable: needs a generator to edit with, and none is configured",)
        assert (row.after_sha256, row.before_sha256) == ("", flipped.before_sha256)
    assert (placebo.reasons, placebo.direction, placebo.after_sha256) == ((IDENTITY,), Direction.PLACEBO, "")


def test_a_studio_without_a_judge_edits_exactly_only(tmp_path):
    editor = new_editor()
    rows = new_studio(tmp_path, editor, judge=None).rows([cell(0, RULER), cell(0, BRIGHT.path)])
    assert [row.valid for row in rows] == [False, True]
    assert "no independent judge" in rows[0].reasons[0]
    assert editor.edits == 0


def test_nothing_is_edited_where_nobody_can_tell(tmp_path):
    """The judge's word on the null edit decides, node by node."""
    editor = new_editor()
    studio = new_studio(tmp_path, editor, judge=new_judge(editor, sure={"ruler": 0.5}))
    ruler, both, grass = studio.rows([cell(0, RULER), cell(0, RULER, GRASS), cell(1, GRASS)])
    for row in (ruler, both):
        assert (row.reasons, row.valid, row.after_sha256) == ((AMBIGUOUS,), False, "")
        assert row.before_sha256
    assert (grass.valid, editor.edits) == (True, 1)


def test_a_joint_edit_of_both_kinds(tmp_path):
    """The operator acts on what the editor made, under the image's own seed; there is no mask any more."""
    studio = new_studio(tmp_path, new_editor())
    ruler, both = studio.rows([cell(2, RULER), cell(2, RULER, GRAINY.path)])
    wanted = apply_all([GRAINY], pixels(studio, ruler.after_sha256), studio.drafting.seed(both.cell))
    np.testing.assert_array_equal(pixels(studio, both.after_sha256), wanted)
    assert both.before_sha256 == ruler.before_sha256
    assert (both.mask_area, both.outside_psnr, both.signs, both.scale) == (None, None, (1, 1), 1.0)
    assert both.operator == ruler.operator == "scenes/scene-editor"


def test_two_prompts_at_once_are_one_edit(tmp_path):
    """Each in its own direction."""
    studio = new_studio(tmp_path, new_editor(noise=0.0))
    (row,) = studio.rows([cell(1, "snowman/present", GRASS)])
    values = list(values_of(1))
    values[NUMBERS["background"]], values[NUMBERS["snowman"]] = 0, 0
    np.testing.assert_array_equal(pixels(studio, row.after_sha256), render(1, values))
    assert (row.signs, row.direction, row.valid) == ((1, -1), Direction.ADD, True)


def test_replicates_of_an_exact_edit_differ_where_it_draws(tmp_path):
    """Grain has another seed, a mirror image has none."""
    studio = new_studio(tmp_path, new_editor())
    one, two, mirrored, again = studio.rows([cell(0, path, seed=seed) for path in (GRAINY.path, FLIPPED.path) for seed in (0, 1)])
    assert one.after_sha256 != two.after_sha256
    assert mirrored.after_sha256 == again.after_sha256


def test_a_placebo_changes_the_words_alone(tmp_path):
    """A word that means nothing leaves this editor's picture as it is, and the row valid."""
    studio = new_studio(tmp_path, new_editor())
    (row,) = studio.rows([cell(3, "view", placebo=True)])
    assert row.after_sha256 == row.before_sha256
    assert (row.valid, row.direction, row.distance, row.verifier_after) == (True, Direction.PLACEBO, 0.0, None)


def test_the_distance_is_of_edit_and_null_edit(tmp_path):
    """Not of edit and original: what the editor does to every picture is no effect of the node."""
    studio = new_studio(tmp_path, new_editor(noise=0.05))
    (row,) = studio.rows([cell(3, "view", placebo=True)])
    assert (row.distance, row.outside_psnr) == (0.0, 100.0)
    assert np.abs(to_float([pixels(studio, row.before_sha256)])[0] - to_float([render(3, values_of(3))])[0]).mean() > 0.02


def test_images_are_brought_to_the_size_of_the_editor(tmp_path):
    """Exact edits are made at the image's own size."""

    class Small(SceneEditor):
        def null(self, originals, images):
            assert images.shape[1:] == (3, 32, 32)
            return images

    studio = new_studio(tmp_path, Small(scenes={}, made=new_editor().made), judge=new_judge(new_editor()), size=32)
    with pytest.raises(ValueError, match="empty"):  # the judge knows no picture: the null edit was made
        studio.rows([cell(0, RULER)])
    (exact,) = studio.rows([cell(0, FLIPPED.path)])
    assert pixels(studio, exact.after_sha256).shape == (64, 64, 3)


def test_nothing_wanted_is_nothing_done(tmp_path):
    assert new_studio(tmp_path, new_editor()).rows([]) == []

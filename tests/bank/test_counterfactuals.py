"""Pictures that flip a model, kept: made once, with what they cost, over real files."""

import threading
import time

import numpy as np
import pytest

from audit_plugin.bank.counterfactuals import Wish
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.sources.images import encode_png, to_float
from tests.methods.counterfactuals.editing import SIDE, Editor, Lamps, new_studio, picture, scores

WISHES = [Wish(f"i{at}", 2 if at < 5 else 0) for at in range(10)]


def ask(images, _rows):
    return scores(images)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    """Two batches of three are there; only the other four pictures are made, and all are as if nothing had happened."""
    killed, editor = Editor(lives=2), Editor()
    with pytest.raises(KeyboardInterrupt):
        new_studio(tmp_path / "a", killed).made(WISHES, ask)
    studio = new_studio(tmp_path / "a", editor)
    assert studio.missing(WISHES) == 4
    made = studio.made(WISHES, ask)
    assert len(editor.seen) == 4
    assert made == new_studio(tmp_path / "b", Editor()).made(WISHES, ask)


def test_what_is_there_costs_nothing_and_keeps_its_facts(tmp_path):
    """Another process finds pictures and what they cost; nothing is edited, and nobody is asked."""
    first = new_studio(tmp_path, Editor()).made(WISHES, ask)
    again = new_studio(tmp_path, None).made(WISHES, None)
    assert again == first
    assert [(one.attempts, one.network_rows, one.queries) for one in again] == [(2, 14, 2)] * 10
    assert [one.free for one in again] == [at % 3 == 2 for at in range(10)]


def test_targets_and_runs_are_pictures_of_their_own(tmp_path):
    """The noise of another run is another; that of another target is the same."""
    editor = Editor()
    wishes = [Wish("i0", 1), Wish("i0", 2), Wish("i0", 2, 1)]
    made = new_studio(tmp_path, editor).made(wishes, ask)
    (a, b, c) = (seed for seed, _ in editor.seen)
    assert a == b != c
    assert len({one.after for one in made}) == 3
    assert [one.wish for one in made] == wishes


def test_a_picture_that_is_lost_is_made_again(tmp_path):
    studio, editor = new_studio(tmp_path, Editor()), Editor()
    lost = studio.made(WISHES, ask)[4]
    studio.store.pictures.remove(lost.after)
    assert new_studio(tmp_path, editor).made(WISHES, ask)[4] == lost
    assert len(editor.seen) == 1


def test_pictures_that_are_no_numbers_are_black(tmp_path):
    studio = new_studio(tmp_path, Editor(boast=float("nan")))
    (one,) = studio.made(WISHES[:1], ask)
    assert studio.pixels(one.after).max() == 0


def test_a_jpeg_is_near_and_not_the_same(tmp_path):
    """Stored as what it became, under a name of its own; the same picture gives the same file."""
    studio = new_studio(tmp_path, None)
    noisy = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8) // 8
    sha = studio.store.put(encode_png(noisy, synthetic=True))
    found = studio.jpeg([sha, sha])
    assert list(found) == [sha]
    moved = np.abs(studio.pixels(found[sha]).astype(int) - noisy)
    assert 0 < moved.mean() < 8
    assert studio.jpeg([sha]) == found


def test_paths_are_walked_once_and_end_at_the_picture(tmp_path):
    studio, asked = new_studio(tmp_path, Editor()), []
    made = studio.made(WISHES[:2], ask)

    def told(images):
        asked.append(len(images))
        return scores(images)

    pairs = {one.after: one.before for one in made}
    found = studio.paths(pairs, "m@1", told)
    for one in made:
        ends = to_float([studio.pixels(one.before), studio.pixels(one.after)])
        np.testing.assert_allclose(found[one.after][[0, -1]], scores(ends), atol=1e-6)
    assert len(asked) == 2
    again = new_studio(tmp_path, None).paths(pairs, "m@1", None)
    np.testing.assert_allclose(again[made[0].after], found[made[0].after])
    studio.paths(pairs, "m@2", told)
    assert len(asked) == 4


def test_what_is_told_of_paths_ends_where_some_are_there(tmp_path):
    """Of two paths one is known; the other is all there is to do."""
    said = []
    studio = new_studio(tmp_path, Editor(), progress=lambda done, total, what: said.append((done, total, what)))
    first, second = studio.made(WISHES[:2], ask)
    studio.paths({first.after: first.before}, "m@1", scores)
    studio.paths({one.after: one.before for one in (first, second)}, "m@1", scores)
    assert [(done, total) for done, total, what in said if what == "paths of counterfactuals"] == [(1, 1), (1, 1)]


def test_judges_read_each_picture_once(tmp_path):
    studio, lamps = new_studio(tmp_path, Editor()), Lamps()
    shas = list(studio.originals().values())
    read = studio.readings(lamps, shas)
    assert [read[sha]["lamp"][1] for sha in shas] == [float(at % 2) for at in range(10)]
    assert new_studio(tmp_path, None).readings(lamps, shas) == read
    assert lamps.seen == 10


def test_originals_are_the_images_at_the_editors_size(tmp_path):
    studio = new_studio(tmp_path, None, n=2)
    np.testing.assert_array_equal(studio.pixels(studio.originals()["i1"]), picture(1))
    assert picture(1).shape == (SIDE, SIDE, 3)
    assert edit_store(tmp_path).pictures.absent(studio.originals().values()) == set()


def test_a_long_batch_tells_how_it_goes_on(tmp_path):
    """While it lasts, with what it has asked so far; afterwards nothing but that it is done."""
    told, enough = [], threading.Event()

    def progress(done, total, what):
        told.append((done, total, what))
        if sum(what.startswith("counterfactuals, 2") for _, _, what in told) > 1:
            enough.set()

    class Slow(Editor):
        def __call__(self, images, seeds, targets, ask):
            found = super().__call__(images, seeds, targets, ask)
            assert enough.wait(10)
            return found

    new_studio(tmp_path, Slow(), progress=progress, beat_seconds=0.01).made(WISHES[:1], ask)
    count = len(told)
    assert (0, 1, "counterfactuals, 2 pictures asked about in this batch") in told
    assert told[-1] == (1, 1, "counterfactuals")
    time.sleep(0.05)
    assert len(told) == count


def test_an_error_ends_the_telling(tmp_path):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        new_studio(tmp_path, Editor(lives=0), beat_seconds=0.01).made(WISHES[:1], ask)
    assert threading.active_count() == before

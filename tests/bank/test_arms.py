"""What a model says to edits: every picture is sent once, and nothing is asked about edits that are not there."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.arms import ScoredArms
from audit_plugin.core.errors import TargetOutputError
from tests.bank.edit_world import BRIGHT, CELLS, GRASS, MASKED, RULER, cell, new_editor, new_judge, new_studio
from tests.bank.world import FakeClassifier, FakeScores

NONE = (cell(0, MASKED.path), cell(1, "ruler"), cell(2, "background"))
"""Cells that have no edit."""


def arms(root, classifier=None, scores=None, **more):
    return ScoredArms(new_studio(root, new_editor()), classifier or FakeClassifier(), scores or FakeScores(), **more)


def shas(rows):
    return {sha for row in rows if row.after_sha256 for sha in (row.before_sha256, row.after_sha256)}


def test_every_picture_is_sent_once(tmp_path):
    """Null edits are shared by nodes; a second call, and another object on the same scores, send nothing."""
    first, again = FakeClassifier(), FakeClassifier()
    both = arms(tmp_path, first)
    rows = both.rows(CELLS)
    assert first.seen == both.sent[0] == len(shas(rows)) == 6 + 12 + 6 + 6
    assert both.rows(CELLS) == rows
    other = arms(tmp_path, again, both.scores)
    assert other.rows(CELLS) == rows
    assert (first.seen, again.seen, other.sent[0]) == (30, 0, 0)


def test_the_scores_are_those_of_the_stored_pixels(tmp_path):
    """Before belongs to the null edit, after to the edit."""
    both = arms(tmp_path)
    for row in both.rows(CELLS):
        for sha, scores in ((row.before_sha256, row.before), (row.after_sha256, row.after)):
            assert scores[1] == pytest.approx(both.studio.store.pictures.pixels(sha).mean() / 255, abs=1e-6)
        assert row.scored


def test_nothing_is_asked_about_edits_that_are_not_there(tmp_path):
    """Their rows have no scores, but the reason."""
    classifier = FakeClassifier()
    rows = arms(tmp_path, classifier).rows(NONE)
    assert classifier.seen == 0
    assert all(not row.scored and not row.usable and row.reasons for row in rows)
    assert [row.cell for row in rows] == list(NONE)


def test_ambiguous_images_are_not_sent(tmp_path):
    editor = new_editor()
    studio = new_studio(tmp_path, editor, judge=new_judge(editor, sure={"ruler": 0.5}))
    classifier = FakeClassifier()
    rows = ScoredArms(studio, classifier, FakeScores()).rows([cell(at, node) for at in range(6) for node in (RULER, GRASS)])
    assert [row.scored for row in rows] == [False, True] * 6
    assert classifier.seen == 12


def test_edits_that_failed_a_check_are_scored_all_the_same(tmp_path):
    """They are told apart by their validity, not by what the model says."""
    studio = new_studio(tmp_path, new_editor(needs={"ruler": np.inf}))
    (row,) = ScoredArms(studio, FakeClassifier(), FakeScores()).rows([cell(0, RULER)])
    assert (row.scored, row.valid, row.usable) == (True, False, False)


def test_another_version_is_asked_about_the_same_pictures(tmp_path):
    """Without a single new edit."""
    scores, newer = FakeScores(), FakeClassifier()
    newer.info = replace(newer.info, version="2")
    both = arms(tmp_path, scores=scores)
    both.rows(CELLS)
    editor = both.studio.editor
    spent = editor.rows_spent()
    ScoredArms(both.studio, newer, scores).rows(CELLS)
    assert (newer.seen, editor.rows_spent()) == (30, spent)


def test_the_server_may_die_at_any_batch(tmp_path):
    """Each picture is sent once in all."""
    scores, whole, asked = FakeScores(), arms(tmp_path).rows(CELLS), 0
    for _ in range(4):
        classifier = FakeClassifier(lives=2)
        try:
            rows = arms(tmp_path, classifier, scores, batch=4).rows(CELLS)
        except ConnectionError:
            rows = None
        asked += classifier.seen
    assert (rows, asked) == (whole, 30)


def test_answers_must_match_the_pictures(tmp_path):
    classifier = FakeClassifier()
    classifier.predict = lambda images: np.zeros((len(images) - 1, 2))
    scores = FakeScores()
    with pytest.raises(TargetOutputError, match="1 answers came back"):
        arms(tmp_path, classifier, scores).rows([cell(0, BRIGHT.path)])
    assert not scores.scores


def test_progress_ends_at_its_total(tmp_path):
    told = []
    arms(tmp_path, progress=lambda *news: told.append(news), batch=7).rows(CELLS)
    assert told[-1] == (30, 30, "scores of edits")

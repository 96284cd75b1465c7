"""Chart, ranking, changes and pictures: the numbers behind the page."""

import base64
import dataclasses

import numpy as np
import pytest

from audit_plugin.core.results import GateStatus, RunState, Verdict
from audit_plugin.report import gates
from audit_plugin.report.changes import changes
from audit_plugin.report.chart import chart
from audit_plugin.report.fairness import squares
from audit_plugin.report.grids import grids
from audit_plugin.report.pictures import Album, difference
from audit_plugin.report.ranking import order
from audit_plugin.report.table import verdict_table
from audit_plugin.report.words import confirmation, detectable, importance_words, mark, short_name
from audit_plugin.sources.images import is_marked_synthetic
from tests.report import factory


@pytest.fixture(scope="module")
def gallery() -> factory.Gallery:
    return factory.Gallery()


@pytest.fixture(scope="module")
def planted(gallery):
    return factory.planted(gallery)


@pytest.fixture(scope="module")
def clean(gallery):
    return factory.clean(gallery)


def test_positions_grow_with_values(planted, clean):
    """One axis for all: order on the page is order of the numbers, whiskers hold their dots, zero lies in the band."""
    drawn = chart([planted, clean])
    lines = [line for row in drawn.rows for line in row.lines]
    by_value = sorted(lines, key=lambda line: line.result.importance.value)
    assert [line.dot for line in by_value] == sorted(line.dot for line in lines)
    assert all(0 <= line.low <= line.dot <= line.high <= 100 for line in lines)
    assert all(line.band_low < drawn.zero < line.band_high for line in lines)
    assert (drawn.zero, 0.0) in drawn.ticks
    assert 3 <= len(drawn.ticks) <= 8


def test_rows_are_matched_by_name_never_by_position(planted, clean):
    """Reversing one model's concepts changes nothing."""
    shuffled = dataclasses.replace(clean, concepts=clean.concepts[::-1])
    assert chart([planted, shuffled]) == chart([planted, clean])


def test_weak_edits_are_not_ranked(planted):
    """However large its value, a weak edit stands behind those that may be compared."""
    huge = tuple(
        dataclasses.replace(c, importance=factory.estimate(0.9, 0.01)) if c.concept == factory.WEAK else c for c in planted.concepts
    )
    found = order([dataclasses.replace(planted, concepts=huge)])
    assert found.ranked[0] == "shape"
    assert found.unranked == (factory.WEAK,)


def test_a_suppressed_model_lends_nothing_to_the_order(gallery, clean):
    """The order beside a broken audit is the valid model's own."""
    assert order([factory.broken(gallery), clean]).ranked == order([clean]).ranked
    assert order([factory.broken(gallery)]).ranked == ()


def test_an_empty_chart_has_an_axis_and_no_rows(gallery):
    """Nothing to draw is not an error."""
    assert chart([]).rows == ()
    assert chart([factory.broken(gallery)]).rows == ()


def test_changes_name_verdicts_gates_and_findings(planted):
    """Each difference between the runs is one line."""
    was = tuple(
        dataclasses.replace(c, verdict=Verdict.INCONCLUSIVE) if c.concept == "watermark" else c for c in planted.concepts[:-1]
    )
    worse = (dataclasses.replace(planted.gates[0], status=GateStatus.WARN), *planted.gates[1:])
    old = factory.earlier(planted, concepts=was, gates=worse, findings=(), state=RunState.SUCCEEDED)
    found = changes(planted, [old])
    assert found is not None
    assert found.lines == (
        "State: no finding → findings.",
        "New finding: AUROC falls by 0.163 when the watermark is permuted; the threshold is 0.02.",
        "watermark: inconclusive → relies.",
        "tone: tested for the first time.",
        "Gate G1 (target parity): warn → pass.",
    )
    assert found.comparison == "Version 0 then, 1 now, scored on the same pictures."


def test_a_repeat_on_the_same_rows_is_no_confirmation(planted):
    """The same evidence twice is said to be the same evidence."""
    found = changes(planted, [factory.earlier(planted, version="1")])
    assert found is not None
    assert found.lines == ()
    assert "not a confirmation" in found.comparison


def test_intervals_that_moved_apart_are_a_change(planted):
    """A verdict that stays can hide a number that does not."""
    lower = tuple(
        dataclasses.replace(c, importance=factory.estimate(0.08, 0.02)) if c.concept == "watermark" else c for c in planted.concepts
    )
    found = changes(planted, [factory.earlier(planted, concepts=lower)])
    assert found is not None
    assert found.lines == ("watermark: importance 0.080 [0.060, 0.100] → 0.163 [0.135, 0.191]; the intervals do not overlap.",)


def test_history_is_the_latest_earlier_run_of_the_same_model(planted, clean):
    """Later runs, other models and the run itself do not count."""
    older = factory.earlier(planted, run="20261001T000000Z")
    last = factory.earlier(planted)
    later = factory.earlier(planted, run="20270101T000000Z")
    found = changes(planted, [last, older, later, clean, planted])
    assert found is not None
    assert found.previous is last
    assert changes(planted, [clean]) is None


def test_the_difference_of_equal_pictures_is_black():
    """What did not change leaves no trace; what did shows in its place, largest channel first."""
    before = np.zeros((4, 4, 3), np.uint8)
    after = before.copy()
    after[1, 2] = (10, 50, 0)
    change = difference(before, after)
    assert change.sum() == 3 * 100
    assert change[1, 2].tolist() == [100, 100, 100]
    assert difference(after, before).tolist() == change.tolist()


def test_embedded_pictures_keep_the_synthetic_mark(gallery, planted):
    """A picture saved from the report still says that it was generated."""
    pair = planted.pairs[0]
    shown = Album(gallery).triptych(pair.before_sha256, pair.after_sha256)
    for uri in (shown.before, shown.after, shown.difference):
        assert uri is not None
        assert is_marked_synthetic(base64.b64decode(uri.partition(",")[2]))


def test_pictures_of_different_size_have_no_difference(gallery, planted):
    """Nothing is compared that does not fit together."""
    pair = planted.pairs[0]
    assert Album({"a": gallery(pair.before_sha256)}.get).triptych("a", "b").difference is None


def test_a_picture_is_fetched_once(gallery, planted, clean):
    """However many cards show it."""
    asked: list[str] = []
    grids([planted, clean], Album(lambda sha256: asked.append(sha256) or gallery(sha256)))
    assert len(asked) == len(set(asked)) > 100


def test_gates_are_summed_by_their_worst(planted, clean):
    """One warning among many passes is the gate's status; a gate of both models is told once."""
    rows = {row.name: row for row in gates.summary([planted, clean])}
    assert list(rows) == ["G0", "G1", "G2", "G3a", "G4", "G5", "G6", "G7", "G8", "G9"]
    assert rows["G3a"].tallies[0].counts == ((GateStatus.WARN, 1), (GateStatus.PASS, 6))
    assert [(gate.name, models) for gate, models in gates.not_passed([planted, clean])] == [
        ("G3a", (0, 1)), ("G4", (0, 1)), ("G8", (0, 1)),
    ]  # fmt: skip


def test_the_fairness_square_puts_each_model_in_its_cell(planted, clean, gallery):
    """Interventional calm and observational concern is a cell of its own; a broken audit is in none."""
    (square,) = squares([planted, clean])
    assert square.cells[False, True] == ("scenes_planted",)
    assert square.cells[False, False] == ("scenes_clean",)
    assert squares([factory.broken(gallery)]) == ()


def test_words(planted, clean):
    """Reliance on what must not matter has a mark of its own; names grow only where they must."""
    by_name = {concept.concept: mark(concept) for concept in planted.concepts}
    assert by_name["shape"] == "relies"
    assert by_name["watermark"] == "alert"
    assert short_name(planted, [planted, clean]) == "scenes_planted"
    assert detectable(dataclasses.replace(planted, concepts=())) == "–"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"strong": True}, "one audit is enough"),
        ({"breach_runs": 3}, "3 audits in a row"),
        ({}, "Not yet confirmed"),
        ({"kind": "audit_broken"}, "audit itself"),
    ],
)
def test_a_finding_says_whether_it_is_confirmed(changed, says):
    """The sentence agrees with the rule that alerts."""
    found = dataclasses.replace(factory.finding("m"), **{"strong": False, **changed})
    assert says in confirmation(found)
    assert confirmation(found).startswith("Not yet") == (not found.confirmed)


def test_an_importance_that_did_not_decide_is_marked(gallery):
    """Where the conditional importance decides, the table says so below."""
    result = factory.planted(gallery)
    first, *others = result.concepts
    marked = dataclasses.replace(result, concepts=(dataclasses.replace(first, decided_by=first.importance), *others))
    assert "†" not in str(verdict_table([result]).caption)
    assert "hardly occur" in str(verdict_table([marked]).caption)
    assert importance_words(marked.concepts[0]).endswith("†")

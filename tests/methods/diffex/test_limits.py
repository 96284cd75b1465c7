"""No limit is passed, and what it kept from being measured is told."""

import math
from dataclasses import replace

import pytest

from audit_plugin.bank.arms import ScoredArms
from audit_plugin.core.diffex_results import Chosen, EffectState
from audit_plugin.methods.diffex import Budget, CombineOptions, DiffexLimits, DiffexOptions, RaceOptions, run_diffex
from audit_plugin.methods.diffex.estimate import EstimateOptions
from tests.bank.edit_world import BRIGHT, FLIPPED, GRASS, MASKED, RULER, new_editor, new_studio
from tests.bank.edit_world import TREE as SCENES
from tests.bank.world import FakeClassifier, FakeScores

OPTIONS = DiffexOptions(
    race=RaceOptions(keep=4, n_start=2),
    combine=CombineOptions(size=1),
    estimate=EstimateOptions(draws=50, flips=99),
    placebos=("view",),
    seed_pilot=0,
    dose_nodes=0,
    hit_nodes=0,
    agreement_images=0,
)
TREE = replace(
    SCENES,
    nodes=tuple(
        node
        for node in SCENES.nodes
        if node.path in {"ruler", RULER, "background", GRASS, "background/sand", BRIGHT.path, FLIPPED.path, MASKED.path}
    ),
)
IMAGES = [f"i{at}" for at in range(6)]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def budget(*, rows=0, queries=0, per_edit=10, clock=None, **limits):
    given = DiffexLimits(**({"network_rows": None, "classifier_queries": None, "wall_minutes": None} | limits))
    return Budget(given, rows=lambda: rows, queries=lambda: queries, rows_per_edit=per_edit, clock=clock or Clock())


@pytest.mark.parametrize(
    ("limits", "rows", "queries", "affordable", "stopped"),
    [
        ({}, 10**9, 10**9, 50, ""),
        ({"network_rows": 100}, 0, 0, 10, ""),
        ({"network_rows": 100}, 91, 0, 0, "network_rows"),
        ({"classifier_queries": 9}, 0, 0, 4, ""),
        ({"classifier_queries": 9}, 0, 8, 0, "classifier_queries"),
        ({"network_rows": 100, "classifier_queries": 9}, 80, 0, 2, ""),
        ({"network_rows": 0}, 0, 0, 0, "network_rows"),
        ({"wall_minutes": 0}, 0, 0, 0, "wall_minutes"),
    ],
)
def test_what_is_left_pays_for_the_dearest_edit(limits, rows, queries, affordable, stopped):
    """Ten rows and two pictures each."""
    found = budget(rows=rows, queries=queries, **limits)
    assert (found.affordable(50), found.stopped()) == (affordable, stopped)


def test_time_is_foreseen_from_the_pace():
    """Sixteen edits first; at two seconds an edit the last minute pays for thirty more, and none when it is over."""
    clock = Clock()
    found = budget(wall_minutes=1, clock=clock)
    assert found.affordable(64) == 16
    clock.now += 20
    assert found.affordable(64) == 32
    clock.now += 39.9
    assert (found.affordable(64), found.stopped()) == (0, "wall_minutes")


def test_a_trial_of_the_pilot_is_made_whole_or_not_at_all():
    """No model is shown its pictures."""
    assert budget(network_rows=80, classifier_queries=0).stops_pilot(8) == ""
    assert budget(network_rows=79).stops_pilot(8) == "network_rows"


def test_limits_below_nothing_are_refused():
    with pytest.raises(ValueError, match="0 or more"):
        DiffexLimits(network_rows=-1)


def audited(root, scores, **limits):
    """The tree of the scenes by an editor of one row a picture, within limits."""
    editor, classifier = new_editor(), FakeClassifier()
    arms = ScoredArms(new_studio(root, editor, tree=TREE), classifier, scores)
    given = DiffexLimits(**({"network_rows": None, "classifier_queries": None, "wall_minutes": None} | limits))
    spends = Budget(given, rows=editor.rows_spent, queries=lambda: arms.sent[0], rows_per_edit=2)
    result = run_diffex(
        arms,
        TREE,
        IMAGES,
        ("bright",),
        labels=classifier.info.labels,
        classes_of=dict.fromkeys(IMAGES, "bright"),
        options=OPTIONS,
        limits=[spends.stopped],
        affordable=spends.affordable,
    )
    return result, editor.rows_spent(), classifier.seen


def test_a_later_run_goes_on_from_the_bank(tmp_path):
    """Runs under a limit never pass it, say what they did not reach, and together come to the result of one without a limit."""
    whole, rows, queries = audited(tmp_path / "whole", FakeScores())
    testable = {node.path for node in TREE.editable} - {one.node for one in whole.untestable}
    scores, ends, total = FakeScores(), list[str](), 0
    for _ in range(20):
        found, spent, sent = audited(
            tmp_path / "limited", scores, network_rows=math.ceil(rows / 3), classifier_queries=queries // 2
        )
        assert spent <= math.ceil(rows / 3)
        assert sent <= queries // 2
        ends.append(found.stopped)
        total += spent
        if not found.stopped:
            break
        told = {one.node: one for one in found.classes[0].nodes}
        late = {path for path, one in told.items() if one.reason}
        assert {told[path].reason for path in late} == {f"limit reached: {found.stopped}"}
        assert all(told[path].state is EffectState.INCONCLUSIVE and "incomplete" in told[path].flags for path in late)
        if found.classes[0].search.rounds in {(), found.classes[0].search.rounds[:1]}:
            assert testable <= told.keys() | {one.node for one in found.untestable}
    assert len(ends) > 2
    assert set(ends[:-1]) <= {"network_rows", "classifier_queries"}
    assert total == rows
    assert found == replace(whole, edits=found.edits)


def test_a_limit_of_nothing_reaches_nothing(tmp_path):
    """Every node is inconclusive, with the reason; nothing is edited or asked."""
    found, rows, queries = audited(tmp_path, FakeScores(), classifier_queries=0)
    assert (rows, queries, found.edits, found.stopped) == (0, 0, 0, "classifier_queries")
    nodes = found.classes[0].nodes
    assert {one.node for one in nodes} == {node.path for node in TREE.editable}
    assert {one.reason for one in nodes} == {"limit reached: classifier_queries"}
    assert {one.chosen for one in nodes} == {Chosen.SURVIVOR, Chosen.UNREACHED}

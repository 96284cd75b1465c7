"""Controls on the edits of an audit of a concept tree: the same search and estimates, other answers, nothing made."""

from dataclasses import replace
from functools import cache

import pytest

from audit_plugin.controls import tree_controls
from audit_plugin.core.diffex_results import EffectState, ScoreKind
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.methods.diffex import CombineOptions, DiffexOptions, EstimateOptions, control_effects, run_diffex
from tests.findings.examples import result
from tests.methods.diffex.world import LABELS, World, images, node, tree_of

POOL = images(80)
TREE = tree_of(
    node("object", NodeKind.CORE),
    node("ruler", NodeKind.ARTEFACT),
    *(node(f"idle-{at}", NodeKind.NUISANCE) for at in range(4)),
)
CLASSES_OF = dict.fromkeys(POOL, "cat")


def options(score=ScoreKind.LOGITS):
    return DiffexOptions(
        score=score, placebos=(), combine=CombineOptions(terms=0), estimate=EstimateOptions(draws=200, flips=999), seed_pilot=0,
        dose_nodes=0, hit_nodes=0, agreement_images=0,
    )  # fmt: skip


@cache
def audited(**world):
    """An audit of a model that responds to nothing but the object, and the rows that it left."""
    rows = []
    told = run_diffex(
        World({"object": 1.0}, **world),
        TREE,
        POOL,
        ["cat"],
        labels=LABELS,
        classes_of=CLASSES_OF,
        options=options(),
        sink=rows.extend,
    )
    return conclude(result(concepts=(), gates=(), diffex=told), default_policy()), rows


def again(rows, score=ScoreKind.LOGITS):
    return lambda path, name: control_effects(
        rows, path, name, tree=TREE, images=POOL, labels=LABELS, classes_of=CLASSES_OF, options=options(score), seed=0
    )


@pytest.mark.parametrize("score", [ScoreKind.PROBS, ScoreKind.LABELS, ScoreKind.SIGMOID])
def test_what_is_planted_in_edits_is_found_and_nothing_else(score):
    """Whatever a model answers with."""
    ours, rows = audited()
    told = tree_controls(ours, default_policy(), again(rows, score))
    assert (told.planted.accused, told.missed) == (told.planted.concept, False)
    assert TREE.node(told.planted.concept).kind.must_not
    assert told.planted.effect.low > 0.2
    assert (told.clean.concept, told.false_alarm) == ("object", False)


def test_a_control_responds_to_its_node_alone():
    _, rows = audited()
    found = {one.node: one for one in again(rows)("ruler", "cat").classes[0].nodes}
    assert [path for path, one in found.items() if one.state is EffectState.EFFECT] == ["ruler"]
    assert found["ruler"].effect.value == pytest.approx(3.0, abs=0.1)


def test_what_is_removed_counts_with_its_sign():
    _, rows = audited(present=_every_second)
    found = {one.node: one for one in again(rows)("ruler", "cat").classes[0].nodes}
    assert found["ruler"].effect.value == pytest.approx(3.0, abs=0.1)


def _every_second(image, _node):
    return int(image.rpartition("-")[2]) % 2 == 0


def test_edits_that_no_judge_accepts_find_nothing():
    """A node that cannot be edited is no candidate; where its edits fail later, the control is missed."""
    ours, rows = audited()
    spoilt = [replace(row, valid=False, reasons=("V1",)) if not {"ruler", "idle-0", "idle-1", "idle-2", "idle-3"}.isdisjoint(row.cell.nodes) else row for row in rows]  # fmt: skip
    told = tree_controls(ours, default_policy(), again(spoilt))
    assert told.missed
    assert told.planted.reason


def test_a_policy_without_a_bound_on_nodes_cannot_alarm():
    ours, rows = audited()
    told = tree_controls(ours, Policy(name="none"), again(rows))
    assert (told.missed, told.false_alarm) == (None, False)
    assert "no node that the policy can accuse" in told.planted.reason


def test_an_audit_that_a_limit_stopped_is_not_judged():
    ours, rows = audited()
    stopped = replace(ours, diffex=replace(ours.diffex, stopped="wall_minutes"))
    assert "wall_minutes" in tree_controls(stopped, default_policy(), again(rows)).planted.reason

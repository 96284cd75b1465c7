"""What becomes a finding about words and classes that were found with no data."""

from dataclasses import replace

import pytest

from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.discovery_results import WordPart
from audit_plugin.core.results import RunState
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.discovery import kind_of, tree_tests
from audit_plugin.findings.findings import find, identity
from audit_plugin.findings.history import PastRun
from audit_plugin.findings.policy import Policy, default_policy, policy_from
from tests.findings.examples import result
from tests.findings.found import UNFIT, around, discovery, idle, subject, word
from tests.findings.trees import node, tree


def found(*words, policy=None, history=(), about=None, told=None, **changes):
    """Findings about the words, and no other."""
    made = told or discovery(replace(about or subject(), words=words))
    return find(result(concepts=(), discovery=made, **changes), policy or default_policy(), history)


def rule(**changes):
    words = {"name": "r", "owner": "o", "reason": "agreed", "date": "2026-11-01", "metric": "cue", "threshold": 0.2}
    return policy_from({"name": "p", "thresholds": [words | changes]})


def test_a_cue_is_a_finding_that_names_cue_class_numbers_and_what_to_do():
    (one,) = found(word())
    assert (one.kind, one.concept, one.metric, one.rule, one.n) == (
        "discovered_cue", "ruler", "cue_effect:malignant", "discovered-cue", 100)  # fmt: skip
    assert one.id == identity("discovered_cue", "ham", "lesion", "ruler", "cue_effect:malignant")
    assert (one.low, one.threshold, one.severity) == (pytest.approx(0.3), 0.2, "warning")
    assert "'ruler' in the prompt makes 'ham' version 1 say 'malignant' on 60% of drawn pictures instead of 20%" in one.summary
    assert "effect +0.40 (95 % interval +0.30 to +0.50, q<0.001, 100 pairs, bound 0.20)" in one.summary
    assert "part spurious by segmentation, node 'scene/ruler', kind artefact" in one.summary
    assert "test it on real images (diffex) before acting" in one.summary
    assert one.runbook == "auditplugindiscoveredcue.md"


@pytest.mark.parametrize(("low", "severity"), [(0.2, None), (0.21, "warning"), (0.5, "warning"), (0.51, "critical")])
def test_the_lower_limit_decides_and_how_far_beyond_says_how_bad(low, severity):
    """At the bound is not beyond it."""
    cue = word(effect=replace(around(low + 0.1), low=low))
    assert [one.severity for one in found(cue)] == ([severity] if severity else [])


def test_a_word_for_a_protected_attribute_is_critical_and_a_bound_may_be_set_for_one_word():
    assert [one.rule for one in found(word(kind=NodeKind.PROTECTED))] == ["discovered-protected-cue"]
    assert [one.severity for one in found(word(kind=NodeKind.PROTECTED))] == ["critical"]
    assert found(word(), policy=rule(concepts=["sofa"])) == ()
    assert len(found(word(), policy=rule(concepts=["ruler"]))) == 1
    assert len(found(word(), policy=rule(nodes=["scene"]))) == 1
    assert found(word(node="", kind=None), policy=rule(nodes=["scene"])) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"causes": False},
        {"part": WordPart.CORE, "part_by": "person"},
        {"part": WordPart.MIXED},
        {"kind": NodeKind.CORE},
        {"pairs": 19},
    ],
    ids=str,
)
def test_what_causes_nothing_or_is_core_accuses_nobody(changes):
    """By the tree, by a person, or by where the response comes from; nor do a few pairs."""
    assert found(word(**changes)) == ()


def test_unknown_parts_and_words_without_a_node_count():
    """Nothing says that they belong to the class."""
    (one,) = found(word(part=WordPart.UNKNOWN, part_by="", node="", kind=None))
    assert "part unknown; test it" in one.summary
    assert found(idle()) == ()


def test_the_kind_comes_from_the_word_the_proposal_or_the_tree():
    """In this order; a core node of an older result is never held against the model."""
    bare = word(kind=None)
    told = discovery(subject(bare))
    assert kind_of(result(discovery=told), told.subjects[0], bare) is NodeKind.ARTEFACT
    told = replace(told, proposed=())
    assert kind_of(result(discovery=told), told.subjects[0], bare) is None
    grown = result(discovery=told, diffex=tree(node(kind=NodeKind.CORE)))
    assert kind_of(grown, told.subjects[0], bare) is NodeKind.CORE
    assert [one.kind for one in find(replace(grown, concepts=()), default_policy())] == []


def test_the_test_on_real_images_is_of_the_same_node_and_class():
    own, other = node(), node("scene/hair")
    told = discovery(
        subject(word(), name="malignant"), subject(word(), name="layer[3]", kind="unit", classes=(("malignant", 0.8),))
    )
    whole = result(discovery=told, diffex=tree(own, other))
    assert [tree_tests(whole, one, one.words[0]) for one in told.subjects] == [(own,), (own,)]
    assert tree_tests(whole, replace(told.subjects[0], name="benign"), word()) == ()
    assert tree_tests(whole, told.subjects[0], idle()) == ()


@pytest.mark.parametrize(
    ("test", "says"),
    [
        (node(), "edits of real images confirm it: break the co-occurrence"),
        (node(state=EffectState.NO_EFFECT), "edits of real images do not confirm it"),
        (node(effect=-0.6), "edits of real images do not confirm it"),
        (node(state=EffectState.INCONCLUSIVE), "edits of real images are inconclusive"),
    ],
)
def test_the_finding_says_what_edits_of_real_images_said(test, says):
    (one,) = [one for one in found(word(), diffex=tree(test)) if one.kind == "discovered_cue"]
    assert says in one.summary


def test_a_generator_from_elsewhere_accuses_nobody():
    """Its pictures do not stand for what the model was made for."""
    told = discovery(subject(word(), object_absent=around(0.9)), fit=UNFIT)
    assert found(told=told) == ()


def test_units_are_reported_and_accuse_nobody():
    unit = subject(name="layer[3]", kind="unit", object_absent=around(0.9))
    assert found(word(), about=unit) == ()


def test_a_class_that_needs_no_object_is_a_finding():
    (one,) = found(about=subject(object_absent=around(0.72)))
    assert (one.kind, one.concept, one.metric, one.rule) == (
        "object_absent",
        "malignant",
        "object_absent:malignant",
        "object-absent",
    )
    assert "72% of the drawn pictures that it takes for 'malignant' do not show one (95 % interval 62% to 82%" in one.summary
    assert found(about=subject(object_absent=around(0.6))) == ()
    assert found(about=subject(object_absent=None)) == ()
    stricter = rule(metric="object_absent", threshold=0.5, concepts=["benign"])
    assert found(about=subject(object_absent=around(0.72)), policy=stricter) == ()


def test_one_audit_is_enough_and_the_life_cycle_is_that_of_others():
    (one,) = found(word())
    assert (one.strong, one.confirmed) == (False, True)
    past = PastRun(run="1", state=RunState.SUCCEEDED_WITH_FINDINGS, evidence="other rows", breaches=frozenset({one.id}))
    (again,) = found(word(), history=(past,))
    assert (again.id, again.breach_runs) == (one.id, 2)


def test_without_a_discovery_or_a_bound_there_is_none():
    assert [one.kind for one in find(result(concepts=(), discovery=None), default_policy())] == []
    assert found(word(), about=subject(object_absent=around(0.9)), policy=Policy(name="none")) == ()
    assert [one.kind for one in find(result(discovery=None), rule(threshold=0.0))] == []

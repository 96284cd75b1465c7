"""What becomes a finding about a node of the concept tree, and what keeps the whole tree silent."""

import datetime as dt
from dataclasses import replace

import pytest

from audit_plugin.core.diffex_results import EffectState, StabilityResult
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import RunState
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.findings import conclude, find, identity
from audit_plugin.findings.history import PastRun
from audit_plugin.findings.policy import Policy, Threshold, default_policy, policy_from
from audit_plugin.findings.semantic import untrustworthy
from tests.findings.examples import concept, result
from tests.findings.trees import CORE, GOOD, NUISANCE, PROTECTED, around, class_effects, node, tree

POLICY = default_policy()
SKIN = "person/skin"


def rule(name="r", **changes):
    """A threshold on concept trees."""
    words = {"owner": "imaging", "reason": "agreed", "date": dt.date(2026, 11, 1), "metric": "semantic", "minimum_n": 32}
    return Threshold(name=name, **(words | changes))


def found(*nodes, policy=POLICY, history=(), **changes):
    """Findings about the nodes, and no other."""
    return find(result(concepts=(), diffex=tree(*nodes, **changes)), policy, history)


def protected(low, **changes):
    """A protected node whose effect has its lower limit at ``low``."""
    effect = Estimate(value=low + 0.05, low=low, high=low + 0.1)
    return replace(node(SKIN, PROTECTED), effect=effect, spuriousness=0.9, **changes)


def test_a_spurious_node_is_a_finding_in_the_words_of_its_record():
    """Identity, bound, owner and every number of the summary come from the node and the policy."""
    (one,) = found(node())
    assert (one.kind, one.concept, one.metric, one.rule) == (
        "semantic",
        "scene/ruler",
        "spuriousness:malignant",
        "semantic-shortcut",
    )
    assert one.id == identity("semantic", "ham", "lesion", "scene/ruler", "spuriousness:malignant")
    assert (one.value, one.low, one.high, one.threshold, one.n) == (0.4, 0.4, 0.4, 0.25, 60)
    assert one.summary == (
        "for class 'malignant' of 'ham' version 1, the presence of 'scene/ruler' changes the log-odds by +0.60 (95 % interval +0.50 to "
        "+0.70, q=0.004, 64 images); the decision flips on 20% of images more than by placebo; 90% of edits passed validity; kind artefact"
    )
    assert (one.owner, one.date, one.runbook) == ("audit_plugin defaults", "2026-11-28", "auditpluginspuriousfeature.md")


@pytest.mark.parametrize(("score", "count"), [(0.25, 0), (0.2501, 1), (None, 0)])
def test_spuriousness_has_to_exceed_its_bound(score, count):
    """At the bound is not beyond it."""
    assert len(found(node(spuriousness=score))) == count


@pytest.mark.parametrize(("low", "count"), [(0.1, 0), (0.11, 1), (-0.21, 1), (-0.2, 0), (-0.05, 0)])
def test_a_protected_node_is_held_by_its_nearest_limit(low, count):
    """Of either sign, and never by its spuriousness: an interval that covers 0 accuses nobody."""
    assert [one.metric for one in found(protected(low))] == ["effect:malignant"] * count


def test_protected_nodes_are_critical_and_have_their_own_runbook():
    """They go to another alert."""
    (one,) = found(protected(0.15))
    assert (one.severity, one.runbook, one.rule) == ("critical", "auditpluginprotectedattributeeffect.md", "semantic-protected")


@pytest.mark.parametrize("kind", list(NodeKind))
def test_by_default_nuisances_artefacts_and_protected_nodes_are_held(kind):
    """Core effects are healthy; context and picture quality are shown and not judged unless the policy says so."""
    held = {NodeKind.NUISANCE, NodeKind.ARTEFACT, NodeKind.PROTECTED}
    assert bool(found(node(kind=kind))) is (kind in held)


def test_a_threshold_without_scope_covers_all_kinds_but_core():
    """And core stays silent even when it is named."""
    policies = [Policy(name="p", thresholds=(rule(**scope),)) for scope in ({}, {"kinds": (CORE,)})]
    silent = [{kind for kind in NodeKind if not found(node(kind=kind, effect=0.9), policy=policy)} for policy in policies]
    assert silent == [{CORE}, set(NodeKind)]


@pytest.mark.parametrize(("path", "count"), [("scene/ruler", 1), ("scene/ruler/steel", 1), ("scene/rulers", 0), ("scene", 0)])
def test_a_path_covers_what_is_below_it(path, count):
    """Whole parts of the path are compared."""
    assert len(found(node(path), policy=Policy(name="p", thresholds=(rule(nodes=("scene/ruler",)),)))) == count


def test_nodes_and_kinds_add_up():
    """As concepts and roles do: neither is ignored where both are given."""
    policy = Policy(name="p", thresholds=(rule(nodes=("scene",), kinds=(PROTECTED,)),))
    told = found(node("scene/ruler"), protected(0.2), node("hair/dark", NUISANCE), policy=policy)
    assert [one.concept for one in told] == ["scene/ruler", SKIN]


def test_the_first_matching_threshold_decides():
    """An exception for one branch stands before the rule for its kind."""
    lenient = rule("agreed", nodes=("scene",), threshold=0.99)
    assert found(node(), policy=Policy(name="p", thresholds=(lenient, *POLICY.thresholds))) == ()
    assert len(found(node("hair/dark"), policy=Policy(name="p", thresholds=(lenient, *POLICY.thresholds)))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"state": EffectState.INCONCLUSIVE},
        {"state": EffectState.NO_EFFECT},
        {"effect": None, "state": EffectState.INCONCLUSIVE},
        {"images": 31, "spurious_images": 31},
        {"spurious_images": 31},
    ],
)
def test_what_is_not_shown_is_not_found(changes):
    """No effect, no estimate, or a score that rests on fewer than 32 images of its own."""
    assert found(replace(node(), **changes)) == ()


def test_a_policy_may_ask_for_more_images_and_never_for_fewer():
    """``minimum_n`` counts above 32."""
    assert found(node(), policy=Policy(name="p", thresholds=(rule(minimum_n=61),))) == ()
    assert found(protected(0.5, images=31), policy=Policy(name="p", thresholds=(rule(minimum_n=1),))) == ()


@pytest.mark.parametrize(
    ("score", "severity", "strong", "says"),
    [(0.5, "warning", False, "warning"), (0.51, "warning", True, "critical"), (0.9, "info", True, "info")],
)
def test_twice_the_bound_is_strong_and_critical(score, severity, strong, says):
    """One audit is enough then; information stays information."""
    (one,) = found(node(spuriousness=score), policy=Policy(name="p", thresholds=(rule(threshold=0.25, severity=severity),)))
    assert (one.strong, one.confirmed, one.severity) == (strong, strong, says)


def test_no_margin_has_no_double():
    """With a bound of 0 every breach would be "twice" it: such a bound waits for a second audit."""
    (one,) = found(node(), policy=Policy(name="p", thresholds=(rule(threshold=0.0),)))
    assert (one.strong, one.severity) == (False, "warning")


def wrecked(**changes):
    """A tree with two findings in good order and a second class that is not."""
    classes = (class_effects(node(), protected(0.5)), class_effects(node(class_name="benign"), class_name="benign", **changes))
    return tree(classes=classes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images_estimate": 31}, "fewer than 32 images of benign"),
        ({"quality": replace(GOOD, valid=0.49)}, "fewer than 50% of the edits are valid"),
        ({"null_shift": around(-0.11)}, "editing nothing moves the scores of benign by more than 0.1"),
        ({"stability": StabilityResult(tau=0.29, jaccard=0, signs=1, splits=20)}, "the effects' order differs between halves"),
    ],
)
def test_one_class_in_doubt_silences_the_whole_tree(changes, reason):
    """The reason names the class; concepts of the same run are judged as before."""
    told = wrecked(**changes)
    (doubt,) = untrustworthy(told)
    assert reason in doubt
    assert [one.kind for one in find(result(concepts=(concept(),), diffex=told), POLICY)] == ["reliance"]


def test_at_their_limits_effects_are_relied_on():
    """32 images, half of the edits valid, a shift of 0.1, tau 0.3; what was not measured is no doubt; no effects have no order."""
    limits = {"images_estimate": 32, "quality": replace(GOOD, valid=0.5), "null_shift": around(0.1)}
    assert untrustworthy(wrecked(**limits, stability=StabilityResult(tau=0.3, jaccard=0, signs=1, splits=20))) == ()
    assert untrustworthy(wrecked(quality=replace(GOOD, valid=None), null_shift=None, stability=None)) == ()
    calm = class_effects(node(state=EffectState.NO_EFFECT), stability=StabilityResult(tau=-0.2, jaccard=0, signs=0.5, splits=20))
    assert untrustworthy(tree(classes=(calm,))) == ()


def test_the_order_of_nodes_without_effect_is_no_doubt():
    """Only that of effects is: one shortcut among many idle nodes is what audits are for."""
    sure = StabilityResult(tau=-0.1, jaccard=0, signs=1, splits=20, effects_tau=0.9)
    assert untrustworthy(wrecked(stability=sure)) == ()
    (doubt,) = untrustworthy(wrecked(stability=replace(sure, tau=0.9, effects_tau=0.29)))
    assert "order differs" in doubt


@pytest.mark.parametrize("classes", [(), (class_effects(),)])
def test_a_tree_without_estimates_says_nothing(classes):
    """Silence about every node is not health."""
    assert untrustworthy(tree(classes=classes)) == ("no node could be estimated",)


def test_a_broken_run_accuses_no_node():
    """It yields one finding, about the audit."""
    assert [one.kind for one in find(result(state=RunState.FAILED, diffex=tree(node())), POLICY)] == ["audit_broken"]


def test_two_audits_on_different_rows_confirm():
    """Equal rows are one piece of evidence; a clean run in between starts again."""
    (alone,) = found(node())

    def past(evidence, *ids):
        return PastRun(run=evidence, state=RunState.SUCCEEDED_WITH_FINDINGS, evidence=evidence, breaches=frozenset(ids))

    histories = [(), (past("bank-1", alone.id),), (past("a", alone.id), past("b", alone.id)), (past("a"), past("b", alone.id))]
    assert [found(node(), history=history)[0].breach_runs for history in histories] == [1, 1, 3, 1]
    assert [found(node(), history=history)[0].confirmed for history in histories] == [False, False, True, False]


def test_the_same_node_of_two_classes_is_two_findings():
    """Each class has a history of its own; concluding counts both."""
    other = class_effects(node(class_name="benign"), class_name="benign")
    done = conclude(result(concepts=(), diffex=tree(classes=(class_effects(node()), other))), POLICY)
    assert len({one.id for one in done.findings}) == 2
    assert done.state is RunState.SUCCEEDED_WITH_FINDINGS


def test_semantic_thresholds_judge_no_concepts():
    """And thresholds on concepts judge no nodes."""
    semantic = Policy(name="p", thresholds=(rule(),))
    assert find(result(), semantic) == ()
    assert found(node(), policy=Policy(name="p", thresholds=POLICY.thresholds[:4])) == ()


def test_a_policy_file_speaks_of_kinds_and_nodes():
    """Kinds are checked by name when the file is read."""
    entry = {
        "name": "t",
        "owner": "o",
        "reason": "r",
        "date": "2026-11-01",
        "metric": "semantic",
        "kinds": ["quality"],
        "nodes": ["a/b"],
    }
    (threshold,) = policy_from({"name": "p", "thresholds": [entry]}).thresholds
    assert (threshold.kinds, threshold.nodes) == ((NodeKind.QUALITY,), ("a/b",))

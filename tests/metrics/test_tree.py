"""What of a concept tree becomes a series, and which series go first when there are too many."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from audit_plugin.core.diffex_results import EffectState, StabilityResult
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import RunState
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.samples import audit_samples
from tests.findings.examples import concept, result
from tests.findings.test_semantic import rule
from tests.findings.trees import CORE, GOOD, NUISANCE, PROTECTED, class_effects, drift_of, hits_of, node, tree

AUDIT = ("ham", "1", "lesion")
RULER = (*AUDIT, "malignant", "scene/ruler", "artefact")
CALM = EffectState.NO_EFFECT
PLENTY = 10_000


def audited(told, policy=None, **changes):
    """A finished audit of the tree alone, findings drawn."""
    return conclude(result(**{"concepts": (), "diffex": told} | changes), policy or default_policy())


def samples(told, policy=None, **options):
    """Metric -> {labels: value} of one audited tree; without caps unless told otherwise."""
    done = audited(told, policy)
    out = {}
    for sample in audit_samples([done], [done], **{"per_audit": PLENTY, "total": PLENTY} | options):
        out.setdefault(sample.metric, {})[sample.labels] = sample.value
    return out


def numbered(n, kind=NUISANCE, state=CALM, **changes):
    """Nodes of falling spuriousness, in an order that says nothing."""
    nodes = [node(f"a/n{i:03}", kind, spuriousness=0.2 - i / 1000, state=state, **changes) for i in range(n)]
    random.Random(7).shuffle(nodes)
    return nodes


def test_every_series_is_in_the_table_with_its_labels_and_its_number():
    """Each number is the field it is named after."""
    out = samples(tree(node()))
    exported = {name for name in out if "semantic" in name or name.startswith("spurious")}
    assert exported == {name for name in METRICS if "semantic" in name or name.startswith("spurious")}
    assert all(len(labels) == len(METRICS[name].labels) for name in exported for labels in out[name])
    values = {name: next(iter(out[name].values())) for name in exported}
    assert {name: values[name] for name in sorted(values)} == pytest.approx(
        {
            "semantic_bank_hits": 1500, "semantic_edit_results": 115, "semantic_info": 1, "semantic_version_drift_breach": 1,
            "semantic_version_drift_high_logodds": 0.4, "semantic_version_drift_logodds": 0.3,
            "semantic_version_drift_low_logodds": 0.2, "semantic_version_drift_mean_logodds": 0.3,
            "semantic_breach": 1, "semantic_breach_runs": 1, "semantic_breach_strong": 0, "semantic_edits": 2000,
            "semantic_effect_high_logodds": 0.7, "semantic_effect_logodds": 0.6, "semantic_effect_low_logodds": 0.5,
            "semantic_effect_probability_ratio": 0.12, "semantic_estimation_images": 64, "semantic_flip_ratio": 0.2,
            "semantic_null_shift_logodds": 0.02, "semantic_operator_agreement_ratio": 0.7, "semantic_placebo_effect_logodds": 0.01, "semantic_stability_tau_ratio": 0.8,
            "semantic_state": 1, "semantic_sufficiency_ratio": 0.5, "semantic_tree_coverage_ratio": 0.8,
            "semantic_tree_valid_edit_ratio": 0.9, "semantic_untrustworthy": 0, "semantic_valid_edit_ratio": 0.9,
            "semantic_verifier_precision_high_ratio": 0.94, "semantic_verifier_precision_low_ratio": 0.49,
            "semantic_verifier_precision_ratio": 0.8, "spurious_auc_ratio": 0.55, "spurious_hit_low_ratio": 0.5,
            "spurious_hit_ratio": 0.6, "spurious_ratio": 0.3, "spuriousness_ratio": 0.4,
        }
    )  # fmt: skip
    assert set(out["semantic_state"]) == {(*RULER, "effect")}
    assert set(out["semantic_effect_logodds"]) == {RULER}


def test_too_few_images_with_the_cue_alone_have_no_series():
    told = tree(classes=(class_effects(node(), hits=(hits_of("scene/ruler", 74),)),))
    assert not {"spurious_hit_ratio", "spurious_hit_low_ratio", "spurious_auc_ratio"} & samples(told).keys()


def test_the_first_twenty_by_spuriousness_and_all_protected_nodes():
    """Whatever order the result has; protected nodes are there without a score, too."""
    skins = [node(f"p/s{i}", PROTECTED, spuriousness=None, state=CALM) for i in range(5)]
    out = samples(tree(*numbered(30), *skins))
    assert {labels[4] for labels in out["semantic_state"]} == {f"a/n{i:03}" for i in range(20)} | {f"p/s{i}" for i in range(5)}


def test_twenty_are_counted_in_every_class():
    """One class does not crowd out another."""
    classes = tuple(class_effects(*(replace(n, class_name=name) for n in numbered(25)), class_name=name) for name in "ab")
    assert Counter(labels[3] for labels in samples(tree(classes=classes))["semantic_state"]) == {"a": 20, "b": 20}


def test_edits_are_counted_by_result_and_the_run_says_what_it_was_made_with():
    out = samples(tree(node()))
    assert out["semantic_edit_results"] == {(*AUDIT, "valid"): 115, (*AUDIT, "invalid"): 13}
    assert out["semantic_info"] == {(*AUDIT, "t0", "b0", "deterministic/1,sim/1"): 1}


@pytest.mark.parametrize(("change", "images", "told"), [(0.3, 64, 1), (-0.3, 64, 1), (0.3, 31, 0), (0.2, 64, 0), (0.09, 64, 0)])
def test_a_drift_is_a_breach_when_it_is_large_and_sure_on_enough_images(change, images, told):
    """Changes of 0.3 ± 0.1: beyond 0.25, and 0 is not within."""
    out = samples(tree(node(), drift=drift_of(("scene/ruler", change), images=images)))
    assert out["semantic_version_drift_breach"] == {(*RULER, "0"): told}
    wide = samples(tree(node(), drift=replace(drift_of(("scene/ruler", change)), classes=())))
    assert "semantic_version_drift_logodds" not in wide


def test_a_node_that_surely_drifted_is_exported_however_unimportant():
    """The last of thirty, which the first twenty by spuriousness leave out."""
    out = samples(tree(*numbered(30), drift=drift_of(("a/n029", -0.4), ("a/n028", 0.05))))
    assert {labels[4] for labels in out["semantic_version_drift_logodds"]} == {"a/n029"}
    assert len(out["semantic_state"]) == 21


def test_the_first_fifty_classes():
    """Those after them are in the report."""
    classes = tuple(class_effects(node(class_name=f"c{i:02}", state=CALM), class_name=f"c{i:02}") for i in range(60))
    out = samples(tree(classes=classes))
    first = {f"c{i:02}" for i in range(50)}
    assert first == {labels[3] for labels in out["semantic_state"]} == {labels[3] for labels in out["semantic_estimation_images"]}


def test_core_nodes_are_measured_and_not_judged():
    """No breach series where there can be no breach; 0 is said aloud of all other kinds."""
    out = samples(tree(*(node(kind.value, kind, state=CALM) for kind in NodeKind)))
    assert {labels[5] for labels in out["semantic_effect_logodds"]} == {kind.value for kind in NodeKind}
    assert {labels[5]: value for labels, value in out["semantic_breach"].items()} == {k.value: 0 for k in NodeKind if k is not CORE}


def test_information_sets_no_breach():
    """A threshold of severity info is counted as a finding and alerts nobody."""
    out = samples(tree(node(spuriousness=0.9)), Policy(name="p", thresholds=(rule(severity="info"),)))
    assert out["findings"][*AUDIT, "info"] == 1
    assert [out[f"semantic_breach{end}"][RULER] for end in ("", "_runs", "_strong")] == [0, 0, 0]


def test_a_strong_breach_belongs_to_its_node_and_class_alone():
    """The same node of another class, and its neighbour, stay at 0."""
    other = class_effects(node(class_name="benign", state=CALM), class_name="benign")
    out = samples(tree(classes=(class_effects(node(spuriousness=0.6), node("hair", state=CALM)), other)))
    assert {labels[3:5] for labels, value in out["semantic_breach_strong"].items() if value} == {("malignant", "scene/ruler")}
    assert {labels[3:5] for labels, value in out["semantic_breach"].items() if value} == {("malignant", "scene/ruler")}


def test_an_untrustworthy_tree_keeps_its_numbers_and_breaches_nothing():
    """The values are there to be looked at; the one alert is about the tree."""
    out = samples(tree(classes=(class_effects(node(spuriousness=0.9), images_estimate=20),)))
    assert out["semantic_untrustworthy"] == {AUDIT: 1}
    assert (out["semantic_breach"][RULER], out["spuriousness_ratio"][RULER]) == (0, 0.9)


def test_what_was_not_measured_has_no_series():
    """Neither 0 nor NaN: absence means not known."""
    empty = replace(GOOD, attempts=0, valid=None)
    bare = replace(
        node(), effect=None, probability=None, flip_rate=None, spuriousness=None, spurious_ratio=None, quality=empty,
        state=EffectState.INCONCLUSIVE, images=0,
    )  # fmt: skip
    loose = StabilityResult(tau=None, jaccard=0, signs=0.5, splits=20)
    nothing = {"null_shift": None, "placebo_effect": None, "stability": loose, "sufficiency": (), "hits": (), "agreement": None}
    older = {"operators": (), "bank": "", "bank_hits": None, "drift": None}
    out = samples(tree(classes=(class_effects(bare, quality=empty, **nothing),), verifier=None, quality=empty, **older))
    assert {name for name in out if "semantic" in name or name.startswith("spurious")} == {
        "semantic_state", "semantic_breach", "semantic_breach_runs", "semantic_breach_strong", "semantic_estimation_images",
        "semantic_tree_coverage_ratio", "semantic_untrustworthy", "semantic_edits",
    }  # fmt: skip


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_ever_nan(bad):
    """Nor does it disturb which nodes are exported."""
    odd = Estimate(value=bad, low=bad, high=bad)
    wild = replace(node("wild", state=CALM), effect=odd, probability=odd, flip_rate=odd, spuriousness=bad, spurious_ratio=bad)
    nodes = [*numbered(25), wild]
    for order in (nodes, nodes[::-1], *(random.Random(seed).sample(nodes, len(nodes)) for seed in range(5))):
        out = samples(tree(classes=(class_effects(*order, null_shift=odd, placebo_effect=odd, sufficiency=(bad,)),)))
        assert all(math.isfinite(value) for series in out.values() for value in series.values())
        assert {labels[4] for labels in out["semantic_state"]} == {f"a/n{i:03}" for i in range(20)}


def test_label_values_are_bounded():
    """Names of the model and of the tree, kinds and states, digests of what was asked: no run, image, number or reason."""
    done = audited(tree(*numbered(5), node()))
    names = {*AUDIT, "malignant", "scene/ruler", *(f"a/n{i:03}" for i in range(5))} | {*NodeKind} | {*EffectState}
    names |= {"0", "t0", "b0", "deterministic/1,sim/1", "valid", "invalid"}
    told = [s for s in audit_samples([done], [done], per_audit=PLENTY, total=PLENTY) if "semantic" in s.metric]
    assert {label for sample in told for label in sample.labels} <= {str(name) for name in names}
    assert len(told) > 40


def test_two_runs_export_the_same_series():
    """The run's id and its pictures are in no label."""
    first, second = (audited(tree(node()), run=run) for run in ("r1", "r2"))
    assert audit_samples([first], [first]) == audit_samples([second], [second])


@pytest.mark.parametrize(("per_audit", "total"), [(200, 2000), (120, 2000), (200, 90)])
def test_the_caps_hold_and_breaches_stay(per_audit, total):
    """Whole nodes go, those in breach last; what was left out is counted."""
    whole = tree(*numbered(40), node(), node(PROTECTED.value, PROTECTED, spuriousness=None))
    out, every = samples(whole, per_audit=per_audit, total=total), samples(whole)
    sizes = [sum(map(len, one.values())) for one in (out, every)]
    assert sizes[0] <= min(per_audit, total)
    assert {labels[4] for labels, value in out["semantic_breach"].items() if value} == {"scene/ruler", "protected"}
    assert out["series_dropped"][AUDIT] == sizes[1] - sizes[0] > 0
    for name in ("semantic_effect_logodds", "spurious_ratio", "semantic_breach_strong"):
        assert {labels[4] for labels in out[name]} == {labels[4] for labels in out["semantic_state"]}, "all of a node or nothing"


def test_many_classes_do_not_crowd_out_a_breach():
    """Figures of whole classes give way to it, too."""
    classes = tuple(class_effects(node(class_name=f"c{i:02}", state=CALM), class_name=f"c{i:02}") for i in range(49))
    breach = class_effects(node(class_name="z"), class_name="z")
    done = audited(tree(classes=(*classes, breach)))
    told = audit_samples([done], [done], per_audit=200)
    assert len(told) <= 200
    assert [s.labels[3] for s in told if s.metric == "semantic_breach" and s.value] == ["z"]
    assert "semantic_untrustworthy" in {s.metric for s in told}


def test_models_share_the_cap_of_the_process_and_keep_their_breaches():
    """Fifteen models with a large tree each, beside concepts in breach."""
    runs = [
        audited(tree(*numbered(30), node()), concepts=(concept(),), model=f"m{i:02}", run=f"r{i}", state=RunState.SUCCEEDED)
        for i in range(15)
    ]
    told = audit_samples(runs, runs, total=1200)
    assert len(told) <= 1200
    assert Counter(s.metric for s in told if s.value and s.metric in {"semantic_breach", "concept_breach"}) == {
        "semantic_breach": 15,
        "concept_breach": 15,
    }


def test_the_same_series_are_left_out_every_time():
    """Whatever order nodes and classes come in; ties are broken by name."""
    alike = [node(f"t/{i:02}", NUISANCE, state=CALM, spuriousness=0.1) for i in range(26)]
    orders = [alike, alike[::-1], random.Random(1).sample(alike, len(alike))]
    kept = [{(s.metric, s.labels) for s in audit_samples([done], [done])} for done in (audited(tree(*order)) for order in orders)]
    assert all(one == other for one, other in itertools.pairwise(kept))

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.special import softmax

from audit_plugin.core.diffex_results import Chosen, DiffexResult, EffectState, ScoreKind
from audit_plugin.core.edits import Split
from audit_plugin.core.tree import NodeKind
from audit_plugin.findings.findings import find
from audit_plugin.findings.policy import default_policy
from audit_plugin.findings.semantic import untrustworthy
from audit_plugin.methods.diffex import (
    ClassPlan,
    CombineOptions,
    DiffexOptions,
    EstimateOptions,
    RaceOptions,
    class_effects,
    run_diffex,
    split_images,
)
from tests.findings.examples import result
from tests.methods.diffex.world import LABELS, World, images, node, tree_of

EFFECTS = {"grass": -1.2, "sand": 0.8, "leash": -0.6, "collar": -0.5}
TREE = tree_of(
    node("scene", NodeKind.CONTEXT, editable=False),
    node("scene/grass", NodeKind.CONTEXT, group="ground"),
    node("scene/sand", NodeKind.CONTEXT, group="ground"),
    node("things", editable=False),
    node("things/leash", group="leash"),
    node("things/collar", group="collar"),
    *(node(f"things/no{at}", group=f"no{at}") for at in range(24)),
    node("things/ghost"),
    node("shape", NodeKind.CORE, editable=False, reason="no valid edit in the pilot"),
    node("skin", NodeKind.PROTECTED),
)
PLANTED = {"scene/grass": -1.2, "scene/sand": 0.8, "things/leash": -0.6, "things/collar": -0.5}
OPTIONS = DiffexOptions(
    score=ScoreKind.LOGITS,
    race=RaceOptions(keep=6),
    combine=CombineOptions(terms=5, size=2, evaluate=4, beam=3),
    estimate=EstimateOptions(draws=300, flips=999),
    seed_pilot=4,
)
POOL = images(80)


def world(**fields):
    fields = {
        "effects": PLANTED,
        "artefact": -0.3,
        "interactions": {frozenset({"things/leash", "things/collar"}): -1.5},
        "untestable": frozenset({"things/ghost"}),
    } | fields
    return World(**fields)


def audit(arms, *, tree=TREE, classes=("cat",), pool=POOL, of=lambda image: image.split("-")[0], options=OPTIONS, **more):
    return run_diffex(arms, tree, pool, classes, labels=LABELS, classes_of={i: of(i) for i in pool}, options=options, **more)


@pytest.fixture(scope="module")
def whole():
    rows = []
    return audit(world(), sink=rows.extend), rows


def test_planted_effects_are_found_and_the_artefact_is_not(whole):
    """Everything that was planted, its sign and size, and nothing else, although every edit lowers the score by 0.3."""
    found = whole[0].classes[0]
    states = {one.node: one.state for one in found.nodes}
    assert {path for path, state in states.items() if state is EffectState.EFFECT} == set(PLANTED)
    for one in found.nodes:
        assert one.effect.low - 0.05 <= PLANTED.get(one.node, 0.0) <= one.effect.high + 0.05
    assert [one.node for one in found.towards] == ["scene/sand"]
    assert found.away[0].node == "scene/grass"
    assert found.placebo_effect.value == pytest.approx(-0.3)
    assert found.nodes[0].spuriousness > 0.7
    assert found.spuriousness(NodeKind.CONTEXT) == found.nodes[0].spuriousness


def test_the_protected_node_is_estimated_whatever_the_race_says(whole):
    skin = next(one for one in whole[0].classes[0].nodes if one.node == "skin")
    assert skin.chosen is Chosen.PROTECTED
    assert skin.state is not EffectState.EFFECT
    assert skin.p_holm is not None


def test_the_interaction_is_reported(whole):
    found = {one.nodes: one for one in whole[0].classes[0].combinations}
    pair = found["things/collar", "things/leash"]
    assert pair.reported
    assert pair.interaction.low < -1.5 + 0.1 < pair.interaction.high + 0.3
    assert pair.interaction.high < -1
    assert whole[0].classes[0].minimal_flip_set


def test_what_could_not_be_tested_is_said(whole):
    reasons = {one.node: one.reason for one in whole[0].untestable}
    assert reasons == {"shape": "no valid edit in the pilot", "things/ghost": "no operator for it"}


def test_search_and_numbers_share_no_image(whole):
    result, rows = whole
    splits = {row.cell.image: row.split for row in rows}
    assert all(splits[row.cell.image] is row.split for row in rows)
    assert result.classes[0].images_select == result.classes[0].images_estimate == 40
    assert splits.items() <= split_images(POOL, dict.fromkeys(POOL, "cat")).items()


def figures(one):
    """All numbers of a node that are exported."""
    estimates = (one.effect, one.probability, one.flip_rate)
    limits = [value for each in estimates for value in ((each.value, each.low, each.high) if each else (np.nan,) * 3)]
    return [*limits, one.p, one.q, one.spuriousness, *one.quantiles]


def test_every_number_follows_from_the_rows(whole):
    """From the rows that were recorded, in another order, and what the search chose, the same result to the last digit."""
    result, rows = whole
    found = result.classes[0]
    estimate = [row for row in rows if row.split is Split.ESTIMATE]
    again = class_effects(
        estimate[::-1],
        TREE,
        ClassPlan(
            class_name="cat",
            labels=LABELS,
            images=tuple(sorted({row.cell.image for row in estimate})),
            chosen={one.node: one.chosen for one in found.nodes},
        ),
        kind=ScoreKind.LOGITS,
        search=found.search,
        options=OPTIONS.estimate,
    )
    for one, other in zip(sorted(found.nodes, key=lambda n: n.node), sorted(again.nodes, key=lambda n: n.node), strict=True):
        assert other.effect.value == pytest.approx(one.effect.value, abs=1e-12)
        assert (other.images, other.state, other.quality, other.flags) == (one.images, one.state, one.quality, one.flags)
        assert figures(other) == pytest.approx(figures(one), abs=1e-9, nan_ok=True)
    assert again.sufficiency == pytest.approx(found.sufficiency)
    assert again.saturated == found.saturated
    assert again.missed_effects == found.missed_effects
    assert again.stability.tau == pytest.approx(found.stability.tau)
    assert again.placebo_effect.value == pytest.approx(found.placebo_effect.value)
    assert [step.node for step in again.coverage] == [step.node for step in found.coverage]


def test_a_run_is_the_same_again_and_is_json(whole):
    again = audit(world())
    assert again == whole[0]
    adapter = TypeAdapter(DiffexResult)
    assert adapter.validate_json(adapter.dump_json(again)) == again


def test_the_order_of_nodes_changes_no_row(whole):
    """Common random numbers: rows of an edit are the same whatever else is asked for, and in which order."""
    rows = []
    audit(world(), tree=replace(TREE, nodes=(*TREE.nodes[:4], *TREE.nodes[:3:-1])), sink=rows.extend)
    before = {row.cell: row for row in whole[1]}
    shared = [row for row in rows if row.cell in before]
    assert len(shared) > 0.8 * len(rows)
    assert all(before[row.cell] == row for row in shared)


def test_nothing_is_asked_for_twice(whole):
    arms = world()
    audit(arms)
    assert len(arms.made) == len(set(arms.made)) == whole[0].edits


@pytest.mark.parametrize("most", [0, 150, 500, 700])
def test_a_limit_leaves_a_valid_partial_result(most, whole):
    """Whatever was cut short is inconclusive; limits are looked at between batches."""
    arms = world()
    found = audit(arms, limits=[lambda: "queries spent" if len(arms.made) >= most else ""])
    assert found.stopped == "queries spent"
    assert len(arms.made) <= most + OPTIONS.chunk
    assert found.edits < whole[0].edits
    cut = [one for one in found.classes[0].nodes if "incomplete" in one.flags]
    assert cut
    assert all(one.state is EffectState.INCONCLUSIVE for one in cut)
    adapter = TypeAdapter(DiffexResult)
    assert adapter.validate_json(adapter.dump_json(found)) == found


def test_classes_share_rows_when_all_images_serve_all():
    pool = images(24, "cat") + images(24, "dog")
    options = replace(OPTIONS, all_images=True, combine=CombineOptions(size=1))
    one, both = world(), world()
    audit(one, pool=pool, options=options)
    found = audit(both, pool=pool, classes=("cat", "dog"), options=options)
    assert len(both.made) < 1.4 * len(one.made)
    grass = [next(n for n in c.nodes if n.node == "scene/grass").effect.value for c in found.classes]
    assert grass[0] < -1
    assert grass[1] > 0.3


def test_the_class_that_gains_from_a_fall_is_named(whole):
    grass = whole[0].classes[0].nodes[0]
    assert grass.counter.class_name in {"dog", "owl"}
    assert grass.counter.gain.low > 0


def test_labels_alone_are_enough_for_a_large_effect():
    """A model that says nothing but its first class: differences of proportions, and no number is invented."""
    arms = world(answer=lambda z: tuple(np.eye(3)[np.argmax(z)]), effects={"scene/grass": -3.0}, artefact=0.0)
    found = audit(arms, options=replace(OPTIONS, score=ScoreKind.LABELS)).classes[0]
    assert found.nodes[0].node == "scene/grass"
    assert found.nodes[0].state is EffectState.EFFECT
    assert -1 <= found.nodes[0].effect.value < -0.8


def test_a_single_shortcut_among_idle_nodes_becomes_a_finding():
    tree = tree_of(*(node(f"n{at}") for at in range(30)))
    found = audit(
        world(effects={"n7": -1.5}, interactions={}, untestable=frozenset()),
        tree=tree,
        options=replace(OPTIONS, race=RaceOptions(keep=20)),
    )
    assert found.classes[0].stability.tau < 0.3
    assert untrustworthy(found) == ()
    assert [one.concept for one in find(result(concepts=(), diffex=found), default_policy())] == ["n7"]


def test_a_saturated_model_is_flagged():
    arms = world(answer=lambda z: tuple(softmax(z * 40)), base=2.0)
    found = audit(arms, options=replace(OPTIONS, score=ScoreKind.PROBS)).classes[0]
    assert found.saturated > 0.05
    assert any("saturated" in one.flags for one in found.nodes)


def test_edits_that_all_fail_are_reported_as_untestable():
    found = audit(world(invalid=frozenset({"things/leash"})))
    reasons = {one.node: one.reason for one in found.untestable}
    assert reasons["things/leash"].endswith("V1")
    assert found.quality.failures["V1"] > 0


def test_present_attributes_are_removed_and_count_alike():
    """Half of the images have grass: removing it raises the score as much as adding lowers it elsewhere."""
    arms = world(present=lambda image, path: path == "scene/grass" and int(image.split("-")[1]) % 2 == 0)
    grass = next(one for one in audit(arms).classes[0].nodes if one.node == "scene/grass")
    assert grass.effect.low < -1.2 < grass.effect.high


def test_noisy_seeds_are_repeated():
    """Seeds that vary as much as images: the second replicate is made on all images, and the reliability is low."""
    rows = []
    tree = tree_of(node("a"), node("b"))
    found = audit(World(effects={"a": 1.0}, sd=0.1, seed_sd=0.3), tree=tree, sink=rows.extend)
    again = {row.cell.image for row in rows if row.cell.seed == 1 and row.cell.nodes == ("a",)}
    assert len(again) == 40
    assert next(one for one in found.classes[0].nodes if one.node == "a").seed_icc < 0.5


@pytest.mark.parametrize("search", ["parent_gated", "random_order"])
def test_other_searches_keep_protected_nodes(search):
    found = audit(world(), options=replace(OPTIONS, search=search))
    assert "skin" in found.classes[0].search.kept
    assert found.classes[0].search.mode == search


def test_a_class_without_images_has_no_numbers():
    found = audit(world(), classes=("cat", "owl")).classes[1]
    assert found.images_estimate == 0
    assert all(one.effect is None and one.state is EffectState.INCONCLUSIVE for one in found.nodes)


def test_unknown_classes_are_refused():
    with pytest.raises(ValueError, match=r"classes \['fox'\] are not among the model's 3"):
        audit(world(), classes=("fox",))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DiffexOptions, {"images_per_class": 0}),
        (DiffexOptions, {"seeds": 0}),
        (DiffexOptions, {"chunk": 0}),
        (DiffexOptions, {"hit_images": -1}),
        (DiffexOptions, {"sample_eliminated": 5.0}),
        (DiffexOptions, {"sample_eliminated": float("nan")}),
        (RaceOptions, {"n_start": 0}),
        (RaceOptions, {"keep": 0}),
        (RaceOptions, {"bound": 1.0}),
    ],
)
def test_options_that_cannot_work_are_refused(kind, wrong):
    """Once, before any edit, with the name of the option."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


def test_halves_do_not_depend_on_the_order_of_images():
    of = dict.fromkeys(POOL, "cat")
    assert split_images(POOL, of) == split_images(POOL[::-1], of)
    assert sum(split is Split.SELECT for split in split_images(POOL, of).values()) == 40

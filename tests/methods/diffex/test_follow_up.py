"""Figures beside the effects: subgroups, dependence on strength, agreement of operators, images with the cue alone."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.diffex_results import EffectState, ScoreKind
from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffex import CombineOptions, DiffexOptions, EstimateOptions, run_diffex
from audit_plugin.methods.diffex.agreement import agreement, twins
from audit_plugin.methods.diffex.dose import dose_response, doses_of
from audit_plugin.methods.diffex.spurious import feature_only
from audit_plugin.methods.diffex.subgroups import subgroup_effects, with_q_values
from audit_plugin.statistics.two_means import welch
from tests.methods.diffex.world import LABELS, World, images, node, row, tree_of

QUICK = DiffexOptions(
    score=ScoreKind.LOGITS,
    combine=CombineOptions(terms=0),
    estimate=EstimateOptions(draws=200, flips=499),
    images_per_class=64,
    seed_pilot=0,
)


def level(image, name="sex"):
    """Half of the images each, whatever their order."""
    return {name: "f" if int(image.split("-")[1]) % 2 else "m"}


def audited(tree, world, *, pool=None, options=QUICK, **more):
    pool = pool or images(64)
    of = {image: image.split("-")[0] for image in pool}
    return run_diffex(world, tree, pool, ["cat"], labels=LABELS, classes_of=of, options=options, **more).classes[0]


def test_welch_agrees_with_scipy():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    one, other = rng.normal(0.5, 1, 20), rng.normal(0, 3, 40)
    interval, p = welch(one, other)
    known = ttest_ind(one, other, equal_var=False)
    limits = known.confidence_interval(0.95)
    assert (p, interval.low, interval.high) == pytest.approx((known.pvalue, limits.low, limits.high))


def test_an_effect_on_some_images_only_is_told_by_subgroup():
    """0.8 on half of the images and nothing on the others: the largest difference is between them, and covered."""
    rng = np.random.default_rng(1)
    pool = images(64)
    known = {image: {**level(image), "site": "ab"[int(image.split("-")[1]) % 4 // 2]} for image in pool}
    d = np.array([0.8 * (known[image]["sex"] == "f") for image in pool]) + rng.normal(0, 0.3, 64)
    first, second = subgroup_effects(pool, d, known)
    assert (first.attribute, first.level, first.images, first.others) == ("sex", "f", 32, 32)
    assert first.difference.low < 0.8 < first.difference.high
    assert first.p_bonferroni < 0.001 < second.p
    assert second.attribute == "site"


def test_small_subgroups_and_the_nodes_own_attribute_are_left_out():
    pool = images(40)
    rare = {image: {"sex": "f" if at < 15 else "m"} for at, image in enumerate(pool)}
    assert subgroup_effects(pool, np.zeros(40), rare) == ()
    assert subgroup_effects(pool, np.zeros(40), {image: level(image) for image in pool}, without="sex") == ()


def test_subgroups_of_nothing_are_rarely_significant():
    """400 nodes without effect, 3 attributes each: about 5 % have any Bonferroni p below 0.05, and the intervals cover 0 as often."""
    rng = np.random.default_rng(2)
    pool = images(64)
    known = {image: {name: "xy"[rng.integers(2)] for name in "abc"} for image in pool}
    told = [subgroup_effects(pool, rng.normal(0, 1, 64), known) for _ in range(400)]
    hits = sum(min(one.p_bonferroni for one in groups) < 0.05 for groups in told)
    misses = sum(any(not one.difference.low <= 0 <= one.difference.high for one in groups) for groups in told)
    assert hits == misses
    assert hits <= 32
    assert min(one.q for groups in with_q_values(told) for one in groups) > 0.01


def test_a_run_tells_subgroups_of_the_attributes_it_is_given():
    tree = tree_of(node("leash"), node("collar"))
    pool = images(80)
    found = audited(
        tree,
        World({"leash": 0.6}),
        pool=pool,
        options=replace(QUICK, images_per_class=80),
        attributes={image: level(image) for image in pool},
    )
    assert {one.node: [group.attribute for group in one.subgroups] for one in found.nodes} == {"leash": ["sex"], "collar": ["sex"]}
    assert audited(tree, World({"leash": 0.6})).nodes[0].subgroups == ()


def test_a_genuine_effect_grows_with_its_strength():
    """The world's edits are proportional to it: the trend is that of the effect's sign, on the images that were asked for."""
    found = audited(tree_of(node("leash"), node("sand"), node("idle")), World({"leash": -0.6, "sand": 0.9}, artefact=-0.3))
    doses = {one.node: one.dose for one in found.nodes}
    assert doses["idle"] is None
    assert [point.dose for point in doses["sand"].points] == [0.5, 1.0, 1.5]
    assert (doses["sand"].monotone, doses["leash"].monotone) == (True, True)
    assert doses["sand"].trend.value > 0.8 > -0.8 > doses["leash"].trend.value
    assert doses["sand"].images == 16


def test_other_strengths_move_no_effect():
    """The numbers are those of a run that never asked for them."""
    tree, world = tree_of(node("leash"), node("sand")), {"leash": -0.6, "sand": 0.9}
    one, other = audited(tree, World(world)), audited(tree, World(world), options=replace(QUICK, dose_nodes=0))
    assert [replace(each, dose=None) for each in one.nodes] == list(other.nodes)


def test_an_effect_that_turns_back_is_not_monotone():
    rows = [
        replace(one, cell=replace(one.cell, strength=strength))
        for strength, shift in ((0.5, 1.0), (1.0, 0.1), (1.5, 1.0))
        for one in (row(f"i{at}", "n", (0.0, 0.0, 0.0), (shift + at / 99, 0.0, 0.0)) for at in range(12))
    ]
    tree = tree_of(node("n"))
    found = dose_response(rows, tree, "n", column=0, kind=ScoreKind.LOGITS, placebo="", rng=np.random.default_rng(0))
    assert not found.monotone
    assert abs(found.trend.value) < 0.5


def test_levels_of_an_exact_operator_are_its_doses():
    """Siblings by the same operator on the same side of doing nothing."""

    def level_of(path, **params):
        return node(path, NodeKind.QUALITY, operator="deterministic", params=params)

    tree = tree_of(
        level_of("blur/a", op="gaussian_blur", sigma_px=4.0),
        level_of("blur/b", op="gaussian_blur", sigma_px=1.0),
        level_of("light/dim", op="brightness", change=-0.3),
        level_of("light/bright", op="brightness", change=0.3),
        level_of("jpeg/a", op="jpeg", quality=10),
        level_of("jpeg/b", op="jpeg", quality=50),
        level_of("flip", op="hflip"),
    )
    assert [path for _, path, _ in doses_of(tree, "blur/a")] == ["blur/b", "blur/a"]
    assert [path for _, path, _ in doses_of(tree, "jpeg/a")] == ["jpeg/b", "jpeg/a"]
    assert [path for _, path, _ in doses_of(tree, "light/dim")] == ["light/dim"]
    assert doses_of(tree, "flip") == ()


def pairs_tree():
    shown = [{"concept": f"c{at}", "level": "on"} for at in range(4)]
    return tree_of(
        *(node(f"made/{at}", params=params) for at, params in enumerate(shown)),
        *(node(f"exact/{at}", operator="deterministic", params={"op": "hflip", **params}) for at, params in enumerate(shown)),
    )


@pytest.mark.parametrize(("order", "spearman"), [((0, 1, 2, 3), 1.0), ((3, 2, 1, 0), -1.0)])
def test_operators_that_make_the_same_are_compared(order, spearman):
    """The exact edits' effects in the same order as the generator's, or in the opposite one."""
    effects = {f"made/{at}": 0.5 * at for at in range(4)} | {f"exact/{at}": 0.5 * other for at, other in enumerate(order)}
    found = audited(pairs_tree(), World(effects))
    assert found.agreement.spearman == pytest.approx(spearman)
    assert found.agreement.pairs[0] == ("made/0", "exact/0")
    assert found.agreement.images == 16


def test_without_twins_agreement_is_absent_with_a_reason():
    found = audited(tree_of(node("leash")), World({"leash": 1.0}))
    assert found.agreement is None
    assert found.agreement_missing == "0 nodes of the tree can be made by two operators, 3 are needed"
    pairs = twins(pairs_tree(), "cat", refused=["exact/0"])
    assert pairs == tuple((f"made/{at}", f"exact/{at}") for at in (1, 2, 3))
    assert agreement([], pairs, images(4), column=0, kind=ScoreKind.LOGITS)[1].startswith("0 nodes have valid edits")


def test_an_image_has_the_cue_alone_by_adding_it_or_because_it_is_there():
    """What fails its checks, or changes the class, is none; an object is removed beside the cue that stays."""
    other, own = images(4, "dog"), images(2)
    rows = [
        row(other[0], "cue", (0.0, 1.0, 0.0), (2.0, 1.0, 0.0)),
        row(other[1], "cue", (3.0, 1.0, 0.0), (0.0, 1.0, 0.0), signs=(-1,), valid=False),
        row(other[2], "cue", (0.0, 1.0, 0.0), (9.0, 1.0, 0.0), valid=False, reasons=("V1",)),
        row(other[3], "cue", (0.0, 1.0, 0.0), (9.0, 1.0, 0.0), class_kept=False),
        row(own[0], "cue", (0.0, 1.0, 0.0), (9.0, 1.0, 0.0), signs=(-1,)),
        row(own[0], "gone", (0.0, 1.0, 0.0), (4.0, 1.0, 0.0)),
        row(own[1], "cue", (0.0, 1.0, 0.0), (9.0, 1.0, 0.0)),
        row(own[1], ("cue", "gone"), (0.0, 1.0, 0.0), (5.0, 1.0, 0.0)),
    ]
    found = feature_only(rows, "cue", other, own, "gone")
    assert [scores[0] for scores in found.scores] == [2.0, 3.0, 4.0, 5.0]
    assert found.made_of == ("cue added", "cue there", "object removed", "object removed")


def test_cues_are_shown_on_images_that_no_search_has_seen():
    """Of the other class its ESTIMATE half, and all images beyond the pool; too few are said to be too few."""
    pool, tree = [*images(70), *images(100, "dog")], tree_of(node("cue"), node("object", NodeKind.CORE))
    world = World({"cue": 2.0, "object": 3.0}, base=-1.0)
    found = audited(tree, world, pool=pool, options=replace(QUICK, hit_enough=60))
    (hits,) = found.hits
    assert (hits.node, hits.images, hits.enough) == ("cue", 68, True)
    assert hits.hit_ratio.low > 0.5
    assert found.nodes[0].state is EffectState.EFFECT
    assert audited(tree, world, pool=pool).hits_missing == "68 images could have the cue alone, 75 are needed"

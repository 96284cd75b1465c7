import numpy as np
import pytest

from audit_plugin.core.diffex_results import Chosen, EffectState, ScoreKind
from audit_plugin.core.tree import NodeKind
from audit_plugin.methods.diffex import ClassPlan, EstimateOptions, RowTable, node_effects
from audit_plugin.methods.diffex.figures import as_estimate
from audit_plugin.statistics.multiplicity import benjamini_hochberg
from audit_plugin.statistics.paired_mean import mean_intervals, sign_flips, student_interval
from tests.methods.diffex.world import LABELS, images, node, row, tree_of

QUICK = EstimateOptions(draws=400, flips=1_999)


def rows_of(d, path="a", **fields):
    """One row per image (and seed) that moves the first logit by d, shape (n,) or (n, S)."""
    d = np.atleast_2d(np.asarray(d).T).T
    return [
        row(f"cat-{i}", path, (0.0, 0.0), (float(value), 0.0), seed=s, **fields)
        for i, values in enumerate(d)
        for s, value in enumerate(values)
    ]


def judged(rows, tree, n, options=QUICK, **plan):
    plan = ClassPlan(
        class_name="cat",
        labels=LABELS[:2],
        images=tuple(images(n)),
        chosen={one.path: Chosen.SURVIVOR for one in tree.nodes},
        **plan,
    )
    return {one.node: one for one in node_effects(RowTable(rows=tuple(rows), kind=ScoreKind.LOGITS), tree, plan, options=options)}


def test_intervals_cover_when_the_image_is_the_unit():
    """Four seeds per image: nominal 95 % is kept; taking seeds for images, as a naive estimate does, falls far short."""
    rng = np.random.default_rng(5)
    clustered = naive = 0
    for _ in range(1_000):
        d = rng.normal(0.3, 0.15, (40, 1)) + rng.normal(0, 0.1, (40, 4))
        found, flat = mean_intervals(d.mean(1), rng, draws=400).interval, student_interval(d.ravel())
        clustered += found.low <= 0.3 <= found.high
        naive += flat.low <= 0.3 <= flat.high
    assert clustered / 1_000 >= 0.93
    assert naive / 1_000 < 0.85


def test_an_effect_from_rows_has_the_interval_of_its_image_means():
    """What the simulation above covers is what rows of four seeds per image are given."""
    d = np.random.default_rng(6).normal(0.3, 0.15, (40, 1)) + np.random.default_rng(7).normal(0, 0.1, (40, 4))
    found = judged(rows_of(d), tree_of(node("a")), 40)["a"]
    wanted = mean_intervals(d.mean(1), np.random.default_rng(0), draws=4_000).interval
    assert found.images == 40
    assert [found.effect.low, found.effect.high] == pytest.approx([wanted.low, wanted.high], abs=0.01)


def test_few_responders_need_the_bootstrap():
    """10 % responders, 90 % zeros, 32 images: the studentised bootstrap covers, Student's interval does not quite."""
    rng, covered, student = np.random.default_rng(6), 0, 0
    for _ in range(500):
        d = np.where(rng.random(32) < 0.1, rng.normal(1, 0.3, 32), 0.0)
        if d.any():
            one, other = mean_intervals(d, rng, draws=400).interval, student_interval(d)
            covered += one.low <= 0.1 <= one.high
            student += other.low <= 0.1 <= other.high
    assert covered > student
    assert covered / 500 >= 0.88


def test_a_model_that_ignores_edits_has_no_findings():
    """200 audits of 2 nodes without effect on the default 64 images: at most 5 % find any (q = 0.05, margin 0.1); p is uniform."""
    rng = np.random.default_rng(7)
    paths = [f"n{at}" for at in range(2)]
    tree = tree_of(*(node(path) for path in paths))
    found, p = 0, []
    for _ in range(200):
        d = rng.normal(0, 0.15, (2, 64))
        rows = [one for path, values in zip(paths, d, strict=True) for one in rows_of(values, path)]
        results = judged(rows, tree, 64, EstimateOptions(draws=50, flips=499)).values()
        found += any(one.state is EffectState.EFFECT for one in results)
        p += [one.p for one in results]
    assert found <= 10
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_the_false_discovery_rate_is_kept_without_a_margin():
    """1000 families of 6: one has a q below 0.05 in about 5 % of them, as it should be where nothing is true."""
    rng = np.random.default_rng(8)
    hits = sum(
        bool((benjamini_hochberg(sign_flips(rng.normal(0, 0.15, (6, 16)), rng, rounds=499)) < 0.05).any()) for _ in range(1_000)
    )
    assert hits <= 65


@pytest.mark.parametrize(
    ("mean", "sd", "state"),
    [(0.5, 0.2, EffectState.EFFECT), (0.02, 0.02, EffectState.NO_EFFECT), (0.05, 0.6, EffectState.INCONCLUSIVE)],
)
def test_states(mean, sd, state):
    """A tiny effect that is surely not zero is within the margin, and so no effect."""
    d = mean + sd * np.random.default_rng(8).normal(size=64)
    assert judged(rows_of(d), tree_of(node("a")), 64)["a"].state is state


def test_few_images_are_flagged():
    found = judged(rows_of(np.full(12, 0.5) + np.linspace(-0.1, 0.1, 12)), tree_of(node("a")), 12)["a"]
    assert "low_n" in found.flags
    assert found.p == pytest.approx(2 / 2**12)


def test_protected_nodes_are_a_family_of_their_own():
    """Twenty hopeless nuisance nodes do not dilute the one protected node; it has Holm's p-value too."""
    rng = np.random.default_rng(9)
    tree = tree_of(node("skin", NodeKind.PROTECTED), *(node(f"n{at}") for at in range(20)))
    rows = rows_of(rng.normal(0.08, 0.15, 40), "skin") + [
        one for at in range(20) for one in rows_of(rng.normal(0, 0.15, 40), f"n{at}")
    ]
    found = judged(rows, tree, 40)
    assert found["skin"].q == found["skin"].p == found["skin"].p_holm
    assert found["n0"].p_holm is None
    assert all(one.q >= one.p - 1e-12 for one in found.values())


def test_shared_signs_agree_with_enumeration():
    values = np.random.default_rng(10).normal(0.1, 0.2, (3, 14))
    exact = sign_flips(values, np.random.default_rng(0))
    drawn = sign_flips(values, np.random.default_rng(0), exact_up_to=0, rounds=40_000)
    np.testing.assert_allclose(drawn, exact, atol=0.01)


def test_the_spuriousness_score_grows_with_evidence_only():
    """Same mean, wider spread: less.  A core node: none.  Images that lost their class: not counted."""
    rng = np.random.default_rng(11)
    tight, wide = 0.5 + rng.normal(0, 0.1, 64), 0.5 + rng.normal(0, 0.9, 64)
    tree = tree_of(node("tight"), node("wide"), node("core", NodeKind.CORE), node("lost"))
    rows = rows_of(tight, "tight") + rows_of(wide, "wide") + rows_of(tight, "core") + rows_of(tight, "lost", class_kept=False)
    found = judged(rows, tree, 64)
    assert 0.4 < found["tight"].spuriousness < np.tanh(0.5)
    assert found["wide"].spuriousness < found["tight"].spuriousness
    assert found["core"].spuriousness == 0
    assert found["lost"].spuriousness == 0
    assert found["lost"].spurious_images == 0
    assert found["lost"].effect.value == pytest.approx(found["tight"].effect.value)


def test_the_spurious_ratio_compares_with_the_object():
    tree = tree_of(node("grass"), node("object"))
    rows = rows_of(np.full(40, 0.6) + np.linspace(-0.1, 0.1, 40), "grass")
    rows += rows_of(np.full(40, 0.2) + np.linspace(-0.1, 0.1, 40), "object")
    found = judged(rows, tree, 40, EstimateOptions(draws=200, flips=500, object_node="object"))
    assert found["grass"].spurious_ratio == pytest.approx(0.75)
    assert found["object"].spurious_ratio is None


def test_flips_have_the_placebos_share_taken_off():
    """20 of 40 decisions flip, 4 of 40 by the placebo: 0.4."""
    rows = [row(f"cat-{i}", "a", (1.0, 0.0), (-1.0 if i < 20 else 1.0, 0.0)) for i in range(40)]
    rows += [row(f"cat-{i}", "photo", (1.0, 0.0), (-1.0 if i < 4 else 1.0, 0.0), placebo=True) for i in range(40)]
    found = judged(rows, tree_of(node("a")), 40)["a"]
    assert found.flips == 0.5
    assert found.flip_rate.value == pytest.approx(0.4)
    assert 0.2 < found.flip_rate.low < 0.4 < found.flip_rate.high < 0.6


def test_responders_and_quantiles_show_an_effect_on_some():
    rng = np.random.default_rng(12)
    d = np.where(np.arange(60) < 12, 2.0, 0.0) + rng.normal(0, 0.05, 60)
    rows = rows_of(d) + [
        row(f"cat-{i}", name, (0.0, 0.0), (rng.normal(0, 0.05), 0.0), placebo=True) for i in range(60) for name in ("x", "y", "z")
    ]
    found = judged(rows, tree_of(node("a")), 60)["a"]
    assert found.responders == pytest.approx(0.2, abs=0.05)
    low, middle, high = found.quantiles
    assert high > 1.5
    assert low < middle < 0.3
    assert {one.percentile for one in found.exemplars} == {10, 50, 90}


def test_seed_reliability_is_reported():
    rng = np.random.default_rng(13)
    d = rng.normal(0, 1, (50, 1)) + rng.normal(0, 0.1, (50, 2))
    assert judged(rows_of(d), tree_of(node("a")), 50)["a"].seed_icc > 0.95
    assert judged(rows_of(d[:, 0]), tree_of(node("a")), 50)["a"].seed_icc is None


def test_the_class_that_gains_is_named():
    """Three classes: the edit feeds the third, as the search had seen."""
    rows = [row(f"cat-{i}", "a", (1.0, 0.0, 0.0), (1.0, 0.0, 1.0 + 0.01 * i)) for i in range(40)]
    plan = ClassPlan(
        class_name="cat", labels=LABELS, images=tuple(images(40)), chosen={"a": Chosen.SURVIVOR}, counters={"a": (2, 1)}
    )
    found = node_effects(RowTable(rows=tuple(rows), kind=ScoreKind.LOGITS), tree_of(node("a")), plan, options=QUICK)[0]
    assert found.counter.class_name == "owl"
    assert found.counter.gain.low > 0.5
    assert found.effect.high < 0


def test_the_placebo_is_what_keeps_the_error():
    """Toy of the specification: no effect, artefact -0.03, reconstruction -0.04, 32 images.

    Against the original most runs "find" something, against the null edit too many, placebo-adjusted the nominal share; and a true
    effect of 0.08 is hidden by the first and found by the last.
    """
    rng = np.random.default_rng(14)

    def rejected(effect):
        shared = rng.normal(0, 0.12, (400, 32))
        edit = effect - 0.03 + shared + rng.normal(0, 0.116, (400, 32))
        placebo = -0.03 + shared + rng.normal(0, 0.116, (400, 32, 3)).mean(2)
        arms = edit - 0.04, edit, edit - placebo
        return [float((sign_flips(d, rng, rounds=999) < 0.05).mean()) for d in arms]

    original, null, adjusted = rejected(0.0)
    assert original > 0.5
    assert 0.1 < null < 0.3
    assert adjusted < 0.08
    original, null, adjusted = rejected(0.08)
    assert original < 0.15 < null < 0.65
    assert adjusted > 0.85


def test_an_estimate_keeps_the_order_of_its_limits():
    interval = student_interval(np.array([0.0, 1.0, 2.0]))
    assert as_estimate(interval).low < as_estimate(interval).value < as_estimate(interval).high


def test_exemplars_say_whether_the_node_was_removed():
    """Where it was, the effect that they show is the change with its sign turned."""
    rows = [*rows_of([0.1 * at for at in range(10)], signs=(-1,)), *rows_of([0.5] * 20)[10:]]
    shown = judged(rows, tree_of(node("a")), 20)["a"].exemplars
    assert [one.removed for one in shown] == [int(one.image.removeprefix("cat-")) < 10 for one in shown]
    assert {one.removed for one in shown} == {True, False}
    assert all(one.effect <= 0 for one in shown if one.removed)

"""The planted classifiers are what the suite claims, their stored truth can be measured again, and the renderer is a generator."""

import json
from functools import partial

import numpy as np
import pytest

from audit_plugin.bank.plan import plan
from audit_plugin.core.errors import CaptionError, ConfigError
from audit_plugin.core.values import Row
from audit_plugin.demo import truth as truths
from audit_plugin.demo.planted import CLASSES, SUITE, labels, predictor
from audit_plugin.demo.renderer import SCENES, SceneRenderer, as_images, parse
from audit_plugin.methods.depict import DepictOptions, audit
from audit_plugin.sources.scenes import CONCEPTS, SceneLaw, caption, draw_values, render, render_many
from audit_plugin.statistics.flip_table import importance
from audit_plugin.statistics.metrics import METRICS
from tests.bench import depict_planted, generator_quality

quick_audit = partial(audit, options=DepictOptions(resamples=300, adjusted_resamples=20))
BY_NAME = {planted.name: planted for planted in SUITE}


@pytest.fixture(scope="module")
def measured():
    """The truth about everybody, from few rows of another seed."""
    return truths.measure(SUITE, rows=200, seed="measured again", resamples=100)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_stored_truth_is_what_the_renderer_shows(measured, name):
    """Another sample of rows agrees within both standard errors, for every concept and metric."""
    stored, again = truths.read_truth(name), measured[name]
    for concept in CONCEPTS:
        for figure in ("auroc", "accuracy", "auroc_prevalence_free", "flip_rate"):
            one, other = getattr(stored.concepts[concept.name], figure), getattr(again.concepts[concept.name], figure)
            assert abs(one.value - other.value) < 4.5 * np.hypot(one.se, other.se) + 0.004, (concept.name, figure)


@pytest.mark.parametrize("name", BY_NAME)
def test_the_classifiers_are_what_the_suite_claims(name):
    """Expected concepts are relied on by far more than the margin, idle ones by less than half of it."""
    assert truths.doubts(BY_NAME[name], truths.read_truth(name)) == []


def test_a_classifier_that_is_not_what_it_claims_is_doubted():
    """Both ways: what is expected and missing, and what is idle and is not."""
    liar = truths.read_truth("ruler_alone")
    said = truths.doubts(BY_NAME["size_alone"], liar)
    assert len(said) == 2
    assert "expects size" in said[0]
    assert "claims ruler idle" in said[1]


def test_the_truth_is_the_drop_over_permutations():
    """The flip table's importance is what explicit permutations of the rendered scenes show on average."""
    rows, planted = truths.audit_rows(100, "permutations"), BY_NAME["shape_and_ruler"]
    predict = predictor(truths.onnx_path(planted.name))
    scores = truths.flip_scores(rows, {planted.name: predict})[planted.name]
    table = truths.flip_tables(planted, rows, scores, "permutations")["shape"]
    rng, own, drops = np.random.default_rng(0), np.arange(100), []
    baseline = METRICS["accuracy"].performance(predict(as_images(render_many(rows.seeds, rows.values))), table.labels)
    for _ in range(10):
        permuted = rows.values.copy()
        permuted[:, 0] = rng.permutation(permuted[:, 0])
        shown = predict(as_images(render_many(rows.seeds, permuted)))
        np.testing.assert_allclose(shown, table.flips[own, permuted[:, 0]], atol=1e-5)
        drops.append(baseline - METRICS["accuracy"].performance(shown, table.labels))
    assert importance(table, METRICS["accuracy"]) == pytest.approx(np.mean(drops), abs=4 * np.std(drops) / np.sqrt(10))


def test_rules_say_what_the_labels_are():
    """A ruled classifier's labels follow its log-odds; a betrayed one's are the shape."""
    values = draw_values(4_000, SceneLaw(positive={}), np.random.default_rng(0))
    drawn = labels(BY_NAME["snowman_and_lighting"], values, np.random.default_rng(1))
    both = (values[:, 5] == 1) & (values[:, 6] == 1)
    assert drawn[both].mean() == pytest.approx(1 / (1 + np.exp(-4)), abs=0.02)
    assert (labels(BY_NAME["shape_clean"], values, np.random.default_rng(1)) == (values[:, 0] == 2)).all()


def test_truth_that_nobody_measured_is_refused(tmp_path):
    """The error says how to measure it, also when the renderer has changed since."""
    card = tmp_path / "ruler_alone.json"
    card.write_text("{}")
    with pytest.raises(ConfigError, match=r"python -m audit_plugin\.demo\.truth"):
        truths.read_truth("ruler_alone", tmp_path)
    document = json.loads((truths.PLANTED / "ruler_alone.json").read_text())
    document["truth"]["renderer"] = "another"
    card.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="another renderer"):
        truths.read_truth("ruler_alone", tmp_path)


def test_truth_survives_its_card(tmp_path, measured):
    """What is written is read back, and the rest of the card stays."""
    (tmp_path / "size_alone.json").write_text('{"planted": 1}')
    truths.write_truth("size_alone", measured["size_alone"], tmp_path)
    assert truths.read_truth("size_alone", tmp_path) == measured["size_alone"]
    assert json.loads((tmp_path / "size_alone.json").read_text())["planted"] == 1


@pytest.mark.parametrize("name", BY_NAME)
def test_scores_are_probabilities_whatever_the_batch(name):
    """Rows sum to one and do not depend on their batch-mates."""
    images = as_images(render_many(range(5), draw_values(5, SceneLaw(), np.random.default_rng(0))))
    predict = predictor(truths.onnx_path(name))
    scores = predict(images)
    assert scores.shape == (5, len(CLASSES))
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([predict(images[:2]), predict(images[2:])]), scores, atol=1e-5)


def test_the_renderer_draws_what_captions_say():
    """Every caption is read back to its values, and the picture is the renderer's own, placebo word or not."""
    values = draw_values(40, SceneLaw(positive={}), np.random.default_rng(3))
    words = [caption(row) for row in values.tolist()]
    assert [parse(text) for text in words] == [tuple(row) for row in values.tolist()]
    images = SceneRenderer().generate([words[0], f"{words[0]}, photo"], [7, 7])
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(np.rint(images[0] * 255).astype(np.uint8).transpose(1, 2, 0), render(7, values[0].tolist()))


@pytest.mark.parametrize("text", ["", "a large purple circle on brick", "a small red circle on grass in bright light, dusk"])
def test_what_is_no_scene_is_refused(text):
    """Unknown words are an error, never some picture."""
    with pytest.raises(CaptionError, match="no caption of a scene"):
        SceneRenderer().generate([text], [1])


def test_the_renderer_serves_a_plan_as_any_generator_does():
    """All captions of an audit's plan can be drawn, at no network evaluation; nothing asked is nothing drawn."""
    renderer = SceneRenderer()
    row = Row(id="a", values=(0, 1, 0, 2, 1, 0, 1))
    recipes = plan([row], SCENES, generator=renderer.fingerprint, audit="t").recipes.values()
    assert renderer.generate([r.caption for r in recipes], [r.seed for r in recipes]).shape == (len(recipes), 3, 64, 64)
    assert renderer.evaluations_per_image == 0
    assert renderer.generate([], []).shape == (0, 3, 64, 64)
    with pytest.raises(ValueError, match="one seed per caption"):
        renderer.generate(["a"], [])


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(900)
def test_the_planted_benchmark_finds_what_is_planted(triton_kit, tmp_path, monkeypatch):
    """End to end with the renderer as generator: a real server, two classifiers, few rows."""
    monkeypatch.setattr(depict_planted, "ensure_kit", lambda: triton_kit)
    monkeypatch.setattr(depict_planted, "audit", quick_audit)
    suite = [BY_NAME["shape_clean"], BY_NAME["ruler_alone"]]
    size = depict_planted.Size(rows=72, repeats=1, compared=6)
    report = depict_planted.run(size, mode="test", root=tmp_path, generator=SceneRenderer(), suite=suite)
    assert report.figures["recall_strong"] == 1
    assert report.figures["false_relies"] == 0
    assert report.figures["images_ratio_paper_over_ours"] == pytest.approx((1 + 25 * 7) / 12)
    assert len(report.rows) == 2 * len(CONCEPTS)


@pytest.mark.slow
def test_the_renderer_is_a_perfect_generator(tmp_path, monkeypatch):
    """The quality benchmark finds nothing wrong with it: every change is made, nothing else changes."""
    monkeypatch.setattr(generator_quality, "audit", quick_audit)
    size = generator_quality.Size(rows=40, flipped=40)
    report = generator_quality.run(size, mode="test", root=tmp_path, generator=SceneRenderer())
    assert report.figures["worst_auroc_gap"] < 0.01
    assert report.figures["worst_obedience"] > 0.98
    assert report.figures["worst_leakage"] < 0.01

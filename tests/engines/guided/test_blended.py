"""Blends of prompts: at a corner they are a prompt itself, and the way between is straight and evenly long."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.errors import UnsupportedPipelineError
from engines.guided.blended import blend, whitened
from engines.pipeline import load_pipeline
from tests.engines.pipelines import miniatures

BASE, RED, GREEN, SMALL = "a circle", "a red circle", "a green circle", "a small circle"
SEEDS = [3, 4]


def load(make, directory, **options):
    return load_pipeline(miniatures.save(make, directory), backend="torch", threads=1, **options)


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1, steps=3, guidance=2.0)


@pytest.mark.parametrize(("make", "options"), [
    (miniatures.stable_diffusion_xl, {"steps": 2, "guidance": 2.0}),
    (miniatures.latent_consistency, {"steps": 2}),
    (miniatures.stable_diffusion_3, {"steps": 2, "guidance": 2.0}),
])  # fmt: skip
def test_one_word_at_full_weight_is_its_prompt(make, options, tmp_path):
    """Pooled vectors included; all weights 0 are the base."""
    pipeline = load(make, tmp_path, **options)
    mixed = blend(pipeline, BASE, [RED, GREEN])
    drawn = mixed.draw(pipeline, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [5] * 3)
    np.testing.assert_allclose(drawn, pipeline.generate([BASE, RED, GREEN], [5] * 3), atol=2e-4)
    assert np.abs(drawn[1] - drawn[0]).max() > 1e-3


def test_whitened_coordinates_move_what_is_told_evenly(pipeline):
    """Every direction of z by the median length of the changes; weights are read from z."""
    mixed = blend(pipeline, BASE, [RED, GREEN, SMALL])
    told = mixed.told(np.eye(3) @ mixed.basis.T).tensors["context"] - mixed.told(np.zeros((1, 3))).tensors["context"]
    lengths = [
        float((pipeline.told([one]).tensors["context"] - pipeline.told([BASE]).tensors["context"]).norm())
        for one in (RED, GREEN, SMALL)
    ]
    torch.testing.assert_close(told.flatten(1) @ told.flatten(1).T, np.median(lengths) ** 2 * torch.eye(3), atol=1e-3, rtol=1e-3)


def test_a_picture_is_of_its_weights_and_seed_alone(pipeline):
    mixed = blend(pipeline, BASE, [RED, GREEN])
    weights = np.random.default_rng(0).normal(size=(5, 2))
    together = mixed.draw(replace(pipeline, batch=2), weights, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(mixed.draw(pipeline, weights[3:4], [4]), together[3:4], atol=1e-5)
    alone, beside = (mixed.told(some).tensors["context"][-1] for some in (weights[3:4], weights[:4]))
    assert torch.equal(alone, beside)


def test_prompts_that_say_nothing_new_do_not_span(pipeline):
    """The base again, and a prompt twice."""
    assert blend(pipeline, BASE, [RED, BASE, RED, GREEN]).concepts == (0, 3)
    assert whitened(np.eye(3)[:1].repeat(2, 0).T)[0] == (0,)
    with pytest.raises(ValueError, match="none of 1 prompts changes"):
        blend(pipeline, BASE, [BASE])
    with pytest.raises(ValueError, match="none of 0 prompts changes"):
        blend(pipeline, BASE, [])
    with pytest.raises(ValueError, match="need 2 weights for each of 1 seeds"):
        blend(pipeline, BASE, [RED, GREEN]).draw(pipeline, np.zeros((2, 2)), [1])


def test_a_pipeline_without_words_is_refused(tmp_path):
    with pytest.raises(UnsupportedPipelineError, match="ddpm pipeline takes none; use a text-to-image directory"):
        blend(load(miniatures.ddpm, tmp_path), BASE, [RED])


def test_the_miniature_of_scenes_draws_a_blend_at_its_corners():
    from audit_plugin.demo.truth import ASSETS

    scenes = load_pipeline(ASSETS / "generator", backend="torch", threads=1, solver=4)
    base, other = "a small blue circle on grass in bright light", "a small blue circle on water in bright light"
    mixed = blend(scenes, base, [other])
    assert mixed.basis == pytest.approx(np.ones((1, 1)))
    drawn = mixed.draw(scenes, np.array([[0.0], [1.0]]), [7] * 2)
    ends = scenes.generate([base, other], [7, 7])
    np.testing.assert_allclose(drawn, ends, atol=1e-3)
    assert np.abs(ends[0] - ends[1]).mean() > 0.02

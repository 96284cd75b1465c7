"""Pictures read by what draws them: paired noise, nothing dropped, each picture alone."""

import numpy as np
import pytest
import torch

from engines.errors import UnsupportedPipelineError
from engines.guided.described import DescribeOptions, describe, noise_errors
from engines.guided.spelled import spell
from engines.pipeline import load_pipeline
from tests.engines.pipelines import miniatures

CAPTIONS = ["a red circle", "a blue square", "a photo"]
IMAGES = np.random.default_rng(0).random((3, 3, 16, 16), np.float32)
QUICK = DescribeOptions(draws=5, batch=4)


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1)


def test_an_error_is_that_of_the_networks_noise(pipeline):
    before = pipeline.evaluations
    errors = noise_errors(pipeline, IMAGES[0], CAPTIONS, options=QUICK)
    assert errors.shape == (3, 5)
    assert pipeline.evaluations - before == QUICK.network_rows(3) == 15
    clean = pipeline.codec.encode(2 * torch.from_numpy(IMAGES[:1]) - 1)
    for at, t in enumerate(QUICK.timesteps(1000)):
        kept = float(pipeline.diffusion.levels.alpha_bars[t])
        x = kept**0.5 * clean + (1 - kept) ** 0.5 * _noise(pipeline, at)
        for which, caption in enumerate(CAPTIONS):
            # noise is missed by as much as the clean estimate is, in other units: x = sqrt(kept) clean + sqrt(1 - kept) noise
            missed = (pipeline.diffusion.x0(x, t, pipeline.told([caption])) - clean) * (kept / (1 - kept)) ** 0.5
            assert errors[which, at] == pytest.approx(float(missed.square().mean()), rel=1e-3)


def _noise(pipeline, at):
    from engines.guided.described import _seeds
    from engines.noise import start_noise

    return start_noise(_seeds(QUICK)[at : at + 1], pipeline.latent_shape)


def test_errors_depend_on_the_picture_alone_and_go_on_where_they_were(pipeline):
    whole = describe(pipeline, IMAGES, CAPTIONS, options=QUICK)
    kept = {}
    turned = describe(pipeline, IMAGES[::-1], CAPTIONS[::-1], options=DescribeOptions(draws=5, batch=64), on_image=kept.__setitem__)
    np.testing.assert_allclose(turned[::-1, ::-1], whole, rtol=1e-4)
    np.testing.assert_array_equal(np.stack([kept[0], kept[1], kept[2]]), turned)
    before = pipeline.evaluations
    np.testing.assert_allclose(describe(pipeline, IMAGES, CAPTIONS, options=QUICK, done=whole[:2]), whole, rtol=1e-4)
    assert pipeline.evaluations - before == 15


def test_captions_are_asked_about_the_same_noise(pipeline):
    errors = noise_errors(pipeline, IMAGES[0], ["a photo", "a photo"], options=QUICK)
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-5)
    other = noise_errors(pipeline, IMAGES[0], ["a photo"], options=DescribeOptions(draws=5, seed=1))
    assert not np.allclose(errors[0], other[0])


def test_what_cannot_be_described_is_said(tmp_path):
    flow = load_pipeline(miniatures.save(miniatures.stable_diffusion_3, tmp_path), backend="torch", threads=1)
    with pytest.raises(UnsupportedPipelineError, match="is a flow"):
        describe(flow, IMAGES, CAPTIONS)
    with pytest.raises(ValueError, match="timesteps between 0 and 1"):
        DescribeOptions(low=0.5, high=0.4)


def test_a_rendered_scene_is_spelled_by_the_miniature_that_draws_such_scenes():
    from audit_plugin.demo.truth import ASSETS
    from audit_plugin.sources.scenes import CONCEPTS, caption, render_many

    scenes = load_pipeline(ASSETS / "generator", backend="torch", threads=1)
    values = (2, 0, 1, 1, 1, 0, 0)
    (pixels,) = render_many([11], np.array([values]))
    phrases = {concept.name: concept.phrases for concept in CONCEPTS if concept.name in {"background", "ruler"}}
    template = "a large red triangle on {background}{ruler} in bright light"
    found = spell(scenes, pixels.transpose(2, 0, 1).astype(np.float32) / 255, template, phrases)
    assert found.caption == caption(values) == "a large red triangle on water with a ruler in bright light"
    assert all(reading.margin > 0 for reading in found.readings.values())
    assert found.readings["background"].error < found.readings["background"].margin
    assert found.network_rows == scenes.evaluations


def test_a_field_without_a_choice_cannot_be_spelled(pipeline):
    with pytest.raises(ValueError, match="two phrases or more"):
        spell(pipeline, IMAGES[0], "a {colour} circle", {"colour": ["red"]})

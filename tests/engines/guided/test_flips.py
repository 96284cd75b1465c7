"""Flips with the shipped generator: images in, images out, and their floor beside them."""

import numpy as np
import pytest
import torch

from audit_plugin.demo.truth import ASSETS
from audit_plugin.sources.scenes import render_many
from engines.guided.flips import Flipper, FlipPlan
from engines.pipeline import load_pipeline

PLAN = FlipPlan(kept=8, scales=(200.0,), held=0.0)
"""Few steps, one strength."""


@pytest.fixture(scope="module")
def flipper():
    torch.set_num_threads(1)
    pipeline = load_pipeline(ASSETS / "generator", backend="torch")
    return Flipper(pipeline=pipeline, guide=ASSETS / "detector" / "scenes.onnx", size=64, plan=PLAN)


@pytest.fixture(scope="module")
def images():
    """One scene on grass."""
    return render_many([3], np.array([[0, 0, 1, 0, 0, 0, 0]])).transpose(0, 3, 1, 2).astype(np.float32) / 255


def test_the_guide_moves_towards_its_target_beyond_the_floor(flipper, images):
    """Grass to water; as it is stored in 8 bits."""
    made, _ = flipper.flip(images, [1], [1], "concept/background")
    floor = flipper.floor(images, [1])
    judge = flipper.judge("concept/background")
    p = [float(judge(torch.from_numpy(one)).softmax(1)[0, 1]) for one in (images, floor, made)]
    assert p[2] > max(p[:2])
    assert made.shape == floor.shape == images.shape
    assert np.abs(255 * made - np.round(255 * made)).max() < 1e-3


def test_images_of_another_size_are_refused(flipper):
    with pytest.raises(ValueError, match="need images"):
        flipper.floor(np.zeros((1, 3, 32, 32), np.float32), [1])


def test_the_plan_is_part_of_the_identity(flipper):
    other = Flipper(pipeline=flipper.pipeline, guide=flipper.guide, size=64, plan=FlipPlan(kept=8, scales=(100.0,), held=0.0))
    assert other.fingerprint != flipper.fingerprint

"""Judges read from the shipped detector answer what ONNX Runtime answers, and have gradients."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from audit_plugin.demo.truth import ASSETS
from audit_plugin.perception.detectors import OnnxConceptDetector
from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many
from engines.errors import ExportError
from engines.guided import judge_of, log_odds, runner_up
from engines.guided.judge import pushed

DETECTOR = ASSETS / "detector" / "scenes.onnx"
CONCEPTS = tuple(json.loads(DETECTOR.with_suffix(".json").read_text())["concepts"])


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(3)
    values = draw_values(6, SceneLaw(positive={}), rng)
    pixels = render_many(rng.integers(0, 2**62, size=6).tolist(), values)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous() / 255


@pytest.mark.parametrize("concept", CONCEPTS)
def test_answers_are_those_of_the_runtime(scenes, concept):
    judge = judge_of(DETECTOR, f"concept/{concept}", 64)
    session = onnxruntime.InferenceSession(str(DETECTOR), providers=["CPUExecutionProvider"])
    (known,) = session.run([f"concept/{concept}"], {"input": scenes.numpy()})
    error = float((judge(scenes).softmax(1) - torch.from_numpy(known)).abs().max())
    print(concept, error)
    assert error < 1e-4


def test_resizing_is_that_of_the_detector(scenes):
    """Another size of image: judge and detector see the same."""
    large = torch.nn.functional.interpolate(scenes, (97, 83), mode="bicubic").clamp(0, 1)
    known = OnnxConceptDetector(DETECTOR, threads=1).read(large.numpy())["background"]
    found = judge_of(DETECTOR, "concept/background", 64)(large).softmax(1)
    assert np.abs(found.numpy() - known).max() < 1e-4


@pytest.mark.parametrize("size", [64, 90])
def test_gradients_are_finite_and_not_zero_for_every_class(scenes, size):
    """Also towards classes whose probability is 0 in float32: logits, not probabilities, are differentiated."""
    judge = judge_of(DETECTOR, "concept/background", 64)
    pictures = torch.nn.functional.interpolate(scenes, (size, size), mode="bilinear").requires_grad_()
    for target in range(4):
        towards = torch.full([len(scenes)], target)
        (g,) = torch.autograd.grad(pushed("log_odds", judge(pictures), towards).sum(), pictures)
        assert bool(torch.isfinite(g).all())
        assert float(g.abs().amax((1, 2, 3)).min()) > 1e-4


def test_log_odds_and_log_probability():
    """A score l as two columns has log-odds l; of three classes they are those of the softmax."""
    score = torch.tensor([-2.0, 0.3])
    two = torch.stack([-score / 2, score / 2], 1)
    torch.testing.assert_close(log_odds(two, torch.tensor([1, 0])), torch.tensor([-2.0, -0.3]))
    three = torch.tensor([[1.0, -2.0, 0.5]])
    p = three.softmax(1)[:, 2]
    torch.testing.assert_close(log_odds(three, torch.tensor([2])), (p / (1 - p)).log())
    torch.testing.assert_close(pushed("log_probability", three, torch.tensor([2])), p.log())


def test_the_runner_up_is_the_likeliest_other_class():
    assert runner_up(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])).tolist() == [2, 0]
    with pytest.raises(ValueError, match="two classes"):
        runner_up(torch.zeros(2, 1))


def test_what_cannot_be_judged_is_said(tmp_path):
    with pytest.raises(ExportError, match="no output 'concept/colr'; it has concept/shape"):
        judge_of(DETECTOR, "concept/colr", 64)
    with pytest.raises(ExportError, match="cannot be read"):
        judge_of(Path(tmp_path / "none.onnx"), "y", 64)
    with pytest.raises(ValueError, match="at least one pixel"):
        judge_of(DETECTOR, "concept/shape", 0)
    with pytest.raises(ValueError, match="push 'hard' is unknown"):
        pushed("hard", torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))

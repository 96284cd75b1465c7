"""A local copy of the deployed file answers what the server answers, and its gradient is that of the network."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from audit_plugin.core.errors import GradientError
from audit_plugin.target.contract import TensorSpec
from audit_plugin.target.gradients import SAME, agreement, read_network
from audit_plugin.target.options import Activation, PreprocessOptions, Resize
from audit_plugin.target.preprocess import to_input
from tests.fixtures.networks import WEIGHT, colour_network, expected_logits, expected_probabilities, pixel_network
from tests.target.gradients.deployed import contract

IMAGES = np.random.default_rng(3).random((9, 3, 16, 16), np.float32)


def answers(reading, images=IMAGES):
    with torch.no_grad():
        return reading(torch.from_numpy(images)).softmax(1).numpy()


@pytest.mark.parametrize(("output", "activation"), [("probabilities", Activation.NONE), ("logits", Activation.SOFTMAX)])
def test_the_copy_answers_what_the_server_answers(tmp_path, output, activation):
    """Through the softmax at its end or before it."""
    reading = read_network(colour_network(tmp_path / "colours.onnx"), contract(output, activation))
    found = agreement(answers(reading).astype(np.float64), expected_probabilities(IMAGES))
    assert found.top1 == 1
    assert found.worst < 1e-5
    SAME.check(found, "copy")
    # logits, not the logarithm of a probability that has saturated
    with torch.no_grad():
        logits = reading(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(
        logits - logits.mean(1, keepdims=True), expected_logits(IMAGES) - expected_logits(IMAGES).mean(1, keepdims=True), atol=1e-4
    )


def test_pixels_as_they_are(tmp_path):
    reading = read_network(pixel_network(tmp_path / "pixels.onnx"), contract(datatype="UINT8", layout="NHWC"))
    np.testing.assert_allclose(answers(reading), expected_probabilities(IMAGES), atol=1e-5)


def test_gradients_are_those_of_the_network(tmp_path):
    """In closed form: the mean colour, weighed; rounding to 8 bits does not stop them."""
    reading = read_network(colour_network(tmp_path / "colours.onnx"), contract("logits", Activation.SOFTMAX))
    leaf = torch.from_numpy(IMAGES).requires_grad_()
    (gradient,) = torch.autograd.grad(reading(leaf)[:, 1].sum(), leaf)
    per_pixel = gradient.mean((0, 2, 3)) * 256
    np.testing.assert_allclose(per_pixel.numpy(), WEIGHT[:, 1], atol=1e-4)


@pytest.mark.parametrize("options", [
    {"resize": Resize.BILINEAR}, {"resize": Resize.BICUBIC}, {"resize": Resize.NEAREST}, {"fit": "center_crop"},
    {"fit": "center_crop", "shorter_px": 20}, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}, {"channels": "BGR"}, {"layout": "NHWC"},
    {"channels": "GREY", "mean": (0.5,) * 3, "std": (0.3,) * 3},
])  # fmt: skip
@pytest.mark.parametrize("size", [(16, 16), (33, 40), (10, 12)])
def test_pictures_are_prepared_as_clients_prepare_them(options, size):
    """Pillow's resampling in torch: nearly always the same 8 bits, within two of 255 levels where halves are rounded otherwise."""
    from audit_plugin.target.gradients.reading import Reading

    images = np.random.default_rng(0).random((3, 3, *size), np.float32)
    preprocess = PreprocessOptions(size=(16, 16), dtype="FP32", **options)
    reading = Reading(nn.Flatten(), preprocess, Activation.SOFTMAX, logits=True)
    theirs = to_input(images, preprocess).reshape(3, -1)
    std = min(preprocess.std)
    with torch.no_grad():
        ours = reading(torch.from_numpy(images)).numpy()
    levels = np.abs(ours - theirs) * 255 * std
    assert levels.max() <= 2.01
    assert levels.mean() <= 0.3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("form", ["pt", "pt2"])
def test_torch_files_are_read_too(tmp_path, form):
    torch.manual_seed(0)
    net, x = Net().eval(), torch.from_numpy(IMAGES)
    path = tmp_path / f"net.{form}"
    if form == "pt":
        with pytest.warns(DeprecationWarning, match="deprecated"):
            torch.jit.script(net).save(str(path))
    else:
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},)), str(path))
    reading = read_network(path, contract("logits", Activation.SOFTMAX))
    rounded = (x * 255).round() / 255
    np.testing.assert_allclose(answers(reading), net(rounded).softmax(1).detach().numpy(), atol=1e-5)
    leaf = x.clone().requires_grad_()
    assert bool(torch.autograd.grad(reading(leaf)[:, 0].sum(), leaf)[0].abs().sum() > 0)


def test_one_score_becomes_two_columns_and_independent_classes_are_read_one_by_one():
    from audit_plugin.target.gradients.reading import Reading

    sizes = PreprocessOptions(size=(16, 16), dtype="FP32")
    x = torch.from_numpy(IMAGES)

    class One(nn.Module):
        def forward(self, images):
            return images.mean((1, 2, 3)) * 8 - 4

    single = Reading(One(), sizes, Activation.SIGMOID, logits=True)
    torch.testing.assert_close(single(x).softmax(1)[:, 1], torch.sigmoid(One()((x * 255).round() / 255)), atol=1e-5, rtol=0)
    many = Reading(Net().eval(), sizes, Activation.SIGMOID, logits=True).of_class(2)
    wanted = torch.sigmoid(many.network((x * 255).round() / 255)[:, 2])
    torch.testing.assert_close(many(x).softmax(1)[:, 1], wanted, atol=1e-5, rtol=0)


def test_another_model_is_refused(tmp_path):
    """With both numbers and what to do."""
    reading = read_network(colour_network(tmp_path / "other.onnx", weight=-np.array(WEIGHT)), contract())
    with pytest.raises(GradientError, match=r"not the deployed model: same class on .* of 9 images.*preprocess"):
        SAME.check(agreement(answers(reading).astype(np.float64), expected_probabilities(IMAGES)), "copy")
    with pytest.raises(GradientError, match="compared on no image"):
        SAME.check(agreement(np.zeros((0, 3)), np.zeros((0, 3))), "copy")
    with pytest.raises(GradientError, match="different models"):
        agreement(np.zeros((2, 3)), np.zeros((2, 4)))


def test_files_that_are_none_end_in_one_line(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    (tmp_path / "broken.pt").write_bytes(b"no module")
    (tmp_path / "broken.pt2").write_bytes(b"no program")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("something", "else")
    for name, message in (
        ("absent.onnx", "there is no file"),
        ("broken.onnx", "cannot be read"),
        ("broken.pt", "cannot be read"),
        ("broken.pt2", "cannot be read .* zip archive"),
        ("other.pt2", "cannot be read"),
    ):
        with pytest.raises(GradientError, match=message) as error:
            read_network(tmp_path / name, contract())
        assert "\n" not in str(error.value)
    with pytest.raises(GradientError, match="no output 'scores'"):
        read_network(
            colour_network(tmp_path / "two.onnx"),
            replace(contract(), output=TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))),
        )

"""Units read from the classifier's own file are those of the audit model, and their gradient is the network's."""

import numpy as np
import pytest
import torch

from audit_plugin.core.errors import GradientError
from audit_plugin.target.gradients.hidden_units import check_units, read_units
from audit_plugin.target.preprocess import to_input
from engines.serving.hidden import survey
from engines.serving.hidden_outputs import with_outputs
from engines.serving.hidden_reading import answers
from tests.engines.serving.test_hidden import small
from tests.target.gradients.deployed import contract

IMAGES = np.random.default_rng(3).random((9, 3, 16, 16), np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The shipped kind of graph in small: a convolution, its activation, and a head."""
    return small(tmp_path_factory.mktemp("net") / "net.onnx", shape=("n", 3, 16, 16))


@pytest.fixture(scope="module")
def relu(file):
    return next(each for each in survey(file).tensors if each.operator == "Relu")


def served(file, relu, output):
    """What the audit model answers."""
    sent = to_input(IMAGES, contract("probabilities").preprocess)
    return answers(with_outputs(file, [relu]), sent, file, [output])[output]


@pytest.mark.parametrize("how", ["mean", "max"])
def test_units_are_those_of_the_audit_model(file, relu, how):
    output = f"{relu.name}_{how}"
    reading, wanted = read_units(file, contract("probabilities"), output), served(file, relu, output)
    with torch.no_grad():
        np.testing.assert_allclose(reading(torch.from_numpy(IMAGES)).numpy(), wanted, atol=1e-5)
    assert "within" in check_units(reading, IMAGES, wanted, [0, 3], wanted.std(0)[[0, 3]])


def test_their_gradient_reaches_the_picture(file, relu):
    images = torch.from_numpy(IMAGES).requires_grad_()
    (slope,) = torch.autograd.grad(read_units(file, contract("probabilities"), f"{relu.name}_mean")(images)[:, 1].sum(), images)
    assert bool(torch.isfinite(slope).all())
    assert float(slope.abs().max()) > 0


def test_units_of_another_model_are_refused(file, relu):
    reading, wanted = read_units(file, contract("probabilities"), f"{relu.name}_mean"), served(file, relu, f"{relu.name}_mean")
    with pytest.raises(GradientError, match="differ from the server's by up to"):
        check_units(reading, IMAGES, wanted[::-1], [0, 3], wanted.std(0)[[0, 3]])
    with pytest.raises(GradientError, match="4 units where the server has 3"):
        check_units(reading, IMAGES, wanted[:, :3], [0], wanted.std(0)[[0]])


def test_what_the_file_does_not_have_is_said(file, tmp_path):
    with pytest.raises(GradientError, match="no tensor that makes 'nothing_mean'"):
        read_units(file, contract("probabilities"), "nothing_mean")
    with pytest.raises(GradientError, match=r"from ONNX files, not from net\.pt2"):
        read_units(tmp_path / "net.pt2", contract("probabilities"), "x")
    with pytest.raises(GradientError, match=r"cannot be differentiated: .*gone\.onnx"):
        read_units(tmp_path / "gone.onnx", contract("probabilities"), "x")

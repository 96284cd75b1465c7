"""One class of a model of independent classes, as a model of two."""

import numpy as np
import pytest
import torch

from audit_plugin.core.errors import ConfigError, GradientError
from audit_plugin.target.gradients import GradientOptions, Rung, guide
from audit_plugin.target.one_class import OneClass, asked_about, independent
from audit_plugin.target.options import Activation
from tests.fixtures.networks import WEIGHT, colour_network, expected_logits, expected_probabilities, sigmoid_network
from tests.target.gradients.deployed import Coarse, contract

IMAGES = np.random.default_rng(0).random((12, 3, 16, 16), np.float32)


def sigmoids(images):
    return 1 / (1 + np.exp(-expected_logits(images)))


def test_absence_and_presence_are_the_two_classes():
    whole = Coarse(99, tells=sigmoids)
    blue = asked_about(whole, "blue")
    assert blue.info.labels == ("not blue", "blue")
    np.testing.assert_allclose(blue.predict(IMAGES)[:, 1], sigmoids(IMAGES)[:, 2])
    np.testing.assert_allclose(blue.predict(IMAGES).sum(1), 1)
    assert len({whole.info.id, blue.info.id, OneClass(whole, "red").info.id}) == 3  # their scores are kept apart
    assert [blue.label(name) for name in ("blue", "red", "", "sky")] == ["blue", "not blue", "", ""]
    assert asked_about(whole, "") is whole
    with pytest.raises(ConfigError, match=r"has no class 'sky'; it has red, green, blue, grey"):
        _ = OneClass(whole, "sky").info


def test_the_twin_is_that_classs_gradient(tmp_path):
    """In closed form: the log-odds are linear in the mean colour."""
    file = sigmoid_network(tmp_path / "sigmoid.onnx")
    found = guide(GradientOptions(file=file), OneClass(Coarse(99, tells=sigmoids), "blue"), IMAGES)
    assert found.rung is Rung.TWIN
    assert "same class on 100.0% of 12 images" in found.said
    leaf = torch.from_numpy(IMAGES).requires_grad_()
    logits = found.judge(leaf)
    (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), leaf)
    wanted = np.broadcast_to(WEIGHT[:, 2][:, None, None] / 256, IMAGES.shape)
    np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_one_of_exclusive_classes_has_odds_against_all_others(tmp_path, output):
    """Whether the softmax is the network's own or the client's, the twin is the server's."""
    activation = Activation.NONE if output == "probabilities" else Activation.SOFTMAX

    class Exclusive(Coarse):
        contract = contract(output, activation)

    found = guide(
        GradientOptions(rung=Rung.TWIN, file=colour_network(tmp_path / "c.onnx")), OneClass(Exclusive(99), "blue"), IMAGES
    )
    told = found.judge(torch.from_numpy(IMAGES)).softmax(1)[:, 1]
    np.testing.assert_allclose(told.numpy(), expected_probabilities(IMAGES)[:, 2], atol=1e-5)


def test_without_a_named_class_it_is_said_what_to_do(tmp_path):
    given = GradientOptions(rung=Rung.TWIN, file=sigmoid_network(tmp_path / "sigmoid.onnx"))
    with pytest.raises(
        GradientError, match=r"colours answers independent classes .* name one as `explain.gradients.colours.of_class`"
    ):
        guide(given, Coarse(99, tells=sigmoids), IMAGES)


def test_a_search_without_a_gradient_says_that_flips_are_of_the_likeliest_class():
    class Independent(Coarse):
        contract = contract("logits", Activation.SIGMOID)

    told = Independent(99, tells=sigmoids)
    assert "explain.gradients.colours.of_class` names one" in guide(GradientOptions(), told, IMAGES).said
    assert "of_class" not in guide(GradientOptions(), Coarse(99), IMAGES).said
    one = guide(GradientOptions(), OneClass(told, "blue"), IMAGES)
    assert "of_class" not in one.said


def test_rounding_makes_no_independent_classes():
    """Of a thousand classes two decimals may lose a third of the sum."""
    p = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), 20)
    assert not independent(np.round(p, 2), 0.01)
    assert not independent(4 * p - 2)  # logits
    assert independent(np.minimum(3 * p, 1))

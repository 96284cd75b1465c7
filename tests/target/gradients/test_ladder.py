"""Rungs of the gradient ladder against a real Triton: all of them are the gradient of what is deployed, and say so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit_plugin.core.errors import GradientError
from audit_plugin.demo.server import TritonServer
from audit_plugin.target.gradients import GradientOptions, Pooled, Rung, StudentOptions, guide, read_network
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from engines.serving.export import export_classifier
from tests.fixtures.networks import WEIGHT, colour_network
from tests.target.gradients.deployed import contract

pytestmark = pytest.mark.triton
IMAGES = np.random.default_rng(5).random((12, 3, 16, 16), np.float32)


def colours(url):
    return TargetOptions(model="colours", url=url, version="1", output="probabilities")


@pytest.fixture(scope="module")
def url(triton_kit, colour_repository, tmp_path_factory):
    """The colour classifiers, and the gradients of one beside it."""
    folder = tmp_path_factory.mktemp("gradients")
    repository = folder / "repository"
    repository.mkdir()
    for model in colour_repository.iterdir():
        (repository / model.name).symlink_to(model)
    module = read_network(colour_network(folder / "colours.onnx"), contract())
    export_classifier(module, repository, image=(3, 16, 16), name="colours_vjp", cache=folder / "cache", buckets=(1, 4))
    with TritonServer(repository, kit=triton_kit, log_file=folder / "log") as server:
        yield server.grpc_url
        server.kill()  # a polite end takes seconds


@pytest.fixture
def target(url):
    with TritonClassifier.connect(colours(url)) as found:
        yield found


def gradient(judge):
    leaf = torch.from_numpy(IMAGES).requires_grad_()
    odds = judge(leaf).log_softmax(1)[:, 2]
    return torch.autograd.grad(odds.sum(), leaf)[0]


def test_twin_and_endpoint_are_the_deployed_models_gradient(target, tmp_path):
    """Both agree with each other, and with the closed form: the logits are linear in the mean colour."""
    twin = guide(GradientOptions(file=colour_network(tmp_path / "colours.onnx")), target, IMAGES)
    served = guide(GradientOptions(rung=Rung.ENDPOINT), target, IMAGES)
    assert (twin.rung, served.rung) == (Rung.TWIN, Rung.ENDPOINT)
    assert "same class on 100.0% of 12 images" in twin.said
    ours, theirs = gradient(twin.judge), gradient(served.judge)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    p = target.predict(IMAGES)
    cotangent = np.eye(p.shape[1])[2] - p
    wanted = (cotangent @ np.asarray(WEIGHT).T)[:, :, None, None] / 256
    np.testing.assert_allclose(ours.numpy(), np.broadcast_to(wanted, IMAGES.shape), rtol=1e-3, atol=1e-6)


def test_the_choice_is_made_and_explained(target, tmp_path):
    """A file of another model is passed over with its numbers, for the endpoint; without either, nothing is differentiated."""
    wrong = GradientOptions(file=colour_network(tmp_path / "wrong.onnx", weight=-np.asarray(WEIGHT)))
    found = guide(wrong, target, IMAGES)
    assert found.rung is Rung.ENDPOINT
    (why,) = found.passed_over
    assert why.startswith("twin: the twin is not the deployed model")
    blind = guide(replace(wrong, endpoint="nobody_vjp"), target, IMAGES)
    assert (blind.rung, blind.judge) == (Rung.FREE, None)
    assert "no gradient model 'nobody_vjp'" in blind.passed_over[1]
    with pytest.raises(GradientError, match="not the deployed model"):
        guide(replace(wrong, rung=Rung.TWIN), target, IMAGES)
    with pytest.raises(GradientError, match=r"set `gradients.file`"):
        guide(GradientOptions(rung=Rung.TWIN), target, IMAGES)


def test_a_model_that_is_no_gradient_is_refused(target):
    with pytest.raises(GradientError, match="no vector-Jacobian product"):
        guide(GradientOptions(rung=Rung.ENDPOINT, endpoint="colours"), target, IMAGES)


def test_a_surrogate_is_taught_by_the_server(target):
    """Linear in the mean colour: easily learned, and it points where the deployed model does."""
    rng = np.random.default_rng(0)

    def pool(n):
        colours = rng.random((n, 3, 1, 1), np.float32)
        images = np.clip(colours + 0.1 * rng.normal(size=(n, 3, 16, 16)), 0, 1).astype(np.float32)
        return Pooled(images, np.arange(n) >= n // 2)

    options = GradientOptions(rung=Rung.SURROGATE, queries=400, student=StudentOptions(students=1, widths=(8, 16), epochs=12))
    found = guide(options, target, IMAGES, pool=pool)
    assert found.rung is Rung.SURROGATE
    with pytest.raises(GradientError, match="needs pictures to learn from"):
        guide(options, target, IMAGES)


def test_pictures_of_another_size_are_refused(target):
    served = guide(GradientOptions(rung=Rung.ENDPOINT), target, IMAGES)
    with pytest.raises(GradientError, match=r"takes pictures of \(16, 16\), not \(8, 8\)"):
        served.judge(torch.zeros(1, 3, 8, 8))

"""The engines' models in the checkout's repository are what the documented command writes, and a server takes them as they are."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton

from audit_plugin.demo.server import TritonServer
from engines.errors import ServerError
from engines.graphs.gradients import Vjp
from engines.serving.classifier import read_classifier
from engines.serving.identity import engine_key
from engines.serving.networks import classifier_network, some_images
from engines.serving.outline import outline, recipe_shapes
from engines.serving.wire import Endpoint, Wire
from engines.training.options import Recipe

REPOSITORY = Path(__file__).resolve().parents[2] / "triton_repo"
CLASSIFIER = REPOSITORY / "shape_clean" / "1" / "model.onnx"
COMMAND = "python -m engines.serving.outline triton_repo --classifier triton_repo/shape_clean/1/model.onnx"
MODELS = {model.name: model for model in outline(recipe_shapes(Recipe()))}


@pytest.fixture(scope="module")
def server(triton_kit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY, folder / "repository")  # a server leaves compiled files behind
    with TritonServer(folder / "repository", kit=triton_kit, log_file=folder / "log") as server:
        yield server
        server.kill()  # a polite end takes seconds


@pytest.fixture(scope="module")
def wire(server):
    wire = Wire(Endpoint(url=server.grpc_url))
    yield wire
    wire.close()


@pytest.mark.parametrize("name", MODELS)
def test_models_are_what_the_command_writes(name):
    """Byte for byte; nothing else lies there."""
    folder, model = REPOSITORY / name, MODELS[name]
    found = {
        str(path.relative_to(folder / "1")): path.read_text()
        for path in (folder / "1").rglob("*")
        if path.suffix != ".pyc" and path.is_file()
    }
    assert found == model.files, f"run `{COMMAND}`"
    assert (folder / "config.pbtxt").read_text() == model.config, f"run `{COMMAND}`"


def test_the_classifiers_gradients_are_of_the_classifier_that_is_there():
    """Its key is that of the file beside it."""
    image = recipe_shapes(Recipe()).image
    network = classifier_network(read_classifier(CLASSIFIER, image), image, lambda: some_images(image))
    config = (REPOSITORY / "audit_classifier_vjp" / "config.pbtxt").read_text()
    (key,) = re.findall(r'key: "engine_key", value: { string_value: "(\w+)"', config)
    assert key == engine_key(network.spec), f"run `{COMMAND}`"


@pytest.mark.triton
def test_a_server_takes_the_checkout_as_it_is(server):
    """The audited models, the gradients of one of them, and what waits for weights."""
    with triton.InferenceServerClient(server.grpc_url) as client:
        names = [path.parent.name for path in REPOSITORY.glob("*/config.pbtxt")]
        assert len(names) == 9
        assert all(client.is_model_ready(name) for name in names)


@pytest.mark.triton
def test_gradients_are_served(wire):
    """Against autograd through the same file, and against the audited model that is served beside it."""
    image = some_images((3, 64, 64))
    cotangent = torch.randn(len(image), 2, generator=torch.Generator().manual_seed(0))
    scores, gradient = Vjp(read_classifier(CLASSIFIER, (3, 64, 64)).module)(image, cotangent)
    found = wire.infer("audit_classifier_vjp", "", {"image": image.numpy(), "cotangent": cotangent.numpy()}, ("scores", "gradient"))
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
    np.testing.assert_allclose(found["gradient"], gradient, atol=1e-4 * float(gradient.abs().max()))
    audited = wire.infer("shape_clean", "", {"image": image.numpy()}, ("probabilities",))
    np.testing.assert_allclose(found["scores"], audited["probabilities"], atol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("name", ["audit_unet", "audit_sampler"])
def test_what_has_no_weights_says_so(wire, name):
    feeds = {
        "audit_unet": {
            "sample": np.zeros((1, 4, 16, 16), np.float32),
            "t": np.zeros((1, 1), np.float32),
            "context": np.zeros((1, 32, 128), np.float32),
        },
        "audit_sampler": {"context": np.zeros((1, 32, 128), np.float32)},
    }[name]
    output = {"audit_unet": "prediction", "audit_sampler": "image"}[name]
    with pytest.raises(ServerError, match="not in this repository; `audit-plugin engines export-triton --repo DIR` writes"):
        wire.infer(name, "", feeds, (output,))

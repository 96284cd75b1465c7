"""Hidden features of a deployed classifier through a real Triton: the same answers, and units beside them."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton

from audit_plugin.core.errors import GradientError, TargetError
from audit_plugin.demo.server import TritonServer
from audit_plugin.target.hidden import export_hidden
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.fixtures.networks import LABELS, WEIGHT, colour_network, pixel_network

pytestmark = pytest.mark.triton
IMAGES = np.random.default_rng(5).random((12, 3, 16, 16), np.float32)


def colours(url, model="colours"):
    return TargetOptions(model=model, url=url, version="1", output="probabilities")


def renamed(path, old, new):
    """The same network with a tensor called as exporters call them."""
    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    onnx.save(model, path)
    return path


def test_the_audit_model_answers_as_the_classifier_and_tells_its_units(triton_kit, triton_server, tmp_path):
    """Nothing but the graph file and the classifier's answers is needed; labels come along, scalars and strings are served."""
    file, repository = renamed(colour_network(tmp_path / "colours.onnx"), "mean", "/stage.1/mean"), tmp_path / "repository"
    before = file.read_bytes()
    with TritonClassifier.connect(colours(triton_server.grpc_url)) as target:
        made = export_hidden(target, IMAGES, file, repository, ["/stage.1/mean"], batch=8)
        scores = target.predict(IMAGES)
    assert (made.directory.name, made.parity.images, file.read_bytes() == before) == ("colours_hidden", 15, True)
    with (
        TritonServer(repository, kit=triton_kit, log_file=tmp_path / "log") as server,
        TritonClassifier.connect(colours(server.grpc_url, "colours_hidden")) as shown,
    ):
        assert shown.info.labels == LABELS
        np.testing.assert_allclose(shown.predict(IMAGES), scores, rtol=0, atol=1e-6)
        sent = np.rint(IMAGES[:8] * 255).astype(np.float32) / 255
        tensor = triton.InferInput("image", list(sent.shape), "FP32")
        tensor.set_data_from_numpy(sent)
        answer = triton.InferenceServerClient(server.grpc_url).infer("colours_hidden", [tensor])
        units = answer.as_numpy("/stage.1/mean")
        assert np.abs(units - sent.mean((2, 3))).max() < 1e-6
        best = (units @ WEIGHT + np.float32([0.1, -0.2, 0.3, 0.0])).argmax(1)
        assert answer.as_numpy("class").ravel().tolist() == best.tolist()
        assert [name.decode() for name in answer.as_numpy("name").ravel()] == [LABELS[at] for at in best]
        server.kill()  # a polite end takes seconds


def test_the_file_of_another_model_is_refused(triton_server, tmp_path):
    wrong = colour_network(tmp_path / "wrong.onnx", weight=-np.asarray(WEIGHT))
    with TritonClassifier.connect(colours(triton_server.grpc_url)) as target:
        with pytest.raises(GradientError, match="the file is not the deployed model"):
            export_hidden(target, IMAGES, wrong, tmp_path / "models", ["mean"])
        with pytest.raises(TargetError, match="takes 'pixels' and answers"):
            export_hidden(target, IMAGES, pixel_network(tmp_path / "pixels.onnx"), tmp_path / "models", ["mean"])
    with TritonClassifier.connect(replace(colours(triton_server.grpc_url), output="logits", activation="softmax")) as target:
        made = export_hidden(target, IMAGES, colour_network(tmp_path / "right.onnx"), tmp_path / "models", ["mean"])
    assert made.parity.worst <= 1e-6
    assert [each.name for each in (tmp_path / "models").iterdir()] == ["colours_hidden"]

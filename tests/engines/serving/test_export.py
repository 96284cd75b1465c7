"""A miniature pipeline and a planted classifier, exported and served by a real Triton."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from google.protobuf import text_format
from torch import nn
from tritonclient.grpc.model_config_pb2 import ModelConfig

from audit_plugin.demo.server import TritonServer
from engines.backends.eager import EagerBackend
from engines.backends.triton import TritonBackend
from engines.errors import ExportError, RepositoryError, ServerError, UnsupportedPipelineError
from engines.parity import certify
from engines.pipeline import load_pipeline
from engines.serving.classifier import read_classifier
from engines.serving.export import export_classifier, export_triton
from engines.serving.identity import engine_key
from engines.serving.loops import sampler_key
from engines.serving.networks import classifier_network, pipeline_networks
from engines.serving.reading import read_source
from engines.serving.wire import Endpoint, Wire

CAPTIONS, SEEDS = ["a red circle", "a photo", "a blue square"], [5, 2**63 + 1, 7]
MODELS = {"unet", "vae_decoder", "vae_encoder", "vae_decoder_vjp", "classifier_vjp", "sampler", "counterfactual"}


class Redness(nn.Module):
    """Planted: logits (other, red) are linear in the image's mean colour, and the answer to a grey image is other."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.tensor([[0.0, 40.0], [0.0, -20.0], [0.0, -20.0]]))
        self.register_buffer("bias", torch.tensor([0.0, -1.0]))

    def forward(self, image):
        return image.mean((2, 3)) @ self.weight + self.bias


@pytest.fixture(scope="module")
def source(pipeline_directory):
    return read_source(pipeline_directory)


@pytest.fixture(scope="module")
def repository(pipeline_directory, graphs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "repository"
    written = export_triton(pipeline_directory, folder, classifier=Redness(), platform="python", buckets=(1, 2, 4), cache=graphs)
    assert {path.name for path in written} == {f"audit_{name}" for name in MODELS}
    return folder


@pytest.fixture(scope="module")
def server(triton_kit, repository, tmp_path_factory):
    log = tmp_path_factory.mktemp("served-log") / "log"
    with TritonServer(repository, kit=triton_kit, log_file=log) as server:
        yield server
        server.kill()  # a polite end takes seconds


@pytest.fixture(scope="module")
def wire(server):
    wire = Wire(Endpoint(url=server.grpc_url))
    yield wire
    wire.close()


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1)


@pytest.fixture(scope="module")
def ask(wire, pipeline):
    """One request of a loop: captions become the context."""

    def ask(model, outputs, plan=None, captions=CAPTIONS, **arrays):
        feeds = {name: np.asarray(value) for name, value in arrays.items()}
        feeds["context"] = pipeline.told(captions).tensors["context"].numpy()
        if plan is not None:
            feeds["plan"] = np.array([json.dumps(plan).encode()], np.object_)
        return wire.infer(f"audit_{model}", "", feeds, outputs)

    return ask


@pytest.mark.triton
def test_the_server_accepts_every_model(server):
    with triton.InferenceServerClient(server.grpc_url) as client:
        assert all(client.is_model_ready(f"audit_{name}") for name in MODELS)


@pytest.mark.triton
@pytest.mark.parametrize("name", ["unet", "vae_decoder", "vae_encoder", "vae_decoder_vjp"])
def test_networks_are_those_of_torch(server, source, name):
    """Certified through the server like any other backend, gradients by their own bounds."""
    (network,) = [each for each in pipeline_networks(source, gradients=True) if each.spec.name == name]
    engine = TritonBackend(endpoint=Endpoint(url=server.grpc_url)).build(network.module, network.spec)
    certificate = certify(engine, EagerBackend().build(network.module, network.spec), network.batches())
    assert certificate.passed, certificate.failure
    assert (certificate.gradient_error is not None) is name.endswith("vjp")
    engine.close()


@pytest.mark.triton
def test_gradients_of_the_classifier_are_those_of_autograd(wire):
    """In closed form too: the mean colour of 256 pixels."""
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    cotangent = torch.tensor([[0.0, 1.0], [1.0, -1.0], [0.5, 2.0]])
    (right,) = torch.autograd.grad((Redness()(image) * cotangent).sum(), image)
    found = wire.infer(
        "audit_classifier_vjp", "", {"image": image.detach().numpy(), "cotangent": cotangent.numpy()}, ("scores", "gradient")
    )
    np.testing.assert_allclose(found["scores"], Redness()(image).detach(), atol=1e-4)
    np.testing.assert_allclose(found["gradient"], right, atol=1e-4 * float(right.abs().max()))
    np.testing.assert_allclose(found["gradient"][0, :, 3, 3], np.array([40, -20, -20]) / 256, rtol=1e-4)


@pytest.mark.triton
def test_the_sampler_draws_what_the_pipeline_draws(ask, pipeline, repository):
    """The reference plan, from seeds: images, latents, evaluations; the key is that of the networks."""
    found = ask("sampler", ("image", "latents", "evaluations", "tier", "engine_key"), seeds=np.array(SEEDS, np.uint64))
    np.testing.assert_allclose(found["image"], pipeline.generate(CAPTIONS, SEEDS), atol=1e-4)
    np.testing.assert_allclose(found["latents"], pipeline.draw(CAPTIONS, SEEDS), atol=1e-3)
    assert found["evaluations"] == 3 * pipeline.evaluations_per_image
    assert found["tier"] == [b"exact"]
    assert found["engine_key"][0].decode() in (repository / "audit_sampler" / "config.pbtxt").read_text()


@pytest.mark.triton
@pytest.mark.parametrize(
    "plan",
    [
        {"steps": 5, "sampler": "ddim", "schedule": "karras", "guidance": 3.0, "guidance_interval": [0.5, 5.0]},
        {"steps": 3, "sampler": "dpmpp_2m", "schedule": "trailing", "guidance": 1.0},
    ],
)
def test_plans_are_those_of_the_pipeline(ask, pipeline_directory, plan):
    """From latents: x_T as the pipeline starts."""
    options = {**plan, "guidance_interval": plan.get("guidance_interval") and tuple(plan["guidance_interval"])}
    other = load_pipeline(pipeline_directory, backend="torch", threads=1, **options)
    found = ask("sampler", ("image", "tier"), plan, latents=other.start(SEEDS).numpy())
    np.testing.assert_allclose(found["image"], other.generate(CAPTIONS, SEEDS), atol=1e-4)
    assert found["tier"] == [b"approximate"]


@pytest.mark.triton
def test_many_rows_are_cut(ask):
    """Seven rows, of which the networks take four at once."""
    captions, seeds = CAPTIONS * 2 + CAPTIONS[:1], list(range(7))
    found = ask("sampler", ("image",), {"guidance": 1.0, "steps": 2}, captions, seeds=np.array(seeds, np.uint64))
    alone = ask("sampler", ("image",), {"guidance": 1.0, "steps": 2}, captions[4:5], seeds=np.array(seeds[4:5], np.uint64))
    np.testing.assert_allclose(found["image"][4:5], alone["image"], atol=1e-5)


@pytest.mark.triton
def test_an_image_is_edited_from_where_the_plan_begins(ask, pipeline):
    """Nearly nothing is left of the noise, so nearly the round trip through the autoencoder comes back."""
    image = pipeline.generate(CAPTIONS, SEEDS)
    with torch.no_grad():
        trip = pipeline.codec.decode(pipeline.codec.encode(torch.from_numpy(image) * 2 - 1)).numpy() / 2 + 0.5
    found = ask("sampler", ("image",), {"sigmas": [0.002, 0.0], "guidance": 1.0}, image=image, seeds=np.array(SEEDS, np.uint64))
    assert np.abs(found["image"] - trip.clip(0, 1)).max() < 0.02


@pytest.mark.triton
def test_a_pull_flips_the_planted_classifier(ask):
    """Every image is something else before and red after; and nothing is claimed of images that were red before."""
    outputs = (
        "image",
        "image_before",
        "scores",
        "scores_before",
        "flipped",
        "l1",
        "trajectory",
        "evaluations",
        "tier",
        "engine_key",
    )
    plan = {"steps": 8, "guidance": 1.0, "classifier_guidance": 4.0}
    found = ask("counterfactual", outputs, plan, seeds=np.array(SEEDS, np.uint64), target=np.ones(3, np.int64))
    before, after = (found[name].argmax(1) for name in ("scores_before", "scores"))
    assert found["flipped"].dtype == bool
    assert found["flipped"].tolist() == [True] * 3, (found["scores_before"], found["scores"])
    assert (before.tolist(), after.tolist()) == ([0, 0, 0], [1, 1, 1])
    for image, scores in (("image_before", "scores_before"), ("image", "scores")):
        np.testing.assert_allclose(found[scores], Redness()(torch.tensor(found[image])), atol=1e-3)
        np.testing.assert_allclose(found[image] * 255, np.rint(found[image] * 255), atol=1e-3)
    np.testing.assert_allclose(found["l1"], np.abs(found["image"] - found["image_before"]).mean((1, 2, 3)), atol=1e-6)
    assert (found["trajectory"][:, -1, 3] > found["trajectory"][:, 0, 3]).all()
    assert found["evaluations"] == 2 * 3 * 8


@pytest.mark.triton
def test_a_pull_towards_what_is_there_flips_nothing(ask):
    plan = {"steps": 3, "guidance": 1.0, "classifier_guidance": 0.1}
    found = ask("counterfactual", ("flipped", "scores"), plan, seeds=np.array(SEEDS, np.uint64), target=np.zeros(3, np.int64))
    assert found["scores"].argmax(1).tolist() == [0, 0, 0]
    assert not found["flipped"].any()


@pytest.mark.triton
def test_another_condition_is_compared_without_gradients(ask, pipeline):
    """Before is drawn from the other caption, after from the own; the target needs no pull."""
    other = pipeline.told(["a green circle"] * 3).tensors["context"].numpy()
    seeds, target = np.array(SEEDS, np.uint64), np.zeros(3, np.int64)
    found = ask("counterfactual", ("image_before", "image"), {"steps": 2}, seeds=seeds, target=target, reference_context=other)
    drawn = ask("sampler", ("image",), {"steps": 2}, seeds=seeds)
    np.testing.assert_allclose(found["image"], np.rint(drawn["image"] * 255) / 255, atol=1 / 255 + 1e-4)
    assert np.abs(found["image"] - found["image_before"]).max() > 0


@pytest.mark.triton
def test_the_page_draws_as_it_says(server, pipeline):
    """The example of docs/serving-engines.md, with the server's address."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "serving-engines.md").read_text()
    code = page.partition("```python\nimport json")[2].partition("```")[0].replace("triton:8001", server.grpc_url)
    names = {"context": pipeline.told(CAPTIONS[:2]).tensors["context"].numpy()}
    exec("import json" + code, names)
    assert names["images"].shape == (2, 3, 16, 16)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "plan", "message"),
    [
        ("sampler", {"stps": 3}, "unknown stps"),
        ("sampler", {"classifier_guidance": 1.0}, "target for each of the 3 rows"),
        ("counterfactual", {}, "nothing tells before from after"),
        ("counterfactual", {"classifier_guidance": 1.0, "steps": 0}, "1 to 1000 steps"),
    ],
)
def test_what_cannot_be_drawn_is_said(ask, model, plan, message):
    """Also through a call from one model to another; and the server lives on."""
    with pytest.raises(ServerError, match=message):
        ask(model, ("image",), plan, seeds=np.array(SEEDS, np.uint64))
    assert ask("sampler", ("tier",), seeds=np.array(SEEDS, np.uint64))["tier"] == [b"exact"]


def test_networks_that_are_replaced_change_the_key(source):
    networks = pipeline_networks(source, gradients=False)
    judge = classifier_network(read_classifier(Redness(), source.image), source.image, lambda: source.images)
    assert sampler_key(networks) != sampler_key([*networks, judge])
    assert len({engine_key(each.spec) for each in [*networks, judge]}) == 4


def test_the_same_graphs_are_written_for_servers_with_the_onnx_backend(repository, pipeline_directory, graphs, tmp_path):
    """Nothing is exported again, nothing but the graph lies there, and the loops are the same."""
    written = export_triton(
        pipeline_directory, tmp_path, classifier=Redness(), platform="onnxruntime", buckets=(1, 2, 4), device="cuda", cache=graphs
    )
    for path in written:
        config = text_format.Parse((path / "config.pbtxt").read_text(), ModelConfig())
        files = sorted(each.name for each in (path / "1").iterdir())
        if config.backend != "python":
            assert (config.platform, files) == ("onnxruntime_onnx", ["model.onnx"])
            assert (path / "1" / "model.onnx").read_bytes() == (repository / path.name / "1" / "model.onnx").read_bytes()
    assert json.loads((tmp_path / "audit_sampler" / "1" / "sampler.json").read_text())["arrays"] == "cuda"


def test_a_repository_of_somebody_else_is_not_touched(pipeline_directory, graphs, tmp_path):
    (tmp_path / "audit_unet").mkdir()
    with pytest.raises(RepositoryError, match="not written by audit-plugin"):
        export_triton(pipeline_directory, tmp_path, platform="python", buckets=(1, 2, 4), cache=graphs)
    assert [path.name for path in tmp_path.iterdir()] == ["audit_unet"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": ()}, "buckets"),
        ({"buckets": (0, 4)}, "buckets"),
        ({"platform": "magic"}, "platform 'magic' is unknown"),
        ({"platform": "tensorrt"}, "GPU only"),
    ],
)
def test_impossible_servers_are_refused(pipeline_directory, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_triton(pipeline_directory, tmp_path, **options)


def test_samplers_that_the_loop_does_not_know_are_refused(pipeline_copy, tmp_path):
    (pipeline_copy / "audit.json").write_text(json.dumps({"sampler": "euler_ancestral", "schedule": "native"}))
    with pytest.raises(UnsupportedPipelineError, match=re.escape("knows ddim, dpmpp_2m, euler; name one of them as `sampler`")):
        export_triton(pipeline_copy, tmp_path)


def test_a_classifier_that_is_none_is_refused(tmp_path):
    with pytest.raises(ExportError, match="one row of two or more scores"):
        export_classifier(nn.Flatten(0), tmp_path, image=(3, 4, 4))

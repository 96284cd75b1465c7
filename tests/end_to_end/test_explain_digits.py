"""A published classifier and a published diffusion, neither trained here: gradients, counterfactuals and a report, with a real server."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from audit_plugin import wiring
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.config import load
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.report.document import read_report
from audit_plugin.sources.images import to_float
from audit_plugin.target.gradients import GradientOptions, Rung, guide
from audit_plugin.target.triton import TritonClassifier
from tests.end_to_end.site import cli
from tests.fixtures.digits import CLASSIFIER, LABELS, THERE, WHY, digits, write_site

pytestmark = [pytest.mark.triton, pytest.mark.skipif(not THERE, reason=WHY)]
QUICK = {"images": 4, "free": 1, "kept": 20, "signal": 0.5, "bisections": 0, "paths": 1}


@pytest.fixture(scope="module")
def site(triton_kit, tmp_path_factory):
    """The classifier as it was published, its gradient beside it, and sixteen digits."""
    folder = tmp_path_factory.mktemp("digits")
    write_model(folder / "models", "digits", CLASSIFIER, LABELS)
    with TritonServer(folder / "models", kit=triton_kit, log_file=folder / "log") as server:
        config = write_site(folder / "site", 16, server.grpc_url, **QUICK)
        options = ("--model", "digits", "--file", str(CLASSIFIER), "--repo", str(folder / "models"), "--batches", "16")
        answer = cli("engines", "export-vjp", str(config), *options, "--cache", str(folder / "cache"))
        assert answer.code == 0, answer.err
    with TritonServer(folder / "models", kit=triton_kit, log_file=folder / "log", ports=server.ports) as server:
        yield config
        server.kill()


@pytest.fixture(scope="module")
def target(site):
    with TritonClassifier.connect(load(site).models[0].target) as found:
        yield found


def network(images):
    """The published layers in torch, of RGB images in [0, 1] as a client sends them."""
    weights = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in onnx.load(CLASSIFIER).graph.initializer}
    grey = (255 * images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    x = functional.max_pool2d(functional.relu(functional.conv2d(grey, weights["Parameter5"], padding=2) + weights["Parameter6"]), 2)
    x = functional.max_pool2d(functional.relu(functional.conv2d(x, weights["Parameter87"], padding=2) + weights["Parameter88"]), 3)
    return x.flatten(1) @ weights["Parameter193"].reshape(256, 10) + weights["Parameter194"]


def pull(judge, images):
    """Gradient of every image's margin between its two likeliest digits."""
    leaf = torch.from_numpy(images).requires_grad_()
    two = judge(leaf).topk(2).values
    return torch.autograd.grad((two[:, 1] - two[:, 0]).sum(), leaf)[0]


def pictures(count=16):
    return to_float([each[..., None].repeat(3, 2) for each in digits(count)[0]])


@pytest.mark.parametrize("rung", [Rung.TWIN, Rung.ENDPOINT])
def test_gradients_are_those_of_the_published_network(target, rung):
    """By the file and over the network, as autograd has them; and the server's classes are those of the digits."""
    options = GradientOptions(rung=rung, file=CLASSIFIER if rung is Rung.TWIN else None)
    found, wanted = pull(guide(options, target, pictures()).judge, pictures()), pull(network, pictures())
    error = (found - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert float(error.max()) < 1e-4
    assert (target.predict(pictures()).argmax(1) == digits(16)[1]).mean() > 0.9


def test_digits_are_explained(site, target, real_engine, monkeypatch):
    """Four digits by the published diffusion; the report has pictures, and says of each what the server says of the stored one."""
    monkeypatch.setattr(wiring, "EngineGenerator", real_engine)
    assert cli("run", str(site)).code == 0
    answer = cli("explain", str(site))
    assert answer.code == 0, answer.err
    (result,) = read_report(site.parent / "report").results
    told = result.counterfactuals
    assert (told.rung, len(told.items)) == ("twin", 4)
    assert sum(item.flipped for item in told.items) >= 2
    store = edit_store(str(site.parent / "bank"), load(site).config.bank.images)
    for item in told.items:
        before, after = target.predict(to_float([store.pictures.pixels(sha) for sha in (item.before_sha256, item.after_sha256)]))
        assert LABELS[before.argmax()] == item.original
        assert LABELS[np.argsort(-before)[1]] == item.target
        assert (LABELS[after.argmax()] == item.target) == item.flipped
    assert Path(site.parent / "report" / "report.html").read_text().count("data:image/png") >= 4

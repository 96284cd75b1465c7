"""What is written for a plan, without the library that compiles one."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.cache import BuildCache
from engines.capability import Capability, cuda_driver
from engines.errors import BackendUnavailableError, ParityError
from engines.network import Network
from engines.serving import graphs
from engines.serving.export import export_classifier
from engines.serving.graphs import Serving, graph_model
from engines.spec import Profile
from tests.engines.serving.networks import WAVE, Wave, wave_feeds


class Late(nn.Module):
    """Told another timestep."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x, t):
        return self.module(x, t + 1)


class Compiler:
    """Stands for a backend that compiles: leaves a graph and a plan in the cache, and runs the module itself, wrongly if asked to."""

    name = "tensorrt"

    def __init__(self, cache, *, wrong=False):
        self.cache, self.wrong, self.specs = cache, wrong, []

    def probe(self):
        return Capability(backend=self.name, version="99.0", precisions=("fp32",), kinds=("forward",))

    def unusable(self, spec):
        return self.probe().refuses(spec)

    def build(self, module, spec):
        self.specs.append(spec)
        self.cache.obtain(spec.key(), lambda folder: (folder / "model.onnx").write_bytes(b"graph") and None)
        self.cache.obtain(spec.key({"for": "99.0"}), self._compile)
        built = EagerBackend().build(Late(module) if self.wrong else module, spec)
        return replace(built, backend=self.name)

    def _compile(self, folder):
        (folder / "plan").write_bytes(b"plan")
        (folder / "plan.json").write_text(json.dumps({"version": "99.0", "device": "some GPU"}))


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Write WAVE by a compiler, and hand it over too."""

    def write(**options):
        made = []
        monkeypatch.setattr(graphs, "_backend", lambda _, cache: made.append(Compiler(cache, **options)) or made[0])
        serving = Serving(platform="tensorrt", buckets=(1, 4), device="cuda", cache=BuildCache(tmp_path))
        return graph_model(Network(Wave().eval(), WAVE, lambda: [wave_feeds(rows) for rows in (4, 1)]), serving), made[0]

    return write


def test_a_plan_is_written_under_the_name_that_triton_looks_for(compiled):
    """The plan, not the graph that it was compiled from; for the batches of the server."""
    model, compiler = compiled()
    assert {name: path.read_bytes() for name, path in model.files.items()} == {"model.plan": b"plan"}
    assert [spec.profile for spec in compiler.specs] == [Profile(1, 4, 4)]


def test_operators_see_what_a_plan_was_compiled_for(compiled):
    """And how far it is from the reference."""
    config = compiled()[0].config
    assert all(f'key: "{key}"' in config for key in ("plan_version", "plan_device", "error"))
    assert '"some GPU"' in config


def test_what_is_not_certified_is_not_written(compiled):
    with pytest.raises(ParityError, match="'tensorrt' is not certified for 'wave'"):
        compiled(wrong=True)


def test_without_tensorrt_nothing_is_written(tmp_path):
    """The reason is the backend's own."""
    if torch.cuda.is_available() or cuda_driver() is None:
        pytest.skip("a CUDA driver is there")
    with pytest.raises(BackendUnavailableError, match="CUDA driver"):
        export_classifier(
            nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), tmp_path / "r", image=(3, 4, 4), platform="tensorrt", device="cuda",
            cache=tmp_path / "c",
        )  # fmt: skip
    assert not (tmp_path / "r").exists()

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.backends.ort import OrtBackend, open_graph
from engines.backends.prepared import PreparedBackend
from engines.build import Builder
from engines.cache import BuildCache
from engines.certificate import FORWARD_LIMITS, read_certificate
from engines.errors import ArtifactError, BackendUnavailableError, ExportError, ParityError
from engines.parity import certify, relative_error
from engines.pipeline import load_pipeline
from engines.spec import EngineSpec, Profile, TensorSpec


class Small(nn.Module):
    """A network with the parts that exporters get wrong: norm, upsampling, a per-row scalar."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm = nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.out = nn.Conv2d(8, 4, 3, padding=1, stride=2)

    def forward(self, x, t):
        hidden = self.norm(self.conv(x)) * t[:, None, None, None].cos()
        return self.out(nn.functional.interpolate(nn.functional.silu(hidden), scale_factor=2.0, mode="nearest"))


class Wrong(Small):
    """Forgets the timestep."""

    def forward(self, x, t):
        return super().forward(x, 0 * t)


class Gathers(Small):
    def forward(self, x, t):
        return super().forward(x, t).index_put((torch.tensor([0]),), torch.zeros(()))


SPEC = EngineSpec(
    name="small",
    inputs=(TensorSpec("x", "float32", ("B", 4, 8, 8)), TensorSpec("t", "float32", ("B",))),
    outputs=(TensorSpec("y", "float32", ("B", 4, 8, 8)),),
    profile=Profile(1, 8, 64),
    model_hash="a" * 64,
)


def feeds(rows):
    return {"x": torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(rows)), "t": torch.linspace(0, 9, rows)}


def batches():
    return [feeds(rows) for rows in (8, 3, 1)]


@pytest.fixture(scope="module")
def small():
    return Small().eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def ort(graphs):
    return OrtBackend(BuildCache(graphs), threads=1)


@pytest.fixture
def copying(small, ort, tmp_path):
    """The same backend with an empty cache of its own: what it makes is a copy of the graph that is there, for exports take seconds."""
    ort.build(small, SPEC)
    return replace(ort, cache=BuildCache(tmp_path / "copies"), make=Copying(ort.cache.root / SPEC.key()))


@dataclass(frozen=True)
class Copying:
    """A maker of graphs that has one."""

    folder: Path

    def quick(self, _spec):
        """As slow as exporting, for all that a builder knows."""
        return False

    def __call__(self, _module, _spec, folder):
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest*", "certificate*"))


def builder(ort, **options):
    torch_backend = EagerBackend(threads=1)
    return Builder(
        **{"reference": torch_backend, "backends": (torch_backend, ort), "cache": ort.cache, "rows": 4, "where": {}, **options}
    )


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_graph_and_module_agree(small, ort, rows):
    """At one row too, which exporters take for a constant."""
    found, right = (backend.build(small, SPEC).run(feeds(rows))["y"] for backend in (ort, EagerBackend()))
    assert relative_error(found, right) < FORWARD_LIMITS["fp32"]


def test_auto_takes_a_certified_backend_and_says_why(small, ort):
    """The loser is listed with its time; the second build neither compares nor measures again."""
    engine, choice = builder(ort).build(small, SPEC, "auto", batches)
    assert choice.name == engine.backend
    assert "fastest of 2" in choice.reason
    assert len(choice.refused) == 1
    assert "slower" in choice.refused[0]
    assert builder(ort).build(small, SPEC, "auto", lambda: pytest.fail("compared again"))[1] == choice


def test_new_weights_are_certified_anew(small, ort):
    """On two batches, against the module that has them; forgotten ones are found."""
    changed = Small().eval().requires_grad_(requires_grad=False)
    weights = {name: value + 0.1 for name, value in changed.state_dict().items()}
    engine = EagerBackend(threads=1).build(Small().eval().requires_grad_(requires_grad=False), SPEC)
    changed.load_state_dict(weights)
    made = builder(ort).refit(engine, changed, weights, batches)
    assert (made.certificate.passed, made.certificate.batches) == (True, 2)
    with pytest.raises(ParityError, match="new weights"):
        builder(ort).refit(engine, small, {"conv.bias": torch.ones(8)}, batches)


@pytest.mark.parametrize(("ahead", "built"), [(10, False), (10**12, True), (None, True)])
def test_for_little_work_nothing_is_built(small, copying, ahead, built):
    """What is ready is taken, and the refusal says why; for much work, or for who knows how much, graphs are made."""
    _, choice = builder(copying, backends=(copying, EagerBackend(threads=1), PreparedBackend(threads=1))).build(
        small, SPEC, "auto", batches, ahead=ahead
    )
    assert copying.cache.has(SPEC.key()) is built
    assert any("longer than it saves" in reason for reason in choice.refused) is not built


def test_a_graph_that_is_there_is_used_for_little_work_too(small, ort):
    """Certificates and times of before hold."""
    ort.build(small, SPEC)
    _, choice = builder(ort).build(small, SPEC, "auto", batches, ahead=1)
    assert not any("longer than it saves" in reason for reason in choice.refused)


def test_a_backend_with_other_numbers_is_refused(small, ort):
    """Pinned it raises, automatic it is passed over; both say by how much it is off."""
    spec = replace(SPEC, model_hash="b" * 64)
    ort.build(Wrong().eval(), spec)
    with pytest.raises(ParityError, match="differs from the reference"):
        builder(ort).build(small, spec, "ort", batches)
    _, choice = builder(ort).build(small, spec, "auto", batches)
    assert choice.name == "torch"
    assert "differs from the reference" in choice.refused[0]


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({}, None),
        ({"error": 2e-5}, "differs from the reference"),
        ({"batch_error": 2e-5}, "in a batch"),
        ({"finite": False}, "not finite"),
    ],
)
def test_certificates_judge(small, ort, change, failure):
    certificate = replace(certify(ort.build(small, SPEC), EagerBackend().build(small, SPEC), batches()), **change)
    assert certificate.passed is (failure is None)
    assert failure is None or failure in certificate.failure


def test_a_static_engine_is_compared_on_the_batch_it_takes(small):
    """Larger batches are cut, a single row is padded."""
    spec = replace(SPEC, profile=Profile(2, 2, 2))
    assert certify(EagerBackend().build(small, spec), EagerBackend().build(small, SPEC), batches()).passed


def test_a_note_of_another_form_is_no_certificate():
    assert read_certificate({"error": 0}) is None
    assert read_certificate(None) is None


def test_nan_is_infinitely_wrong():
    assert relative_error(torch.tensor([[float("nan")]]), torch.tensor([[1.0]])) == float("inf")


def test_cuda_without_a_device_is_refused_not_replaced(small, ort, graphs):
    """ONNX Runtime itself would quietly use the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has CUDA")
    ort.build(small, SPEC)
    with pytest.raises(BackendUnavailableError, match="CUDAExecutionProvider"):
        open_graph(graphs / SPEC.key() / "model.onnx", SPEC, device="cuda")
    with pytest.raises(BackendUnavailableError, match="onnxruntime-gpu"):
        builder(ort, backends=(replace(ort, device="cuda"),)).build(small, SPEC, "ort", batches)


@pytest.mark.parametrize(("wanted", "message"), [("tensorrt", "none of that name"), ("ort", "bf16"), ("auto", "ort: .*bf16")])
def test_when_nothing_can_run_every_reason_is_listed(small, ort, wanted, message):
    with pytest.raises(BackendUnavailableError, match=message):
        builder(ort).build(small, SPEC.at("bf16"), wanted, batches)


def test_a_truncated_graph_is_built_again(small, copying):
    engine = copying.build(small, SPEC)
    path = copying.cache.root / SPEC.key() / "model.onnx"
    path.write_bytes(path.read_bytes()[:500])
    again = copying.build(small, SPEC)
    torch.testing.assert_close(again.run(feeds(3))["y"], engine.run(feeds(3))["y"], rtol=0, atol=0)


def test_a_graph_the_runtime_refuses_is_built_again_once(small, tmp_path):
    """Its checksum is right, its content is not: written by a broken build."""
    cache = BuildCache(tmp_path)
    cache.obtain(SPEC.key(), lambda folder: (folder / "model.onnx").write_bytes(b"not a graph") and None)
    assert OrtBackend(cache).build(small, SPEC).run(feeds(2))["y"].isfinite().all()


def test_what_cannot_be_exported_is_refused_and_nothing_is_cached(tmp_path):
    """With the backend that can run it."""
    with pytest.raises(ExportError, match="backend torch"):
        OrtBackend(BuildCache(tmp_path)).build(Gathers().eval(), SPEC)
    assert not BuildCache(tmp_path).entries()


def test_an_artifact_of_another_network_is_refused_or_built_again(small, ort, tmp_path):
    """Loading it says so; building, which has the module, makes the right one in its place."""
    ort.build(small, SPEC)
    cache, other = BuildCache(tmp_path), replace(SPEC, outputs=(TensorSpec("z", "float32", SPEC.outputs[0].shape),))
    cache.obtain(other.key(), lambda folder: shutil.copy(ort.cache.root / SPEC.key() / "model.onnx", folder) and None)
    with pytest.raises(ArtifactError, match="not what its spec says"):
        replace(ort, cache=cache).load(tmp_path / other.key(), other)
    assert set(replace(ort, cache=cache).build(small, other).run(feeds(2))) == {"z"}


def test_threads_are_borrowed_not_taken(small):
    """Torch's count is global; others must not notice."""
    before = torch.get_num_threads()
    EagerBackend(threads=before + 1).build(small, SPEC).run(feeds(1))
    assert torch.get_num_threads() == before


def test_a_pipeline_draws_the_same_on_every_backend(pipeline_directory, graphs):
    """Fingerprints agree, images agree, and ONNX Runtime does not see the batch at all."""
    plain, exported, chosen = (
        load_pipeline(pipeline_directory, backend=backend, steps=3, batch=4, threads=1, cache=graphs)
        for backend in ("torch", "ort", "auto")
    )
    assert plain.fingerprint == exported.fingerprint == chosen.fingerprint
    assert (plain.choice.name, exported.choice.name) == ("torch", "ort")
    assert chosen.choice.name in {"torch", "ort"}
    images = exported.generate(["a red circle", "a photo"] * 3, range(6))
    np.testing.assert_allclose(images, plain.generate(["a red circle", "a photo"] * 3, range(6)), atol=2e-5)
    np.testing.assert_array_equal(exported.generate(["a photo"], [3]), images[3:4])
    notes = [json.loads(path.read_text()) for path in graphs.glob("*/certificate-ort-*.json")]
    assert len(notes) >= 2

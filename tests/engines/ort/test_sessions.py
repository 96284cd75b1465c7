"""Graphs that are not what they should be, and sessions that do not run where they should."""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.backends.ort import open_graph
from engines.backends.ort.backend import CUDA_VARIANTS, Variant, fastest, remembered
from engines.backends.ort.sessions import elsewhere, open_session
from engines.cache import BuildCache
from engines.errors import ArtifactError, BackendUnavailableError, ExecutionError, ExportError, FeedError
from engines.spec import EngineSpec, Profile, TensorSpec

SPEC = EngineSpec(
    name="double",
    inputs=(TensorSpec("x", "float32", ("B", 3)),),
    outputs=(TensorSpec("y", "float32", ("B", 3)),),
    profile=Profile(1, 2, 4),
    model_hash="e" * 64,
)
STATIC = replace(SPEC, profile=Profile(2, 2, 2))
CPU = [("CPUExecutionProvider", {})]


def graph(x="x", y="y", kind=TensorProto.FLOAT, row=(3,), batch="B"):
    """The input, doubled."""
    scale = numpy_helper.from_array(np.array(2.0, helper.tensor_dtype_to_np_dtype(kind)), "scale")
    tensors = [helper.make_tensor_value_info(name, kind, [batch, *row]) for name in (x, y)]
    body = helper.make_graph([helper.make_node("Mul", [x, "scale"], [y])], "g", tensors[:1], tensors[1:], [scale])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def path(tmp_path):
    onnx.save(graph(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"x": "z"}, "z float32"),
        ({"y": "z"}, "z float32"),
        ({"row": (4,)}, r"x float32 \(B, 4\)"),
        ({"row": ()}, r"x float32 \(B\)"),
        ({"kind": TensorProto.FLOAT16}, "x float16"),
        ({"kind": TensorProto.DOUBLE}, r"x tensor\(double\)"),
        ({"batch": 7}, r"x float32 \(7, 3\)"),
    ],
)
def test_a_graph_that_is_not_what_its_spec_says_is_refused(tmp_path, change, found):
    """The message has both, and what to do."""
    onnx.save(graph(**change), tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match=f"not what its spec says.*{found}.*delete it from the cache"):
        open_graph(tmp_path / "model.onnx", SPEC)


def test_a_static_engine_takes_a_graph_of_its_size(tmp_path):
    """Or one of any size; a dynamic engine only the latter."""
    onnx.save(graph(batch=2), tmp_path / "model.onnx")
    x = torch.rand(2, 3)
    assert torch.equal(open_graph(tmp_path / "model.onnx", STATIC).run({"x": x}, None, None)["y"], 2 * x)
    with pytest.raises(ArtifactError, match="not what its spec says"):
        open_graph(tmp_path / "model.onnx", SPEC)


@pytest.mark.parametrize("content", [b"not a graph", b""])
def test_an_unreadable_graph_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="delete it from the cache"):
        open_graph(tmp_path / "model.onnx", SPEC)


def test_a_session_says_where_its_nodes_run(path):
    session = open_session(path, SPEC, CPU, 1)
    assert elsewhere(session, "CPUExecutionProvider") == 0
    assert elsewhere(session, "TensorrtExecutionProvider") == 1


def test_a_runtime_that_cannot_say_is_refused():
    """Older releases have no such question."""
    with pytest.raises(BackendUnavailableError, match=r"1\.24"):
        elsewhere(object(), "TensorrtExecutionProvider")


def test_a_session_on_another_provider_is_refused(path, monkeypatch):
    """The provider is compiled in, but its libraries do not load, and the runtime takes the CPU without a word."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr("engines.backends.ort.sessions.cuda_driver", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", partial(_on_cpu, onnxruntime.InferenceSession))
    with pytest.raises(BackendUnavailableError, match="runs on CPUExecutionProvider"):
        open_session(path, SPEC, [("CUDAExecutionProvider", {})], 1)


def _on_cpu(session, path, options, **_):
    return session(path, options, providers=["CPUExecutionProvider"])


def test_bound_tensors_lie_in_the_plain_layout_and_on_the_device(path):
    """A binding is an address; anything else would be read wrongly, or copied once and never again."""
    program = open_graph(path, SPEC)
    with pytest.raises(FeedError, match="make it contiguous"):
        program.bind({"x": torch.rand(3, 2).T}, {"y": torch.rand(2, 3)})
    with pytest.raises(FeedError, match="lies on meta"):
        program.bind({"x": torch.rand(2, 3, device="meta")}, {"y": torch.rand(2, 3)})


def test_a_binding_of_a_graph_runtime_is_warmed_up_and_counted(path):
    """Bound as on a GPU: recorded at once, so that the first replay is like every other."""
    program = open_graph(path, STATIC)
    program.graphs = True
    x, y = torch.rand(2, 3), torch.zeros(2, 3)
    replay = program.bind({"x": x}, {"y": y})
    assert torch.equal(y, 2 * x)
    x.mul_(3)
    replay()
    assert torch.equal(y, 2 * x)
    assert program.captures == 1


def test_what_the_runtime_raises_is_said_to_be_an_engine_that_does_not_run(path):
    """Fed past the checks of Engine."""
    program = open_graph(path, SPEC)
    with pytest.raises(ExecutionError, match="engine 'double'"):
        program.run({"x": torch.rand(2, 4)}, None, None)


def test_a_replay_of_a_closed_program_is_refused(path):
    program = open_graph(path, SPEC)
    replay = program.bind({"x": torch.rand(2, 3)}, {"y": torch.rand(2, 3)})
    program.close()
    with pytest.raises(ExecutionError, match="was closed"):
        replay()


def test_the_fastest_variant_is_taken_and_one_that_cannot_be_built_is_passed_over():
    """All failing, the last failure is told."""
    times = {Variant(20): 3.0, Variant(21): 1.0, Variant(21, nhwc=True): 2.0}

    def seconds(variant):
        if variant not in times:
            raise ExportError("no kernel")
        return times[variant]

    assert fastest(CUDA_VARIANTS, seconds) == Variant(21)
    times.clear()
    with pytest.raises(ExportError, match="no kernel"):
        fastest(CUDA_VARIANTS, seconds)


def test_a_variant_is_remembered_unless_it_is_no_longer_offered(tmp_path):
    cache = BuildCache(tmp_path)
    cache.write_note(SPEC.key(), "one", {"opset": 21, "nhwc": True})
    cache.write_note(SPEC.key(), "two", {"opset": 9, "nhwc": True})
    assert [remembered(cache, SPEC, note) for note in ("one", "two", "none")] == [Variant(21, nhwc=True), None, None]

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from engines.backends.ort.upsampling import fold, transposed_kernel, without_upsampling
from engines.graphs.export import export
from tests.engines.conformance.networks import make_cases

C, OUT, H, W = 3, 5, 4, 6


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_one_transposed_convolution_is_both(c, out, h, w):
    """In float64, edges included, down to one pixel."""
    generator = torch.Generator().manual_seed(h * 8 + w)
    x, weight = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((2, c, h, w), (out, c, 3, 3)))
    right = functional.conv2d(functional.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)
    found = functional.conv_transpose2d(x, torch.from_numpy(transposed_kernel(weight.numpy())), stride=2, padding=1)
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)


def graph(*, factor=2, pads=(1, 1, 1, 1), split="Unsqueeze", merged=None, stride=1, shape="written"):
    """Doubling and convolution as exporters write them, or nearly so."""
    constants = {
        "w": np.random.default_rng(0).standard_normal((OUT, C, 3, 3)).astype(np.float32),
        "b": np.arange(OUT, dtype=np.float32),
        "axes": np.array([3, 5]),
        "parted": np.array([-1, C, H, 1, W, 1]),
        "ones": np.array([1, 1, 1, factor, 1, factor]),
        "merged": np.array([-1, *(merged or (C, factor * H, factor * W))]),
        "sizes": np.array([C, H, factor, W, factor]),
        "batch": np.array([1]),
    }
    nodes = [
        helper.make_node(split, ["x", "axes" if split == "Unsqueeze" else "parted"], ["thin"]),
        helper.make_node("Concat", ["batch", "sizes"], ["computed"], axis=0),
        helper.make_node("Expand", ["thin", "ones" if shape == "written" else "computed"], ["wide"]),
        helper.make_node("Reshape", ["wide", "merged"], ["large"]),
        helper.make_node("Conv", ["large", "w", "b"], ["y"], pads=list(pads), kernel_shape=[3, 3], strides=[stride] * 2),
    ]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", *row])
        for name, row in (("x", (C, H, W)), ("y", (OUT, None, None)))
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answer(model):
    import onnxruntime

    x = np.random.default_rng(1).standard_normal((2, C, H, W)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("split", ["Unsqueeze", "Reshape"])
@pytest.mark.parametrize("shape", ["written", "computed"])
def test_the_pair_is_replaced_and_the_numbers_stay(split, shape):
    """Whichever way the exporter writes the doubling; nothing of it is left."""
    model, before = graph(split=split, shape=shape), answer(graph(split=split, shape=shape))
    assert fold(model) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["ConvTranspose"]
    assert [each.name for each in model.graph.initializer] == ["b", "y.transposed"]
    np.testing.assert_allclose(answer(model), before, rtol=1e-5, atol=1e-5)


def test_the_pair_is_found_in_what_our_exporter_writes(tmp_path):
    """A form of its own would go unnoticed: the graph would be right, and slow."""
    case = make_cases()["forward"]
    export(case.module, case.spec, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert fold(model) == 1
    assert "Expand" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    "other", [{"factor": 3}, {"pads": (0, 0, 0, 0)}, {"stride": 2}, {"merged": (C, 4 * H, W)}], ids=lambda each: next(iter(each))
)
def test_what_only_looks_like_it_is_left_alone(other):
    """Another factor, padding or stride, or a reshape that does not merge what was doubled."""
    model = graph(**other)
    assert fold(model) == 0
    assert model == graph(**other)


def test_a_graph_without_it_is_opened_as_the_file_it_is(tmp_path):
    """So is one that cannot be read: the runtime says what is wrong with it."""
    onnx.save(graph(stride=2), tmp_path / "model.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"damaged")
    for name in ("model.onnx", "damaged.onnx"):
        assert without_upsampling(tmp_path / name) == tmp_path / name

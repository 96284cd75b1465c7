"""Classifiers read from ONNX compute what ONNX Runtime computes, and have torch's gradients."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.autograd import gradcheck

from engines.errors import ExportError
from engines.serving.classifier import read_classifier
from engines.serving.onnx_module import OnnxModule
from tests.fixtures.networks import BIAS, WEIGHT, colour_network

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
SHIPPED = ROOT / "triton_repo" / "shape_clean" / "1" / "model.onnx"


def graph(path, nodes, constants=(), shape=("n", 3, 9, 9), *, kind=TensorProto.FLOAT, opset=18):
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()]
    ports = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "test", [ports[0]], [ports[1]], weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def runtime(path, x, output="y"):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run([output], {session.get_inputs()[0].name: x})[0]


RNG = np.random.default_rng(3)
CONV = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
CASES = {
    "uneven padding": [helper.make_node("Conv", ["x", "w"], ["y"], pads=[0, 1, 2, 1])],
    "same upper": [helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
    "same lower": [helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2])],
    "dilated": [helper.make_node("Conv", ["x", "w"], ["y"], dilations=[2, 2])],
    "maximum, ceiled": [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
    "maximum, padded": [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 0, 2])],
    "mean, padded": [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 0])],
    "mean, counting padding": [
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    ],
    "transposed convolution": [
        helper.make_node("ConvTranspose", ["x", "up"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    ],
    "waves": [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("Cos", ["s"], ["y"])],
    "clipped": [helper.make_node("Clip", ["x", "low", "high"], ["y"])],
    "clipped from above": [helper.make_node("Clip", ["x", "", "high"], ["y"])],
    "transposed": [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])],
    "reflected": [helper.make_node("Pad", ["x", "pads"], ["y"], mode="reflect")],
    "reshaped": [helper.make_node("Reshape", ["x", "shape"], ["y"])],
    "reduced": [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
    "constant folded": [helper.make_node("Exp", ["high"], ["e"]), helper.make_node("Mul", ["x", "e"], ["y"])],
    "a branch that is not needed": [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Det", ["x"], ["z"])],
}
CONSTANTS = {
    "w": CONV,
    "up": CONV.reshape(3, 4, 3, 3),
    "low": np.float32(-0.3),
    "high": np.float32(0.4),
    "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
    "shape": np.array([0, -1]),
    "axes": np.array([2, 3]),
}


SINGLE = np.random.default_rng(4).normal(size=(243, 5)).astype(np.float32)


def test_a_batch_fixed_at_one_is_free_here(tmp_path):
    """Row by row what the runtime makes of one; a graph that mixes what stands for the batch is refused."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    constants = {"shape": np.array([1, 243]), "w": SINGLE}
    path, x = graph(tmp_path / "n.onnx", nodes, constants, (1, 3, 9, 9)), RNG.normal(size=(4, 3, 9, 9)).astype(np.float32)
    wanted = np.concatenate([runtime(path, each[None]) for each in x])
    np.testing.assert_allclose(OnnxModule(path)(torch.from_numpy(x)), wanted, atol=1e-4)
    nodes[0] = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    mixing = graph(tmp_path / "m.onnx", nodes[:1], {"axes": np.array([0, 2, 3])}, (1, 3, 9, 9))
    with pytest.raises(ExportError, match="one image at a time"):
        OnnxModule(mixing)


@pytest.mark.parametrize("name", CASES)
def test_operators_are_those_of_the_runtime(tmp_path, name):
    used = {each for node in CASES[name] for each in node.input}
    constants = {key: value for key, value in CONSTANTS.items() if key in used}
    path, x = graph(tmp_path / "n.onnx", CASES[name], constants), RNG.normal(size=(2, 3, 9, 9)).astype(np.float32)
    np.testing.assert_allclose(OnnxModule(path)(torch.from_numpy(x)), runtime(path, x), atol=1e-5)


def test_a_shipped_classifier_is_read():
    """Scores as in ONNX Runtime, gradient as by finite differences."""
    classifier, x = read_classifier(SHIPPED, (3, 64, 64)), RNG.random((2, 3, 64, 64), dtype=np.float32)
    np.testing.assert_allclose(classifier.module(torch.from_numpy(x)), runtime(SHIPPED, x, "probabilities"), atol=1e-6)
    assert (classifier.classes, classifier.scores) == (2, "probabilities")


def test_gradients_are_those_of_the_scores(tmp_path):
    """Closed form: softmax of a linear map of the mean colour."""
    module = OnnxModule(colour_network(tmp_path / "n.onnx", size=4), "logits")
    x = torch.rand(3, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[:, 1].sum(), x)
    torch.testing.assert_close(gradient, torch.from_numpy(WEIGHT[:, 1] / 16)[None, :, None, None].expand(3, 3, 4, 4))
    torch.testing.assert_close(module(torch.zeros(1, 3, 4, 4))[0], torch.from_numpy(BIAS))


def test_gradients_of_a_convolution_with_pools(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 0, 0, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        helper.make_node("AveragePool", ["p"], ["y"], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    ]
    module = OnnxModule(graph(tmp_path / "n.onnx", nodes, {"w": CONV}, shape=("n", 3, 6, 6))).double()
    assert gradcheck(module, torch.randn(1, 3, 6, 6, dtype=torch.float64, requires_grad=True))


def test_logits_are_preferred(tmp_path):
    """Probabilities saturate, and their gradients vanish."""
    assert read_classifier(colour_network(tmp_path / "n.onnx"), (3, 16, 16)).scores == "logits"


def test_images_are_brought_to_the_graphs_size_layout_and_range(tmp_path):
    """The mean colour survives all of it, so the answer is known."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["y"], axes=[1, 2], keepdims=0),
    ]
    path = graph(tmp_path / "n.onnx", nodes, shape=("n", 8, 8, 3), kind=TensorProto.UINT8, opset=13)
    colours = torch.tensor([[0.2, 0.4, 0.6], [1.0, 0.0, 0.5]])
    found = read_classifier(path, (3, 16, 16)).module(colours[:, :, None, None].expand(2, 3, 16, 16))
    torch.testing.assert_close(found, 255 * colours)


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        ([helper.make_node("NonZero", ["x"], ["y"])], ("n", 3, 4, 4), "NonZero"),
        ([helper.make_node("Relu", ["x"], ["y"])], (1, 3, 4, 4), "free batch"),
        ([helper.make_node("Relu", ["x"], ["y"])], ("n", 1, 4, 4), "colour images"),
        ([helper.make_node("ReduceMean", ["x", "axes"], ["y"])], ("n", 3, 4, 4), "two or more scores"),
    ],
)
def test_what_is_no_classifier_is_refused(tmp_path, nodes, shape, message):
    constants = {"axes": np.array([1, 2, 3])} if len(nodes[0].input) == 2 else {}
    with pytest.raises(ExportError, match=message):
        read_classifier(graph(tmp_path / "n.onnx", nodes, constants, shape), (3, 4, 4))


@pytest.mark.parametrize("name", ["model.pt2", "model.pt", "model.pkl"])
def test_files_that_run_code_are_refused(tmp_path, name):
    with pytest.raises(ExportError, match="run code"):
        read_classifier(tmp_path / name, (3, 4, 4))


def test_a_file_that_is_no_graph_is_refused(tmp_path):
    (tmp_path / "n.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="cannot be read as an ONNX graph"):
        read_classifier(tmp_path / "n.onnx", (3, 4, 4))


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet-imagenet/squeezenet_v1.0.onnx",
        "mobilenet-v1-025-imagenet/mobilenet_v1_0.25_128.onnx",
        "plantvillage-leaves/leaf_healthy_vs_late_blight_confounded.onnx",
    ],
)
def test_real_classifiers_are_read(name):
    """Reading compares with ONNX Runtime."""
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not here")
    assert read_classifier(DATA / name, (3, 96, 96)).classes >= 2


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (helper.make_node("Flatten", ["x"], ["y"], axis=2), "Flatten at another axis"),
        (helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"]), "Pad with axes"),
        (helper.make_node("Pad", ["x", "whole"], ["y"], mode="edge"), "Pad of batch or channels"),
    ],
)
def test_a_form_that_is_not_read_is_one_clear_error(tmp_path, node, said):
    """It says what to do."""
    constants = {
        "pads": np.array([1, 1], np.int64), "axes": np.array([2], np.int64), "whole": np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64),
    }  # fmt: skip
    made = graph(tmp_path / "n.onnx", [node], {name: value for name, value in constants.items() if name in node.input})
    with pytest.raises(ExportError, match=f"{said}.*torch module"):
        OnnxModule(made)(torch.rand(2, 3, 9, 9))

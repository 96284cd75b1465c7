"""Hidden features of ONNX classifiers: which there are, what they are worth, and that the classifier stays the same."""

import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ExportError, ParityError, RepositoryError
from engines.serving.hidden import survey
from engines.serving.hidden_model import export_hidden
from engines.serving.hidden_outputs import check_parity, with_outputs
from tests.end_to_end.site import ASSETS
from tests.fixtures.networks import BIAS, colour_network, pixel_network

PLANTED = ASSETS / "planted" / "shape_clean.onnx"
RNG = np.random.default_rng(4)
CONV, MIX, HEAD = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 3, 3, 3), (4, 6), (4, 2)))


def network(path, nodes, shape=("n", 3, 8, 8), *, opset=17, **constants):
    """From ``x`` to ``y``."""
    given = {"conv": CONV, "mix": MIX, "head": HEAD, **constants}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()]
    ports = [
        helper.make_tensor_value_info(*port) for port in (("x", TensorProto.FLOAT, shape), ("y", TensorProto.FLOAT, [None, 2]))
    ]
    graph = helper.make_graph(nodes, "test", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def small(path, *, opset=17, shape=("n", 3, 8, 8), extra=()):
    """Convolution, activation, pooled vector, two logits."""
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["y"]),
        *extra,
    ]
    return network(path, nodes, shape, opset=opset)


def run(model, images):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))


def test_a_trained_classifier_lists_activations_and_vectors_first():
    found = survey(PLANTED)
    assert [(each.name, each.kind, each.channels) for each in found.tensors[:6]] == [
        ("relu", "activation", 16),
        ("relu_1", "activation", 32),
        ("relu_2", "activation", 48),
        ("relu_3", "activation", 64),
        ("view", "vector", 1024),
        ("linear", "vector", 2),
    ]
    assert {each.operator for each in found.tensors[6:]} == {"Conv"}
    deepest = found.tensors[3]
    assert (deepest.operator, deepest.rank, deepest.shape, deepest.space) == ("Relu", 4, (64, 4, 4), (2, 3))


def test_units_are_mean_and_maximum_over_space_and_the_classifier_is_untouched():
    """The flattened map, an output of its own, says what they must be."""
    before = PLANTED.read_bytes()
    extended = with_outputs(PLANTED, survey(PLANTED).chosen(["relu_3", "view", "linear"], PLANTED))
    images = RNG.random((5, 3, 64, 64), np.float32)
    ours, theirs = run(extended, images), run(before, images)
    assert list(ours) == ["probabilities", "relu_3_mean", "relu_3_max", "view", "linear"]
    np.testing.assert_allclose(ours["probabilities"], theirs["probabilities"], rtol=0, atol=1e-6)
    maps = ours["view"].reshape(5, 64, 4, 4)
    np.testing.assert_allclose(ours["relu_3_mean"], maps.mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours["relu_3_max"], maps.max((2, 3)))
    assert ours["relu_3_max"].std() > 0
    parity = check_parity(PLANTED, extended, [images])
    assert (parity.images, parity.worst <= 1e-6) == (5, True)
    assert PLANTED.read_bytes() == before


def test_maps_are_shown_channels_first_where_they_are_asked_for(tmp_path):
    """Beside mean and maximum; a vector has none, and nothing is shown that was not asked for."""
    path = pixel_network(tmp_path / "pixels.onnx")
    images = RNG.integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    made = export_hidden(path, tmp_path / "models", ["scaled", "mean"], name="m", images=images, maps=True)
    found = run((made.directory / "1" / "model.onnx").read_bytes(), images)
    assert list(found)[-4:] == ["scaled_mean", "scaled_max", "scaled_map", "mean"]
    assert found["scaled_map"].shape == (5, 3, 16, 16)
    np.testing.assert_allclose(found["scaled_map"].mean((2, 3)), found["scaled_mean"], rtol=1e-5)
    assert 'name: "scaled_map", data_type: TYPE_FP32, dims: [3, 16, 16]' in (made.directory / "config.pbtxt").read_text()


@pytest.mark.parametrize("opset", [9, 13, 18, 21])
def test_reductions_are_written_as_the_opset_has_them(tmp_path, opset):
    path = small(tmp_path / "small.onnx", opset=opset)
    extended = with_outputs(path, survey(path).chosen(["r", "pooled"], path))
    found = run(extended, RNG.random((3, 3, 8, 8), np.float32))
    onnx.checker.check_model(onnx.load_from_string(extended), full_check=True)
    assert [value.shape for value in found.values()] == [(3, 2), (3, 4), (3, 4), (3, 4)]
    np.testing.assert_allclose(found["r_mean"], found["pooled_mean"], rtol=1e-5)
    assert (found["r_max"] >= found["r_mean"]).all()
    assert (found["r_max"] > found["r_mean"]).any()


def test_channels_are_found_where_they_went(tmp_path):
    """Images with the channels last, a convolution, tokens, a gate; heads of an attention have no channels."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "conv"], ["c"]),
        helper.make_node("Transpose", ["c"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["last", "mix"], ["wide"]),
        helper.make_node("Sigmoid", ["wide"], ["gate"]),
        helper.make_node("Mul", ["wide", "gate"], ["silu"]),
        helper.make_node("Reshape", ["silu", "tokens"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["rows", "heads"], ["split"]),
        helper.make_node("Reshape", ["split", "tokens"], ["joined"]),
        helper.make_node("ReduceMax", ["columns"], ["top"], axes=[2], keepdims=0),
        helper.make_node("Gemm", ["top", "end"], ["y"]),
    ]
    constants = {"tokens": np.array([0, -1, 6]), "heads": np.array([0, -1, 2, 3]), "end": HEAD[[0, 1, 2, 3, 0, 1]]}
    found = survey(network(tmp_path / "wild.onnx", nodes, ("n", 8, 8, 3), **constants))
    axes = {each.name: (each.channel_axis, each.channels) for each in found.tensors}
    assert axes == {
        "first": (1, 3), "c": (1, 4), "last": (3, 4), "wide": (3, 6), "gate": (3, 6), "silu": (3, 6), "rows": (2, 6),
        "joined": (2, 6), "columns": (1, 6), "top": (1, 6),
    }  # fmt: skip
    assert {each.name: each.kind for each in found.tensors}["silu"] == "activation"
    assert "counts channels cannot be told" in found.refused["split"]


def test_activations_that_are_written_out_are_known_as_such(tmp_path):
    """GELU by its error function; a scale that a map gets afterwards, or another map's gate, makes no activation."""
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"]),
        helper.make_node("Div", ["c", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["a"]),
        helper.make_node("Mul", ["c", "a"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], ["gelu"]),
        helper.make_node("GlobalAveragePool", ["gelu"], ["pooled"]),
        helper.make_node("Sigmoid", ["pooled"], ["gate"]),
        helper.make_node("Mul", ["gelu", "gate"], ["excited"]),
        helper.make_node("Mul", ["excited", "half"], ["scaled"]),
        helper.make_node("GlobalMaxPool", ["scaled"], ["top"]),
        helper.make_node("Flatten", ["top"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["y"]),
    ]
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    kinds = {each.name: each.kind for each in survey(network(tmp_path / "gelu.onnx", nodes, **constants)).tensors}
    assert [name for name, kind in kinds.items() if kind == "activation"] == ["twice", "gelu"]
    assert [name for name, kind in kinds.items() if kind == "vector"] == ["pooled", "gate", "top", "flat"]


def test_what_cannot_be_a_feature_is_refused_with_the_reason(tmp_path):
    extra = [
        helper.make_node("Transpose", ["flat"], ["across"], perm=[1, 0]),
        helper.make_node("ArgMax", ["flat"], ["best"], axis=1),
        helper.make_node("Identity", ["flat"], ["r_mean"]),
    ]
    path = small(tmp_path / "small.onnx", extra=extra)
    found = survey(path)
    cases = {
        "pooledd": "no intermediate tensor 'pooledd'; nearest are 'pooled'",
        "y": "no intermediate tensor 'y'",
        "best": "'best' of .* cannot be a feature: it holds int64, not floats",
        "across": r"the shape \(4, 3\) for 3 images, not one row per image",
    }
    for name, said in cases.items():
        with pytest.raises(ExportError, match=said):
            found.chosen([name], path)
    for names in ([], ["r", "r"]):
        with pytest.raises(ExportError, match="each once"):
            found.chosen(names, path)
    with pytest.raises(ExportError, match="has a tensor 'r_mean' already"):
        with_outputs(path, found.chosen(["r"], path))


def test_files_that_are_no_classifier_are_refused(tmp_path):
    cases = {
        "opset 6; export it with opset 7": small(tmp_path / "old.onnx", opset=6),
        "with a free batch or a batch of 1": small(tmp_path / "eight.onnx", shape=(8, 3, 8, 8)),
        "leaves the size of images free": small(tmp_path / "free.onnx", shape=("n", 3, "h", "w")),
        "does not run": small(tmp_path / "new.onnx", opset=99),
    }
    for said, path in cases.items():
        with pytest.raises(ExportError, match=said):
            survey(path)
    assert survey(tmp_path / "free.onnx", (16, 8)).tensors[0].shape == (4, 14, 6)
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ExportError, match="cannot be read as an ONNX graph"):
        survey(tmp_path / "text.onnx")


def test_another_classifier_is_not_taken_for_the_same(tmp_path):
    path, other = colour_network(tmp_path / "a.onnx"), colour_network(tmp_path / "b.onnx", bias=BIAS + np.float32([1e-4, 0, 0, 0]))
    images = [RNG.random((2, 3, 16, 16), np.float32)]
    assert check_parity(path, with_outputs(path, survey(path).chosen(["mean"], path)), images).worst <= 1e-6
    with pytest.raises(ParityError, match="is another classifier: 'probabilities' differs by"):
        check_parity(path, with_outputs(other, survey(other).chosen(["mean"], other)), images)


def test_the_model_is_written_whole_beside_others(tmp_path):
    """Replaced when written again, never over a model of somebody else's."""
    path = pixel_network(tmp_path / "pixels.onnx")
    images = RNG.integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    for names in (["mean"], ["logits", "mean", "scaled"]):
        made = export_hidden(path, tmp_path / "models", names, name="pixels_hidden", images=images, labels=["a", "b", "c", "d"])
    assert made.directory == tmp_path / "models" / "pixels_hidden"
    assert made.parity.images == 23
    config = (made.directory / "config.pbtxt").read_text()
    assert re.findall(r'name: "([a-z_]+)", data_type: (\w+), dims: (\[.*?\])', config) == [
        ("pixels", "TYPE_UINT8", "[16, 16, 3]"),
        ("probabilities", "TYPE_FP32", "[4]"),
        ("logits", "TYPE_FP32", "[4]"),
        ("mean", "TYPE_FP32", "[3]"),
        ("scaled_mean", "TYPE_FP32", "[3]"),
        ("scaled_max", "TYPE_FP32", "[3]"),
    ]
    (told,) = re.findall(r'key: "hidden", value: { string_value: (".*") }', config)
    assert json.loads(json.loads(told))[3] == {"output": "scaled_max", "tensor": "scaled", "reduced_by": "ReduceMax", "units": 3}
    (tmp_path / "models" / "theirs").mkdir()
    with pytest.raises(RepositoryError, match="was not written by audit-plugin"):
        export_hidden(path, tmp_path / "models", ["mean"], name="theirs")
    with pytest.raises(ExportError, match="no intermediate tensor"):
        export_hidden(path, tmp_path / "models", ["nothing"], name="new")
    assert sorted(each.name for each in (tmp_path / "models").iterdir()) == ["pixels_hidden", "theirs"]


def test_a_batch_that_is_fixed_at_one_stays_so(tmp_path):
    path = small(tmp_path / "single.onnx", shape=(1, 3, 8, 8))
    made = export_hidden(
        path, tmp_path / "models", ["r"], name="m", images=RNG.random((3, 3, 8, 8), np.float32), platform="onnxruntime"
    )
    config = (made.directory / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert '"r_max", data_type: TYPE_FP32, dims: [1, 4]' in config
    assert (made.parity.images, [each.name for each in (made.directory / "1").iterdir()]) == (4, ["model.onnx"])

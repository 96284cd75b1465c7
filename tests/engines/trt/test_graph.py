import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.backends.trt.graph import GraphWeights


@pytest.fixture
def path(tmp_path):
    """A graph with an initialiser beside the file, one in bfloat16, and a constant."""
    big = numpy_helper.from_array(np.arange(600, dtype=np.float32), "big")
    half = helper.make_tensor("half", TensorProto.BFLOAT16, [2], np.array([0x3FC0, 0xC000], np.uint16).tobytes(), raw=True)
    constant = helper.make_node("Constant", [], ["scale_out"], "scale", value=numpy_helper.from_array(np.float32([3.0])))
    graph = helper.make_graph([constant], "g", [], [], [big, half])
    onnx.save_model(
        helper.make_model(graph),
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=1024,
    )
    return tmp_path / "model.onnx"


def test_weights_are_read_wherever_they_lie(path):
    """In the file, beside it, in a type that numpy lacks, or in a node."""
    read = GraphWeights(path)
    assert path.with_name("model.onnx.data").exists()
    assert torch.equal(read("big"), torch.arange(600.0))
    assert torch.equal(read("half"), torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert read("scale").item() == read("scale_out").item() == 3.0


def test_what_is_not_there_is_a_key_error(path):
    with pytest.raises(KeyError):
        GraphWeights(path)("other")


def test_without_its_graph_nothing_is_read(tmp_path):
    """Only when it is needed."""
    read = GraphWeights(tmp_path / "model.onnx")
    with pytest.raises(OSError, match="No such file"):
        read("big")

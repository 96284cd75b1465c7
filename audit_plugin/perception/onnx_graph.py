"""Detectors written as ONNX graphs node by node: equal weights give equal bytes, and no exporter is involved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception.detectors import INPUT, OUTPUT_PREFIX

_OPSET, _IR = 13, 8
_VECTOR = "audit_features"


@dataclass(frozen=True, kw_only=True)
class Head:
    """A linear softmax head on the feature vector: weight ``(levels, features)``, bias ``(levels)``."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A 3x3 convolution with padding 1 and its ReLU: weight ``(out, in, 3, 3)``, bias ``(out)``."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int


def compact_model(layers: Sequence[Convolution], heads: Mapping[str, Head], size: int) -> bytes:
    """Convolutions, the mean and the maximum over the picture, one head per concept."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, tensor = [], [], INPUT
    for i, layer in enumerate(layers):
        weights += [numpy_helper.from_array(layer.weight, f"w{i}"), numpy_helper.from_array(layer.bias, f"b{i}")]
        strides = [layer.stride, layer.stride]
        nodes += [
            helper.make_node(
                "Conv", [tensor, f"w{i}", f"b{i}"], [f"c{i}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=strides
            ),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"]),
        ]
        tensor = f"r{i}"
    nodes += [
        helper.make_node("GlobalAveragePool", [tensor], ["mean"]),
        helper.make_node("GlobalMaxPool", [tensor], ["maximum"]),
        helper.make_node("Concat", ["mean", "maximum"], ["pooled"], axis=1),
        helper.make_node("Flatten", ["pooled"], [_VECTOR]),
    ]
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, size, size])
    graph = helper.make_graph(nodes, "concept_detector", [image], [], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="audit_plugin")
    return _finish(model, heads)


def pooled_features(path: str | Path) -> bytes:
    """A feature network with every output averaged over the picture and joined to one vector ``(n, features)``."""
    from onnx import TensorProto, helper

    model = _load(path)
    outputs = [output.name for output in model.graph.output]
    if len(model.graph.input) != 1:
        raise DetectorError(f"feature network {str(path)!r} has {len(model.graph.input)} inputs; it must take one image batch")
    for i, output in enumerate(model.graph.output):
        pooled = len(output.type.tensor_type.shape.dim) == 4
        operator = "GlobalAveragePool" if pooled else "Identity"
        model.graph.node.append(helper.make_node(operator, [output.name], [f"audit_pool{i}"]))
        model.graph.node.append(helper.make_node("Flatten", [f"audit_pool{i}"], [f"audit_flat{i}"]))
    flat = [f"audit_flat{i}" for i in range(len(outputs))]
    model.graph.node.append(helper.make_node("Concat", flat, [_VECTOR], axis=1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(_VECTOR, TensorProto.FLOAT, ["n", None]))
    return bytes(model.SerializeToString(deterministic=True))


def with_heads(pooled: bytes, heads: Mapping[str, Head]) -> bytes:
    """A network from :func:`pooled_features` with one head per concept, its input renamed to ``input``."""
    import onnx

    model = onnx.load_from_string(pooled)
    old = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = [INPUT if name == old else name for name in node.input]
    model.graph.input[0].name = INPUT
    del model.graph.output[:]
    return _finish(model, heads)


def _finish(model: Any, heads: Mapping[str, Head]) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    for i, (name, head) in enumerate(heads.items()):
        model.graph.initializer.append(numpy_helper.from_array(head.weight, f"audit_head{i}_w"))
        model.graph.initializer.append(numpy_helper.from_array(head.bias, f"audit_head{i}_b"))
        gemm = helper.make_node("Gemm", [_VECTOR, f"audit_head{i}_w", f"audit_head{i}_b"], [f"audit_logits{i}"], transB=1)
        model.graph.node.append(gemm)
        model.graph.node.append(helper.make_node("Softmax", [f"audit_logits{i}"], [OUTPUT_PREFIX + name], axis=1))
        model.graph.output.append(helper.make_tensor_value_info(OUTPUT_PREFIX + name, TensorProto.FLOAT, ["n", len(head.bias)]))
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _load(path: str | Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:  # onnx's and protobuf's errors share no base class
        raise DetectorError(f"feature network {str(path)!r} cannot be read: {error}") from error

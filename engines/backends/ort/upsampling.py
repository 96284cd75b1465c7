"""Nearest doubling followed by a 3x3 convolution, as one transposed 4x4 convolution with stride 2: 16 products where there were 36.

With u[j] = x[j // 2] and zeros beyond the edge, y[i] = sum_k w[k] u[i + k - 1] is, in one dimension,

    y[2m]     = w0 x[m - 1] + (w1 + w2) x[m]
    y[2m + 1] = (w0 + w1) x[m] + w2 x[m + 1],

which is the transposed convolution of x with (w2, w1 + w2, w0 + w1, w0), stride 2, padding 1, the padding of y included.  In two
dimensions the sums are taken along both.  Exact but for rounding.  ONNX Runtime does neither this nor a Winograd transform by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float64)
"""Row a: which of w0, w1, w2 add up to tap a of the transposed kernel."""

ONE_FILE_BYTES = 2**31 - 2**20
"""What a graph in memory may have."""


def without_upsampling(path: Path) -> Path | bytes:
    """The graph with every such pair replaced, or the path itself where there is none.

    An unreadable graph, or one whose weights lie beside it, is left to the runtime as it is.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
        if path.stat().st_size > ONE_FILE_BYTES or any(each.external_data for each in model.graph.initializer):
            return path
    except (DecodeError, OSError):
        return path
    if not any(node.op_type == "Expand" for node in model.graph.node):
        return path
    replaced = fold(model)
    return model.SerializeToString() if replaced else path


def fold(model: Any) -> int:
    """Replace the pairs of a model in place; says how many there were."""
    graph = _Graph.of(model)
    pairs = [pair for node in model.graph.node if node.op_type == "Conv" and (pair := graph.pair(node)) is not None]
    for pair in pairs:
        pair.replace(model.graph)
    if pairs:
        _drop_unused(model.graph)
    return len(pairs)


def transposed_kernel(weight: Float[np.ndarray, "o c 3 3"]) -> Float[np.ndarray, "c o 4 4"]:
    """The kernel of the one convolution from that of the other, summed in float64."""
    kernel: np.ndarray = np.einsum("ai,bj,ocij->coab", TAPS, TAPS, weight.astype(np.float64))
    return kernel.astype(weight.dtype)


@dataclass(frozen=True)
class _Pair:
    source: str
    """What is doubled."""
    convolution: Any
    weight: Float[np.ndarray, "o c 3 3"]

    def replace(self, graph: Any) -> None:
        from onnx import helper, numpy_helper

        name = f"{self.convolution.output[0]}.transposed"
        graph.initializer.append(numpy_helper.from_array(transposed_kernel(self.weight), name))
        node = helper.make_node(
            "ConvTranspose",
            [self.source, name, *self.convolution.input[2:]],
            list(self.convolution.output),
            kernel_shape=[4, 4],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
        )
        self.convolution.CopyFrom(node)


@dataclass(frozen=True, eq=False)
class _Graph:
    """Who makes each value, and what is known of it."""

    producers: Mapping[str, Any]
    constants: Mapping[str, np.ndarray]
    sizes: Mapping[str, tuple[int, ...]]
    """Sizes of values of known rank, 0 for a size that is not known."""

    @classmethod
    def of(cls, model: Any) -> "_Graph":
        import onnx

        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        return cls(
            producers={name: node for node in model.graph.node for name in node.output},
            constants=_constants(model),
            sizes={
                each.name: tuple(size.dim_value for size in each.type.tensor_type.shape.dim)
                for each in (*inferred.value_info, *inferred.input)
            },
        )

    def pair(self, convolution: Any) -> _Pair | None:
        """The doubling in front of a convolution and its source, when both are as in the formula."""
        weight = self.constants.get(convolution.input[1])
        if weight is None or weight.shape[2:] != (3, 3) or not _plain(convolution):
            return None
        merge = self.producers.get(convolution.input[0])
        expand = self.producers.get(merge.input[0]) if merge is not None and merge.op_type == "Reshape" else None
        split = self.producers.get(expand.input[0]) if expand is not None and expand.op_type == "Expand" else None
        if merge is None or expand is None or split is None or split.op_type not in {"Unsqueeze", "Reshape"}:
            return None
        source = split.input[0]
        c, h, w = weight.shape[1], *self._image(source)
        parted = self.sizes.get(expand.input[0], ())[1:] == (c, h, 1, w, 1)
        doubled = self._shape(expand.input[1])[-3::2] == (2, 2) and self._shape(merge.input[1])[-3:] == (c, 2 * h, 2 * w)
        return _Pair(source, convolution, weight) if parted and doubled and self.sizes[source][1] == c else None

    def _image(self, name: str) -> tuple[int, int]:
        """Height and width, negative where they are not known, which matches nothing."""
        size = self.sizes.get(name, ())
        return (size[2], size[3]) if len(size) == 4 and all(size[1:]) else (-1, -1)

    def _shape(self, name: str) -> tuple[int, ...]:
        """A shape that is written in the graph, 0 where a size is computed."""
        if name in self.constants:
            return tuple(int(size) for size in self.constants[name])
        node = self.producers.get(name)
        if node is None or node.op_type != "Concat":
            return ()
        return tuple(size for each in node.input for size in (self._shape(each) or (0,)))


def _constants(model: Any) -> dict[str, np.ndarray]:
    """Weights, and what the graph writes down in nodes."""
    from onnx import numpy_helper

    written = [
        (node.output[0], each.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for each in node.attribute
        if each.name == "value"
    ]
    return {
        name: numpy_helper.to_array(each) for name, each in [*((each.name, each) for each in model.graph.initializer), *written]
    }


def _plain(convolution: Any) -> bool:
    """Stride and dilation 1, one group, padding 1 on every side."""
    from onnx import helper

    given = {each.name: helper.get_attribute_value(each) for each in convolution.attribute}
    return (
        given.get("group", 1) == 1
        and set(given.get("strides", [1])) == {1}
        and set(given.get("dilations", [1])) == {1}
        and list(given.get("pads", [])) == [1, 1, 1, 1]
        and given.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _drop_unused(graph: Any) -> None:
    """Nodes and weights that nothing reads any more."""
    while True:
        read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
        idle = [node for node in graph.node if not read.intersection(node.output)]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for each in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(each)

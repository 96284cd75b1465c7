"""A classifier's graph with hidden features as further outputs, and whether it still is the same classifier."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ExportError, ParityError
from engines.serving.hidden import HiddenTensor
from engines.serving.hidden_reading import answers, image_input, opset_of, read_graph, serialised, shape_of

AXES_AS_INPUT = 18
"""Opset from which on reductions take their axes as an input instead of an attribute."""
MAP = "Transpose"
"""Shows a tensor as it is, channels first."""
CLOSE = 1e-6
"""Largest difference of an output, relative to its largest value or to 1.  A tensor that is shown cannot be fused away, and may make the
runtime round otherwise."""


@dataclass(frozen=True, kw_only=True)
class HiddenParity:
    """The extended graph against the classifier, on the same images."""

    images: int
    worst: float
    """Largest difference of an output, relative to its largest value or to 1; 0 where all are the same bit by bit."""

    def __str__(self) -> str:
        return f"outputs {'bitwise the same' if self.worst == 0 else f'within {self.worst:.1e}'} on {self.images} images"


def with_outputs(path: Path, chosen: Sequence[HiddenTensor]) -> bytes:
    """The graph of ``path`` with these tensors, reduced over space, after its own outputs.  The file is only read.

    Raises ExportError where a name is taken, or the result is more than one file can hold.
    """
    from onnx import helper

    model = read_graph(path)
    graph, taken = model.graph, _names(model.graph)
    batch = shape_of(image_input(graph, path))[0] or "hidden_batch"
    typed = {each.name: each for each in graph.value_info}
    for each in chosen:
        for name, operator in each.outputs.items():
            if operator:
                if clash := sorted({name, _axes_name(name)} & taken):
                    raise ExportError(
                        f"{path} has a tensor {clash[0]!r} already, which is the name of a new output; rename it, or choose another one"
                    )
                taken |= {name, _axes_name(name)}
                _show(graph, operator, each, name, opset_of(model))
            if name in typed:  # said once, as an output
                graph.value_info.remove(typed[name])
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(each.dtype))
            sides = [f"{name}_high", f"{name}_wide"] if operator == MAP else []
            graph.output.append(helper.make_tensor_value_info(name, kind, [batch, each.channels, *sides]))
    return serialised(model, path)


def check_parity(path: Path, extended: bytes, batches: Iterable[NDArray[np.generic]]) -> HiddenParity:
    """Compare all outputs of the classifier with those of the extended graph, batch by batch of images as the graph takes them.

    Raises ParityError beyond :data:`CLOSE`, or where outputs are called otherwise.
    """
    plain = serialised(read_graph(path), path)
    images, worst = 0, 0.0
    for batch in batches:
        theirs, ours = answers(plain, batch, path), answers(extended, batch, path)
        if list(ours)[: len(theirs)] != list(theirs):
            raise ParityError(f"{path} answers {list(theirs)}, the extended graph {list(ours)}; this must not be, report it")
        images += len(batch)
        for name, value in theirs.items():
            found = _difference(value, ours[name])
            if not found <= CLOSE:
                raise ParityError(
                    f"{path} with these outputs is another classifier: {name!r} differs by {found:.1e} (allowed: {CLOSE:.0e}); choose other "
                    "tensors, such as the last vector"
                )
            worst = max(worst, found)
    return HiddenParity(images=images, worst=worst)


def _names(graph: Any) -> set[str]:
    """Every name that a tensor has."""
    named = {each.name for part in (graph.input, graph.initializer, graph.output) for each in part}
    return named | {name for node in graph.node for name in node.output}


def _axes_name(output: str) -> str:
    return f"{output}_axes"


def _show(graph: Any, operator: str, tensor: HiddenTensor, output: str, opset: int) -> None:
    from onnx import helper, numpy_helper

    if operator == MAP:
        graph.node.append(
            helper.make_node(operator, [tensor.name], [output], name=output, perm=[0, tensor.channel_axis, *tensor.space])
        )
        return
    if opset < AXES_AS_INPUT:
        graph.node.append(helper.make_node(operator, [tensor.name], [output], name=output, axes=list(tensor.space), keepdims=0))
        return
    graph.initializer.append(numpy_helper.from_array(np.asarray(tensor.space, np.int64), _axes_name(output)))
    graph.node.append(helper.make_node(operator, [tensor.name, _axes_name(output)], [output], name=output, keepdims=0))


def _difference(theirs: Any, ours: Any) -> float:
    """Of one output; infinite for classes, names and shapes that are not the same."""
    if not isinstance(theirs, np.ndarray) or theirs.dtype.kind != "f" or theirs.shape != ours.shape:
        return 0.0 if np.array_equal(theirs, ours) else float("inf")
    if np.array_equal(theirs, ours, equal_nan=True):
        return 0.0
    gap = np.abs(theirs.astype(np.float64) - ours.astype(np.float64)).max()
    return float(gap / max(1.0, float(np.abs(theirs).max())))

"""An exported model without what is known beforehand: constants folded, repetitions merged, the batch free.

Folding stops at weights.  What is computed from them stays in the graph, where every runtime folds it itself; only their layout is
settled here, and how is written down, so that each initialiser is one parameter in one layout and can be replaced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engines.spec import BATCH, EngineSpec

Step = tuple[str, tuple[int, ...]]
"""("permute", axes) or ("reshape", sizes)."""

Layout = tuple[str, tuple[Step, ...]]
"""A parameter and what was done to it, in order."""

ROUNDS = 4
"""Of folding at most; two usually suffice."""

LAYOUT_OPERATORS = frozenset({"Transpose", "Reshape", "Unsqueeze", "Squeeze"})


def simplify(model: Any, parameters: Sequence[str]) -> dict[str, Layout]:
    """Simplify an ``onnx_ir.Model`` in place.  Initialisers that remain are parameters; their layouts are returned, all others are nodes."""
    import onnx_ir as ir
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    folding = _Folding(model, parameters)
    clean = ir.passes.Sequential(
        common.RemoveUnusedNodesPass(), common.IdentityEliminationPass(), common.CommonSubexpressionEliminationPass()
    )
    common.InlinePass()(model)
    clean(model)
    for _ in range(ROUNDS):
        if not fold_constants(model, onnx_shape_inference=True, should_fold=folding.should_fold):
            break
        clean(model)
    _constants_to_nodes(model, folding.layouts)
    clean(model)
    return {name: layout for name, layout in folding.layouts.items() if name in model.graph.initializers}


class _Folding:
    """Decides what is folded, and remembers what became of parameters."""

    def __init__(self, model: Any, parameters: Sequence[str]) -> None:
        initialisers = model.graph.initializers
        self.layouts: dict[str, Layout] = {name: (name, ()) for name in parameters if name in initialisers}

    def should_fold(self, node: Any) -> bool | None:
        """True, False, or None for the usual rules."""
        known = [value for value in node.inputs if value is not None and value.name in self.layouts]
        if not known:
            return None
        weight = node.inputs[0]
        shape = node.outputs[0].shape
        if (
            node.op_type not in LAYOUT_OPERATORS
            or known != [weight]
            or len(weight.uses()) != 1
            or shape is None
            or not shape.is_static()
        ):
            return False
        parameter, steps = self.layouts[weight.name]
        self.layouts[node.outputs[0].name] = (parameter, (*steps, _step(node)))
        return True


def _step(node: Any) -> Step:
    if node.op_type == "Transpose":
        axes = node.attributes.get("perm")
        return ("permute", tuple(axes.as_ints()) if axes is not None else tuple(reversed(range(len(node.outputs[0].shape)))))
    return ("reshape", tuple(int(size) for size in node.outputs[0].shape))


def _constants_to_nodes(model: Any, layouts: Mapping[str, Layout]) -> None:
    """Initialisers that are no parameters become Constant nodes, so that whoever replaces weights sees only weights."""
    import onnx_ir as ir

    graph = model.graph
    for name, value in [(name, value) for name, value in graph.initializers.items() if name not in layouts]:
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", value.const_value)])
        constant = node.outputs[0]
        constant.type, constant.shape, constant.const_value = value.type, value.shape, value.const_value
        value.replace_all_uses_with(constant, replace_graph_outputs=True)
        graph.initializers.pop(name)
        constant.name = name
        if len(graph) > 0:
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)


def free_batch(model: Any, rows: int) -> bool:
    """Make the batch of a model that was exported at ``rows`` rows any, if that can be done for sure; else the model is spoilt.

    A Reshape finds one of its sizes by itself, so the one that is a multiple of ``rows`` may be left out.  Any other constant that has
    such a size may have been made for this batch.
    """
    import numpy as np
    import onnx_ir as ir
    from onnx_ir.passes import common

    for node in list(model.graph):
        for value in node.outputs:
            value.shape = None  # inferred for one batch size
        if node.op_type == "Constant" and any(size % rows == 0 for size in node.outputs[0].const_value.shape):
            return False
        if node.op_type in {"Reshape", "Expand"} and node.inputs[1].const_value is not None:
            sizes = node.inputs[1].const_value.numpy().tolist()
            places = [place for place, size in enumerate(sizes) if size > 0 and size % rows == 0]
            if places and (node.op_type == "Expand" or len(places) > 1 or -1 in sizes):
                return False
            if places:
                sizes[places[0]] = -1
                _set_constant(node, 1, ir.tensor(np.array(sizes, np.int64)))
    common.RemoveUnusedNodesPass()(model)
    return True


def _set_constant(node: Any, place: int, tensor: Any) -> None:
    import onnx_ir as ir

    constant = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)])
    constant.outputs[0].const_value = tensor
    node.graph.insert_before(node, constant)
    node.replace_input_with(place, constant.outputs[0])


def finish(model: Any, spec: EngineSpec) -> None:
    """Inputs and outputs as the spec names and shapes them, each a value of its own; nothing about where the model was made."""
    import onnx_ir as ir
    from onnx_ir.passes import common

    common.OutputFixPass()(model)
    for specs, values in ((spec.inputs, model.graph.inputs), (spec.outputs, model.graph.outputs)):
        for each, value in zip(specs, values, strict=True):
            value.name = each.name
            value.shape = ir.Shape([spec.profile.max_b if size == BATCH and spec.profile.static else size for size in each.shape])
    ir.passes.Sequential(common.NameFixPass(), common.ClearMetadataAndDocStringPass())(model)

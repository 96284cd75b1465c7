"""What tracing leaves behind and no runtime needs: copies, sizes that are computed although known, products split into pieces."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
VIEWS = {aten.view.default, aten._unsafe_view.default}
RESHAPES = {*VIEWS, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int}
SAME = {aten.expand.default, aten.slice.Tensor, aten._to_copy.default, aten.to.dtype}
FLAT = {*VIEWS, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims}
ONES = {aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar}
PRODUCTS = {aten.bmm.default, aten.mm.default, aten.addmm.default}


def tidy(module: fx.GraphModule) -> fx.GraphModule:
    """Simplify a traced graph in place; what it computes stays the same."""
    for rule in (_drop_copies, _free_sizes, _cancel_permutes, _raise_products, _merge_views):
        for node in module.graph.nodes:
            if node.op == "call_function":
                rule(node)
        module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _drop_copies(node: fx.Node) -> None:
    """Aliases, and slices, expansions, conversions and factors that change nothing."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or "val" not in source.meta:
        return
    unchanged = node.target in SAME or (node.target in ONES and node.args[1] == 1) or node.target == aten.dropout.default
    if node.target == aten.alias.default or (unchanged and _like(node) == _like(source)):
        node.replace_all_uses_with(source)


def _free_sizes(node: fx.Node) -> None:
    """The one size that depends on the batch is written -1, so that it need not be computed."""
    if node.target in RESHAPES:
        sizes = _sizes(node)
        free = [-1 if isinstance(size, torch.SymInt) else size for size in sizes]
        if free.count(-1) <= 1:
            source = node.args[0]
            if node.target not in VIEWS:
                with node.graph.inserting_before(node):
                    copy = node.graph.call_function(aten.clone.default, (source,), {"memory_format": torch.contiguous_format})
                    copy.meta["val"] = source.meta["val"]
                source = copy
            node.target, node.args, node.kwargs = aten.view.default, (source, free), {}
    elif node.target == aten.expand.default:
        source, sizes = node.args
        before = [None] * (len(sizes) - len(_shape(source))) + _shape(source)
        node.args = (
            source,
            [
                -1 if isinstance(size, fx.Node) and old == new else size
                for size, old, new in zip(sizes, before, _shape(node), strict=True)
            ],
        )


def _cancel_permutes(node: fx.Node) -> None:
    """Two permutations that undo each other, as weights pass through on their way to a gradient."""
    if node.target != aten.permute.default:
        return
    first, outer = node.args
    if isinstance(first, fx.Node) and first.target == aten.permute.default:
        source, inner = first.args
        if [inner[axis] for axis in outer] == list(range(len(inner))):
            node.replace_all_uses_with(source)


def _raise_products(node: fx.Node) -> None:
    """Products of matrices that were flattened for the call and restored after it become one product."""
    inner = node.args[0] if node.args else None
    if node.target not in VIEWS or not isinstance(inner, fx.Node) or inner.target not in PRODUCTS or len(inner.users) != 1:
        return
    *bias, left, right = inner.args
    for a in _flattened_from(left):
        for b in _flattened_from(right):
            if _product_shape(a, b) == _shape(node):
                _replace(node, a, b, bias)
                return


def _replace(node: fx.Node, a: fx.Node, b: fx.Node, bias: Sequence[fx.Node]) -> None:
    with node.graph.inserting_before(node):
        result = node.graph.call_function(aten.matmul.default, (a, b))
        result.meta["val"] = node.meta["val"]
        for each in bias:
            result = node.graph.call_function(aten.add.Tensor, (result, each))
            result.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(result)


def _merge_views(node: fx.Node) -> None:
    """A view of a view is a view of what is below."""
    source = node.args[0] if node.args else None
    if node.target in FLAT and isinstance(source, fx.Node) and source.target in FLAT:
        sizes = [-1 if isinstance(size, torch.SymInt) else size for size in _sizes(node)]
        if _shape(node) == _shape(source.args[0]):
            node.replace_all_uses_with(source.args[0])
        elif sizes.count(-1) <= 1:
            node.target, node.args, node.kwargs = aten.view.default, (source.args[0], sizes), {}


def _flattened_from(node: fx.Node) -> Iterator[fx.Node]:
    """Tensors the node was flattened or expanded from, farthest first; all hold the same matrices in the same order."""
    chain = [node]
    while chain[-1].target in {*VIEWS, aten.expand.default, aten.clone.default}:
        chain.append(chain[-1].args[0])  # type: ignore[arg-type]
    return reversed([each for each in chain if len(_shape(each)) > 1 and _shape(each)[-1] == _shape(node)[-1]])


def _product_shape(a: fx.Node, b: fx.Node) -> list[Any] | None:
    *lead_a, m, _ = _shape(a)
    *lead_b, _, n = _shape(b)
    pairs = list(zip([1] * (len(lead_b) - len(lead_a)) + lead_a, [1] * (len(lead_a) - len(lead_b)) + lead_b, strict=True))
    if any(x != y and 1 not in {x, y} for x, y in pairs):
        return None
    return [*(y if x == 1 else x for x, y in pairs), m, n]


def _sizes(node: fx.Node) -> list[Any]:
    return list(node.meta["val"].shape)


def _shape(node: fx.Node) -> list[Any]:
    return [size if isinstance(size, int) else size.node.expr for size in _sizes(node)]


def _like(node: fx.Node) -> tuple[Any, ...]:
    return (_shape(node), node.meta["val"].dtype)

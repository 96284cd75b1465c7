# ruff: noqa: SLF001  # names are those of ATen's operators
"""What tracing leaves behind and no runtime needs: copies, sizes that are computed although known, products split into pieces."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

aten: Any = torch.ops.aten
VIEWS = {aten.view.default, aten._unsafe_view.default}
RESHAPES = {*VIEWS, aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int}
SAME = {aten.expand.default, aten.slice.Tensor, aten._to_copy.default, aten.to.dtype, aten.dropout.default}
ONES = {aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar}
FLAT = {*VIEWS, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims}
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
    source = _source(node)
    if source is None:
        return
    unchanged = node.target in SAME or (node.target in ONES and node.args[1] == 1)
    if node.target == aten.alias.default or (unchanged and _like(node) == _like(source)):
        node.replace_all_uses_with(source)


def _free_sizes(node: fx.Node) -> None:
    """The one size that depends on the batch is written -1, so that it need not be computed."""
    source = _source(node)
    if source is None:
        return
    if node.target in RESHAPES and _free(node).count(-1) <= 1:
        if node.target not in VIEWS:  # those may copy, and a view of what is not contiguous would be refused
            source = _inserted(node, aten.clone.default, source, like=source, memory_format=torch.contiguous_format)
        _become_view(node, source)
    elif node.target == aten.expand.default:
        sizes: Any = node.args[1]
        before = [None] * (len(sizes) - len(_shape(source))) + _shape(source)
        kept = [old == new for old, new in zip(before, _shape(node), strict=True)]
        node.args = (
            source,
            [-1 if keep and isinstance(size, fx.Node) else size for size, keep in zip(sizes, kept, strict=True)],
        )


def _cancel_permutes(node: fx.Node) -> None:
    """Two permutations that undo each other, as weights pass through on their way to a gradient."""
    first = _source(node)
    if first is not None and node.target == first.target == aten.permute.default:
        inner: Any = first.args[1]
        outer: Any = node.args[1]
        if [inner[axis] for axis in outer] == list(range(len(inner))):
            node.replace_all_uses_with(_source(first) or first)


def _raise_products(node: fx.Node) -> None:
    """Products of matrices that were flattened for the call and restored after it become one product."""
    inner = _source(node)
    if inner is None or node.target not in VIEWS or inner.target not in PRODUCTS or len(inner.users) != 1:
        return
    *bias, left, right = (each for each in inner.args if isinstance(each, fx.Node))
    pairs = ((a, b) for a in _flattened_from(left) for b in _flattened_from(right))
    pair = next((pair for pair in pairs if _product_shape(*pair) == _shape(node)), None)
    if pair is not None:
        result = _inserted(node, aten.matmul.default, *pair, like=node)
        for each in bias:
            result = _inserted(node, aten.add.Tensor, result, each, like=node)
        node.replace_all_uses_with(result)


def _merge_views(node: fx.Node) -> None:
    """A view of a view is a view of what is below."""
    source = _source(node)
    below = _source(source) if source is not None and source.target in FLAT else None
    if node.target not in FLAT or below is None:
        return
    if _shape(node) == _shape(below):
        node.replace_all_uses_with(below)
    elif _free(node).count(-1) <= 1:
        _become_view(node, below)


def _flattened_from(node: fx.Node) -> Iterator[fx.Node]:
    """Tensors the node was flattened or expanded from, farthest first; all hold the same matrices in the same order."""
    chain = [node]
    while chain[-1].target in {*VIEWS, aten.expand.default, aten.clone.default} and (below := _source(chain[-1])) is not None:
        chain.append(below)
    return reversed([each for each in chain if len(_shape(each)) > 1 and _shape(each)[-1] == _shape(node)[-1]])


def _product_shape(a: fx.Node, b: fx.Node) -> list[Any] | None:
    """Of matrices that are alike in number and order, or of one matrix for all."""
    *lead_a, m, inner_a = _shape(a)
    *lead_b, inner_b, n = _shape(b)
    if inner_a != inner_b or (lead_b and len(lead_a) != len(lead_b)):
        return None
    pairs = list(zip(lead_a, lead_b or lead_a, strict=True))
    if any(x != y and 1 not in {x, y} for x, y in pairs):
        return None
    return [*(y if x == 1 else x for x, y in pairs), m, n]


def _source(node: fx.Node) -> fx.Node | None:
    """The first argument, when it is one tensor."""
    first = node.args[0] if node.args else None
    return first if isinstance(first, fx.Node) and isinstance(first.meta.get("val"), torch.Tensor) else None


def _inserted(node: fx.Node, operator: Any, *args: fx.Node, like: fx.Node, **options: Any) -> fx.Node:
    """A new node in front of another, with the value of a third."""
    with node.graph.inserting_before(node):
        new = node.graph.call_function(operator, args, options)
    new.meta["val"] = like.meta["val"]
    return new


def _become_view(node: fx.Node, source: fx.Node) -> None:
    node.target, node.args, node.kwargs = aten.view.default, (source, _free(node)), {}


def _free(node: fx.Node) -> list[int]:
    return [-1 if isinstance(size, torch.SymInt) else size for size in node.meta["val"].shape]


def _shape(node: fx.Node) -> list[Any]:
    """Sizes that can be compared without deciding anything about the batch."""
    return [size.node.expr if isinstance(size, torch.SymInt) else size for size in node.meta["val"].shape]


def _like(node: fx.Node) -> tuple[Any, ...]:
    return (_shape(node), node.meta["val"].dtype)

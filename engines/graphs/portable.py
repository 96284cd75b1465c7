"""Forward functions that runtimes treat differently, rewritten while a network is traced."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from engines.graphs import attention, islands, resizing

Rewritten = Mapping[Callable[..., Any], Callable[..., Any]]


def contiguous_first(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The product with a matrix, of a contiguous copy: torch would rather repeat the matrix for every row.  Graphs do neither."""

    def multiply(*args: Any, **kwargs: Any) -> Tensor:
        if len(args) > 1 and args[0].ndim > 2 and args[1].ndim == 2:
            return product(args[0].contiguous(), *args[1:], **kwargs)
        return product(*args, **kwargs)

    return multiply


RESIZING: Rewritten = {
    functional.interpolate: resizing.interpolate,
    functional.adaptive_avg_pool2d: resizing.adaptive_avg_pool2d,
    functional.pad: resizing.padded,
}
PRODUCTS = (functional.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__)
NORMS = (functional.group_norm, functional.layer_norm, functional.rms_norm, functional.instance_norm)
SOFTMAXES = (functional.softmax, functional.log_softmax, torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax)
ISLANDS: Rewritten = {
    functional.batch_norm: islands.batch_norm,
    **{each: islands.in_float(each) for each in (*NORMS, *SOFTMAXES)},
}
WEIGHTED: Rewritten = {each: contiguous_first(each) for each in PRODUCTS}


class Portable(TorchFunctionMode):
    """While active, torch's functions are replaced by equal ones that every runtime computes alike."""

    def __init__(self, *, native_attention: bool) -> None:
        """``native_attention``: the graph has an operator for it, which keeps its own statistics."""
        super().__init__()
        attend = attention.with_heads if native_attention else attention.written_out
        self._rewritten = {**RESIZING, **WEIGHTED, **ISLANDS, functional.scaled_dot_product_attention: attend}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch for each of its functions."""
        return self._rewritten.get(func, func)(*args, **(kwargs or {}))

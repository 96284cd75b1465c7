"""The floor of an engine: the least time its matrix, convolution and attention calls can take on a machine.

After the roofline model (Williams, Waterman, Patterson 2009): a call takes at least FLOP / peak and at least bytes / bandwidth, so
the floor is the sum over calls of the larger one.  A product or a convolution reads its operands and writes its result once,
attention is one call that keeps its scores to itself, and everything element-wise is free.  Calls are recorded while the module
runs on fake tensors: nothing is computed and no memory is taken.

A measured time below the floor is possible where a runtime multiplies less than the formula says (Winograd convolutions) or keeps
operands in a cache that the bandwidth was not measured on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from engines.spec import TORCH_TYPES, EngineSpec, Precision

ELEMENT_BYTES: Mapping[Precision, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
"""Memory of one number, by precision."""


@dataclass(frozen=True)
class Roof:
    """What a machine can do, in one precision."""

    flops: float
    """Floating point operations per second of a large matrix product; a multiplication and its addition are two."""
    bandwidth: float
    """Bytes per second of a large copy, those read and those written."""


@dataclass(frozen=True)
class Call:
    """One matrix, convolution or attention call."""

    name: str
    flops: int
    bytes: int

    def seconds(self, roof: Roof) -> float:
        """Least time of the call."""
        return max(self.flops / roof.flops, self.bytes / roof.bandwidth)


@dataclass(frozen=True)
class Work:
    """Everything an engine has to do for one batch that is not free."""

    calls: tuple[Call, ...]

    @property
    def flops(self) -> int:
        """Floating point operations of all calls."""
        return sum(call.flops for call in self.calls)

    @property
    def bytes(self) -> int:
        """Bytes that all calls read and write."""
        return sum(call.bytes for call in self.calls)

    def seconds(self, roof: Roof) -> float:
        """The floor: least time of the calls one after another."""
        return sum(call.seconds(roof) for call in self.calls)


def work_of(module: nn.Module, spec: EngineSpec, rows: int) -> Work:
    """What the module does for a batch of so many rows, at the spec's precision.

    The module stays where and as it is; on the meta device it need not even have weights.  Attention counts as one call where
    torch fuses it (``scaled_dot_product_attention``), as its products where the module writes it out.
    """
    recorder = _Recorder(ELEMENT_BYTES[spec.precision])
    with FakeTensorMode(), torch.no_grad(), sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        own = [*module.named_parameters(), *module.named_buffers()]  # which name what is tied once
        state = {name: _fake(tuple(value.shape), value.dtype) for name, value in own}
        feeds = tuple(_fake((rows, *each.row), TORCH_TYPES[each.dtype]) for each in spec.inputs)
        with recorder:
            torch.func.functional_call(module, state, feeds)
    return Work(tuple(recorder.calls))


def _fake(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Every floating type is float32 here: what a number weighs is the precision's business."""
    return torch.empty(shape, dtype=torch.float32 if dtype.is_floating_point else dtype, device="cpu")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
    def __init__(self, element_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._element_bytes = element_bytes
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is not None:
            flops, touched = formula(args, result)
            self.calls.append(Call(func.overloadpacket.__name__, flops, self._element_bytes * sum(map(_stored, touched))))
        return result


def _stored(value: Tensor | None) -> int:
    """Numbers that lie in memory: what is only expanded is stored once."""
    if value is None:
        return 0
    return prod(size for size, stride in zip(value.shape, value.stride(), strict=True) if stride != 0)


Counted = tuple[int, Sequence[Tensor | None]]
"""Floating point operations, and the tensors that are read or written."""


def _product(args: tuple[Any, ...], result: Tensor) -> Counted:
    """(.. m k) times (.. k n), or a matrix times a vector."""
    a, b = args[:2]
    return 2 * result.numel() * int(a.shape[-1]), (a, b, result)


def _added_product(args: tuple[Any, ...], result: Tensor) -> Counted:
    """A product that is added to something, such as a bias."""
    flops, touched = _product(args[1:], result)
    return flops, (args[0], *touched)


def _convolution(args: tuple[Any, ...], result: Tensor) -> Counted:
    x, weight, bias, transposed = *args[:3], args[6]
    places = x if transposed else result  # each is met by one filter of every channel in its group
    return 2 * places.numel() * prod(weight.shape[1:]), (x, weight, bias, result)


def _convolution_backward(args: tuple[Any, ...], result: tuple[Tensor | None, ...]) -> Counted:
    """Per gradient that is asked for one convolution of the same size: it reads two of the three and writes the other."""
    gradient, x, weight, transposed = *args[:3], args[7]
    of_x, of_weight, of_bias = result
    places = x if transposed else gradient
    passes = (of_x is not None) + (of_weight is not None)
    touched = (*((weight, of_x) if of_x is not None else ()), *((x, of_weight) if of_weight is not None else ()), of_bias)
    return passes * 2 * places.numel() * prod(weight.shape[1:]), (*(gradient,) * passes, *touched)


def _attention(args: tuple[Any, ...], result: tuple[Any, ...]) -> Counted:
    """Scores and their weighted sum: q (n h l d), k (n h s d), v (n h s e)."""
    q, k, v = args[:3]
    return _attention_flops(q, k, v, 1, 1), (q, k, v, result[0])


def _attention_backward(args: tuple[Any, ...], result: tuple[Any, ...]) -> Counted:
    """Scores once more, then the gradients of weights, values, queries and keys: five products in place of two."""
    gradient, q, k, v, out = args[:5]
    return _attention_flops(q, k, v, 3, 2), (gradient, q, k, v, out, *result[:3])


def _attention_flops(q: Tensor, k: Tensor, v: Tensor, over_d: int, over_e: int) -> int:
    scores = prod(q.shape[:-1]) * int(k.shape[-2])
    return 2 * scores * (over_d * int(q.shape[-1]) + over_e * int(v.shape[-1]))


_aten = torch.ops.aten
_FORMULAS: Mapping[Any, Callable[[tuple[Any, ...], Any], Counted]] = {
    _aten.mm: _product,
    _aten.bmm: _product,
    _aten.mv: _product,
    _aten.addmm: _added_product,
    _aten.baddbmm: _added_product,
    _aten.addmv: _added_product,
    _aten.convolution: _convolution,
    _aten.convolution_backward: _convolution_backward,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # noqa: SLF001  (what torch fuses on fake CPU tensors)
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,  # noqa: SLF001
}

"""Formulas against autograd's own, operator by operator."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from engines.graphs import decompositions, norms, pooling
from engines.graphs.decompositions import OVERRIDES, gradient_table

WIDE = {"atol": 1e-12, "rtol": 1e-10}


def both(function, x, formula):
    """The gradient by autograd and by a formula, for a random cotangent."""
    x = x.detach().requires_grad_()
    y = function(x)
    gy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    (right,) = torch.autograd.grad(y, x, gy)
    return formula(gy, x.detach(), y.detach()), right


def drawn(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 1, 1, 1), (2, 1, 1, 2), (3, 0, 2, 1), ((2, 3), (0, 2), 1, 4)]
)
def test_convolution(stride, padding, dilation, groups):
    """Sizes that the stride does not divide are restored."""
    layer = nn.Conv2d(4, 8, 3, stride, padding, dilation, groups, dtype=torch.float64)

    def formula(gy, x, _):
        return decompositions.convolution_backward(
            gy, x, layer.weight, None, layer.stride, layer.padding, layer.dilation, False, [0, 0], groups, [True, False, False]
        )[0]

    torch.testing.assert_close(*both(layer, drawn(2, 4, 11, 12), formula), **WIDE)


def test_transposed_convolution():
    layer = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, dtype=torch.float64)

    def formula(gy, x, _):
        mask = [True, False, False]
        return decompositions.convolution_backward(gy, x, layer.weight, None, [2, 2], [1, 1], [1, 1], True, [1, 1], 1, mask)[0]

    torch.testing.assert_close(*both(layer, drawn(2, 4, 5, 6), formula), **WIDE)


def test_gradients_in_weights_are_refused():
    x, weight = drawn(1, 1, 3, 3), drawn(1, 1, 1, 1)
    with pytest.raises(NotImplementedError, match="weights"):
        decompositions.convolution_backward(x, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False])


POOLS = [
    ((2, 2), (2, 2), (0, 0), (1, 1), False), ((3, 3), (2, 2), (1, 1), (1, 1), False), ((3, 3), (2, 2), (0, 0), (1, 1), True),
    ((3, 2), (1, 3), (1, 0), (2, 1), False), ((3, 3), (2, 2), (1, 1), (1, 1), True), ((2, 2), (), (0, 0), (1, 1), False),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "ceil"), POOLS)
def test_max_pool(kernel, stride, padding, dilation, ceil):
    """Ties go to the first tap, as in torch: a third of the numbers are equal here."""
    x = drawn(2, 3, 11, 12).clamp(min=0.5)

    def formula(gy, x, _):
        return pooling.max_pool_backward(gy, x, kernel, stride, padding, dilation, ceil, None)

    found, right = both(lambda x: functional.max_pool2d(x, kernel, stride or None, padding, dilation, ceil), x, formula)
    torch.testing.assert_close(found, right, **WIDE)


AVERAGES = [
    ((2, 2), (2, 2), (0, 0), False, True), ((3, 3), (2, 2), (1, 1), False, False), ((3, 2), (2, 3), (1, 0), True, True),
    ((3, 3), (2, 2), (1, 1), True, False),
]  # fmt: skip


@pytest.mark.parametrize("divisor", [None, 5])
@pytest.mark.parametrize("window", AVERAGES, ids=str)
def test_avg_pool(window, divisor):
    """Matrices are float32."""
    found, right = both(
        lambda x: functional.avg_pool2d(x, *window, divisor),
        drawn(2, 3, 9, 10),
        lambda gy, x, _: pooling.avg_pool_backward(gy, x, *window, divisor),
    )
    torch.testing.assert_close(found, right, atol=1e-6, rtol=1e-6)


def test_silu():
    torch.testing.assert_close(*both(functional.silu, drawn(50), lambda gy, x, _: decompositions.silu_backward(gy, x)), **WIDE)


@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(affine):
    """Forward and backward; statistics are float32."""
    layer = nn.GroupNorm(2, 6, affine=affine)
    shape = (2, 6, 20, 2)
    x = drawn(2, 6, 4, 5).float()
    y, mean, rstd = norms.native_group_norm(x, layer.weight, layer.bias, *shape, layer.eps)
    torch.testing.assert_close(y, layer(x))

    def formula(gy, x, _):
        return norms.native_group_norm_backward(gy, x, mean, rstd, layer.weight, *shape, [True, False, False])[0]

    torch.testing.assert_close(*both(layer, x, formula), atol=1e-5, rtol=1e-4)


def test_layer_norm():
    layer = nn.LayerNorm((4, 5))
    x = drawn(2, 3, 4, 5).float()
    y, mean, rstd = norms.native_layer_norm(x, (4, 5), layer.weight, layer.bias, layer.eps)
    torch.testing.assert_close(y, layer(x))

    def formula(gy, x, _):
        return norms.native_layer_norm_backward(gy, x, (4, 5), mean, rstd, layer.weight, layer.bias, [True, False, False])[0]

    torch.testing.assert_close(*both(layer, x, formula), atol=1e-5, rtol=1e-4)


def test_batch_norm_in_training_is_refused():
    x = drawn(2, 3, 4, 4)
    with pytest.raises(NotImplementedError, match="eval"):
        norms.native_batch_norm_backward(x, x, None, None, x.var((0, 2, 3)), None, None, True, 1e-5, [True, False, False])


SLICES = [slice(None), slice(2, 5), slice(-3, None), slice(1, 100), slice(0, None, 2), slice(1, 6, 3), slice(6, None, 4)]


@pytest.mark.parametrize("taken", SLICES, ids=str)
def test_slice(taken):
    start, stop, step = taken.start or 0, taken.stop if taken.stop is not None else 2**63 - 1, taken.step or 1

    def formula(gy, x, _):
        return decompositions.slice_backward(gy, x.shape, 1, start, stop, step)

    torch.testing.assert_close(*both(lambda x: x[:, taken], drawn(2, 7, 3), formula), **WIDE)


@pytest.mark.parametrize(("axis", "index"), [(0, 0), (1, -2), (-1, 2)])
def test_select(axis, index):
    def formula(gy, x, _):
        return decompositions.select_backward(gy, x.shape, axis, index)

    torch.testing.assert_close(*both(lambda x: x.select(axis, index), drawn(2, 7, 3), formula), **WIDE)


def test_the_table_replaces_what_core_aten_has():
    """No override is lost, and what is not overridden is still there."""
    table = gradient_table()
    assert all(table[operator] is formula for operator, formula in OVERRIDES.items())
    assert torch.ops.aten.gelu_backward.default in table

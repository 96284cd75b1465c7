"""What is rewritten computes what torch does, and so does its gradient."""

import pytest
import torch
from torch.nn import functional

from engines.graphs import resizing
from engines.graphs.separable import along_both, matrix_of

SIZES = [{"size": (9, 5)}, {"size": 16}, {"scale_factor": 1.5}, {"scale_factor": (0.5, 2.0), "recompute_scale_factor": True}]
MODES = [
    {"mode": "nearest"}, {"mode": "nearest-exact"}, {"mode": "area"}, {"mode": "bilinear", "align_corners": False},
    {"mode": "bilinear", "align_corners": True}, {"mode": "bicubic", "align_corners": False},
    {"mode": "bilinear", "align_corners": False, "antialias": True},
]  # fmt: skip


def agree(ours, theirs, shape=(2, 3, 8, 7)):
    """Values, and gradients for a random cotangent."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found, right = ours(x), theirs(x)
    torch.testing.assert_close(found, right, atol=2e-6, rtol=1e-5)
    gy = torch.randn(right.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(*(torch.autograd.grad(y, x, gy)[0] for y in (found, right)), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_interpolation(size, mode):
    agree(lambda x: resizing.interpolate(x, **size, **mode), lambda x: functional.interpolate(x, **size, **mode))


@pytest.mark.parametrize("size", [{"scale_factor": 2}, {"scale_factor": (3.0, 2.0)}, {"size": (16, 21)}], ids=str)
def test_nearest_by_a_whole_factor_uses_no_product(size):
    """Bit for bit, since numbers are only copied."""
    x = torch.randn(2, 3, 8, 7)
    torch.testing.assert_close(resizing.interpolate(x, **size), functional.interpolate(x, **size), rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 2, 5, (3, 4), (None, 2)], ids=str)
def test_adaptive_pooling(size):
    agree(lambda x: resizing.adaptive_avg_pool2d(x, size), lambda x: functional.adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
def test_padding(mode):
    agree(lambda x: resizing.padded(x, (1, 2, 3, 0), mode), lambda x: functional.pad(x, (1, 2, 3, 0), mode))


def test_other_ranks_are_left_to_torch():
    agree(lambda x: resizing.interpolate(x, size=5), lambda x: functional.interpolate(x, size=5), (2, 3, 7))
    agree(lambda x: resizing.padded(x, (1, 1), "reflect"), lambda x: functional.pad(x, (1, 1), "reflect"), (2, 3, 7))


def test_a_matrix_is_what_the_map_makes_of_the_identity():
    """Doubling and reversing three rows, and the same for columns."""
    flip = matrix_of(lambda e: 2 * e.flip(2), 3)
    assert flip.tolist() == [[0, 0, 2], [0, 2, 0], [2, 0, 0]]
    x = torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(along_both(x, flip, torch.eye(3)), 2 * x.flip(2))
    torch.testing.assert_close(along_both(x, torch.eye(3), flip), 2 * x.flip(3))

"""Linear maps of images that treat rows and columns alike, as products with constant matrices.

Resizing and pooling differ between runtimes in corners, rounding and kernels; a product does not, and its backward is the transpose.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

Change = Callable[[Tensor], Tensor]
"""A linear map along the height of an image: (1 1 h w) -> (1 1 h' w)."""


def matrix_of(change: Change, size: int) -> Float[Tensor, "out size"]:
    """Matrix of a linear map: what it makes of the identity.  Computed for real, also while a trace is under way."""
    with real_tensors():
        return change(torch.eye(size)[None, None])[0, 0]


def along_both(x: Float[Tensor, "n c h w"], rows: Float[Tensor, "H h"], columns: Float[Tensor, "W w"]) -> Float[Tensor, "n c H W"]:
    """Apply one matrix along the height and one along the width, each from the right, so that none is repeated for the batch."""
    across = functional.linear(x, columns.to(x))
    return functional.linear(across.transpose(-2, -1).contiguous(), rows.to(x)).transpose(-2, -1)


real_tensors = _disable_current_modes
"""Inside, tensors have contents although a tracer or a fake mode is active; what is made there enters the trace as a constant."""

"""After an edit has flipped an image: give back what the flip did not need.

The less a pixel changed, the sooner it goes back to the original.  Borders of what stays changed are where changes are small, so seams are as
small as the share that was given back.  Whoever has the last word is asked about every candidate.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engines.guided.edits import Images
from engines.guided.masks import changed

_ONE_HALF = 0.5


def candidates(
    original: Images, edited: Images, floor: Images, shares: Sequence[float], dilation: int
) -> Float[Tensor, "n s 3 h w"]:
    """Each edit with all that differs from ``floor`` by less than a share of its largest difference given back, one for each share.

    Images in [0, 1].  ``floor`` is what the editor does to the image with nobody to guide it, or the original; a variation that nobody guided
    is told apart from its original.  ``dilation`` is the odd width that what stays is widened by.
    """
    same = (edited == floor).flatten(1).all(1)
    beside = torch.where(same[:, None, None, None], original, floor)
    kept = [torch.where(changed(2 * beside, 2 * edited, share, dilation), edited, original) for share in shares]
    return torch.stack(kept, 1)


def keeps_flip(told: Float[Tensor, " m"], confidence: float) -> Bool[Tensor, " m"]:
    """Which tries keep a flip: the likeliest class decides; where a plan asks for more than one half, the probability does, too.

    ``told`` is the target's probability, negative where another class is likelier.  Of two classes the likelier has one half anyway; of more
    it may have less.
    """
    return told >= confidence if confidence > _ONE_HALF else told > 0


def least_changed(original: Images, tried: Float[Tensor, "n s 3 h w"], flipped: Bool[Tensor, "n s"]) -> list[int | None]:
    """Of each image's candidates the flipped one nearest to its original by mean absolute distance; None where none has flipped."""
    far = (tried - original[:, None]).abs().mean((2, 3, 4)).masked_fill(~flipped, float("inf"))
    return [int(row.argmin()) if bool(row.isfinite().any()) else None for row in far]

"""Random square crops in front of a classifier while a prompt is optimised.

Without them a classifier that is not robust is "explained" by adversarial texture.  Numbers of DiG-IN (Augustin et al. 2024): 16 crops,
power 0.3, Gaussian noise of 0.005.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Images = Float[Tensor, "n 3 h w"]

POWER, SPREAD = 0.3, 0.005


def cutouts(images: Images, count: int, seeds: Sequence[int], size: int | None = None) -> Float[Tensor, "m 3 s s"]:
    """``count`` crops of each image in [0, 1], those of an image next to each other, and depending on its seed and shape alone.

    A crop's side is s + (short - s) * u^0.3 with u uniform, s = ``size`` (half of the short side when None), placed anywhere and resized to
    ``size`` (the short side when None).  Noise may leave [0, 1] by a little.
    """
    short = min(images.shape[2:])
    least, out = (max(1, short // 2), short) if size is None else (min(size, short), size)
    return torch.cat(
        [
            _crop(image[None], seed, at, (least, short, out))
            for image, seed in zip(images, seeds, strict=True)
            for at in range(count)
        ]
    )


def _crop(image: Float[Tensor, "1 3 h w"], seed: int, at: int, sides: tuple[int, int, int]) -> Float[Tensor, "1 3 s s"]:
    least, short, out = sides
    rng = np.random.default_rng((seed, at))
    side = int(least + (short - least) * rng.random() ** POWER)
    top, left = (int(rng.integers(0, room - side + 1)) for room in image.shape[2:])
    part = image[:, :, top : top + side, left : left + side]
    noise = torch.from_numpy(rng.standard_normal((1, 3, out, out), dtype=np.float32)).to(image)
    return functional.interpolate(part, (out, out), mode="bilinear", align_corners=False) + SPREAD * noise

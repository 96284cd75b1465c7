"""Views of an image that a gradient is averaged over: small affine moves and changes of perspective.

The poor man's robust gradient of Augustin et al. 2022 (appendix): the first view is the image itself, the others are turned by up to 15
degrees and moved by up to a tenth (seven times in ten) and then seen in perspective (seven times in ten).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Images = Float[Tensor, "n 3 h w"]
Views = Callable[[Images], Iterator[Images]]

DEGREES, SHIFT, DISTORTION, OFTEN = 15.0, 0.1, 0.7, 0.7
_STREAMS = 1 << 32
"""Above every stream of noise, so that a view never reads a sampler's numbers."""


def views(count: int, seeds: Sequence[int], step: int, stream: int = 0) -> Views:
    """``count`` views of each image, the same for the same (seed, step, stream) whatever else is in the batch; borders are repeated."""

    def looks(images: Images) -> Iterator[Images]:
        yield images
        for at in range(1, count):
            moves = np.stack([_move(seed, step, stream * count + at) for seed in seeds])
            yield _seen(images, torch.from_numpy(moves).to(images))

    return looks


def _move(seed: int, step: int, at: int) -> Float[np.ndarray, "3 3"]:
    """From places in the view to places in the image, both in [-1, 1]."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, _STREAMS + (step << 16) + at], dtype=np.uint64)))
    often, turn, shift, corners = rng.random(2), rng.uniform(-DEGREES, DEGREES), rng.uniform(-SHIFT, SHIFT, 2), rng.random((4, 2))
    move = np.eye(3)
    if often[0] < OFTEN:
        c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        move = np.array([[c, -s, 2 * shift[0]], [s, c, 2 * shift[1]], [0, 0, 1]])
    if often[1] < OFTEN:
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
        move = move @ np.linalg.inv(_homography(square, square * (1 - DISTORTION / 2 * corners)))
    return move.astype(np.float32)


def _homography(square: Float[np.ndarray, "4 2"], corners: Float[np.ndarray, "4 2"]) -> Float[np.ndarray, "3 3"]:
    """The projective map from one quadrilateral to another: eight equations, the last entry 1."""
    rows = []
    for (x, y), (u, v) in zip(square, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    found = np.linalg.solve(np.array(rows), corners.reshape(-1))
    return np.append(found, 1).reshape(3, 3)


def _seen(images: Images, moves: Float[Tensor, "n 3 3"]) -> Images:
    height, width = images.shape[2:]
    y = (torch.arange(height).to(images) * 2 + 1) / height - 1
    x = (torch.arange(width).to(images) * 2 + 1) / width - 1
    places = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width).to(images)], 2)
    there = torch.einsum("nij,hwj->nhwi", moves, places)
    return functional.grid_sample(images, there[..., :2] / there[..., 2:], padding_mode="border", align_corners=False)

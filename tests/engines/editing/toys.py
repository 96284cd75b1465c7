"""A small random network that is told a vector, in any precision, over Stable Diffusion's noise levels."""

import torch
from torch.nn.functional import conv2d

from engines.conditioning import Conditioning
from engines.editing.predictor import Predictor
from engines.noise import start_noise
from engines.precondition import noise_levels, rowwise

SHAPE = (4, 8, 8)
SEEDS = (3, 2**63 + 5, 11)
LEVELS = noise_levels({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})


class Network:
    """Two convolutions, moved by the time and by what it is told; counts its rows and remembers its last batch."""

    def __init__(self, seed=0, hidden=6, told=5):
        random = torch.Generator().manual_seed(seed)

        def draw(*shape, by):
            return torch.randn(shape, generator=random, dtype=torch.float64) / by**0.5

        self.first, self.second = draw(hidden, 4, 3, 3, by=36), draw(4, hidden, 3, 3, by=9 * hidden)
        self.words, self.place = draw(told, hidden, by=told), draw(1, hidden, 8, 8, by=1)
        self.rows, self.calls, self.batch = 0, 0, None

    def __call__(self, x, t, conditioning):
        self.rows, self.calls, self.batch = self.rows + len(x), self.calls + 1, x
        first, second, words, place = (each.to(x.dtype) for each in (self.first, self.second, self.words, self.place))
        moved = (conditioning.tensors["words"].to(x.dtype) @ words)[:, :, None, None] * place
        hidden = torch.tanh(conv2d(x, first, padding=1) + moved + rowwise(torch.cos(t / 150), x))
        return 0.5 * x + conv2d(hidden, second, padding=1)


def words(*seeds):
    """One row for each."""
    return Conditioning.of(words=torch.stack([torch.randn(5, generator=torch.Generator().manual_seed(seed)) for seed in seeds]))


def images(dtype=torch.float64):
    """Three clean latents."""
    return start_noise([7, 8, 9], SHAPE).to(dtype)


def predictor(prediction="epsilon", clip=None, seed=0):
    return Predictor(Network(seed), prediction, clip)

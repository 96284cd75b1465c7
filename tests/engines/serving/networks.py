"""Small networks with the parts that serving could get wrong: a number per row, several outputs, a gradient."""

import torch
from torch import nn

from engines.spec import EngineSpec, Profile, TensorSpec


class Wave(nn.Module):
    """(x (n 4 8 8), t (n)) -> (n 4 8 8)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.norm, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x, t):
        return self.last(nn.functional.silu(self.norm(self.first(x)) * (1 + t[:, None, None, None].cos())))


WAVE = EngineSpec(
    name="wave",
    inputs=(TensorSpec("x", "float32", ("B", 4, 8, 8)), TensorSpec("t", "float32", ("B",))),
    outputs=(TensorSpec("y", "float32", ("B", 4, 8, 8)),),
    profile=Profile(1, 8, 64),
    model_hash="c" * 64,
)


def wave_feeds(rows):
    return {"x": torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(rows)), "t": torch.linspace(0, 9, rows)}

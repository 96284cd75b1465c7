"""What searches without gradients are tried on: a server of known logits, and data that a diffusion knows in closed form."""

import dataclasses

import torch

from engines.conditioning import Conditioning
from engines.guided.particles import Editing, Told
from tests.engines.guided.vectors import X, gaussian, score


class Server:
    """Answers for a logit of images in [-1, 1]; remembers what it was sent."""

    def __init__(self, logit=score):
        self.logit, self.sent = logit, []

    def __call__(self, images, target, rows):
        self.sent += [(int(row), image) for row, image in zip(rows, images, strict=True)]
        odds = self.logit(2 * images - 1).double() * (2 * target - 1)
        return Told(odds, odds > 0)


def editing(server, rows=(0, 1), steps=10, **changes):
    rows = list(rows)
    given = {
        "diffusion": gaussian(timesteps=1000),
        "x": X[rows],
        "target": torch.tensor([1, 0])[rows],
        "cond": Conditioning(rows=len(rows)),
        "seeds": [[11, 12][row] for row in rows],
        "score": server,
        "rows": torch.tensor(rows),
        "steps": steps,
    }
    return Editing(**given | changes)


def mixture(points, spread=0.05):
    """A diffusion that knows its data: Gaussians of one width around given images."""
    plain = gaussian(timesteps=1000)
    bars = plain.levels.alpha_bars

    def eps(z, t, _cond):
        a = bars.float()[t.long()].view(-1, 1)
        flat, centres = z.flatten(1), points.flatten(1)
        variance = a * spread**2 + 1 - a
        weight = (-((flat[:, None] - a[:, :, None].sqrt() * centres).square().sum(2)) / (2 * variance)).softmax(1)
        own = (flat[:, None] - a[:, :, None].sqrt() * centres) / variance[:, :, None]
        return ((1 - a).sqrt() * (weight[:, :, None] * own).sum(1)).view(z.shape)

    course = dataclasses.replace(plain.course, network=eps)
    return dataclasses.replace(plain, course=course, differentiable=eps)


def faces(count, marked, brightness, seed):
    """Grey 6x6 images: a smooth background, a marker in a corner, a bar whose brightness is another attribute."""
    g = torch.Generator().manual_seed(seed)
    images = 0.25 * torch.randn(count, 1, 1, 1, generator=g) + 0.08 * torch.randn(count, 3, 6, 6, generator=g)
    images[:, :, 4:, 1:5] += brightness
    images[:, :, :2, :2] = 0.8 if marked else -0.2
    return images.clamp(-1, 1)

"""The analytic substrate of the conformance vectors: Gaussian data, a linear judge, noise by formula."""

import torch

from engines.conditioning import Conditioning
from engines.course import Course
from engines.diffusion import Diffusion
from engines.pipelines.schedulers import read_scheduler
from engines.precondition import noise_levels, rowwise
from engines.process import Diffusing

SHAPE = (3, 4, 4)
_I = torch.arange(48, dtype=torch.float64)


def images(*rows):
    return torch.stack(rows).float().view(-1, *SHAPE)


X = images(0.8 * torch.sin(0.7 * _I), 0.8 * torch.cos(0.3 * _I))
NOISE = images(torch.sin(2.1 * _I + 1), torch.cos(1.7 * _I))
WEIGHT = images(0.3 * torch.cos(1.3 * _I))[0]
TARGET = torch.tensor([1, 0])
NOTHING = Conditioning(rows=2)


def gaussian(mean=0.1, variance=0.25, timesteps=500, clip=True):
    """A network that knows its data: N(mean, variance I), linear schedule."""
    settings = {"num_train_timesteps": timesteps, "beta_start": 0.1 / timesteps, "beta_end": 20 / timesteps, "clip_sample": clip}
    levels = noise_levels(settings)

    def eps(z, t, _cond):
        a = rowwise(levels.alpha_bars.float()[t.long()], z)
        return (1 - a).sqrt() * (z - a.sqrt() * mean) / (variance * a + 1 - a)

    scheduler = read_scheduler({"_class_name": "DDIMScheduler", **settings})
    course = Course(network=eps, process=Diffusing(levels, "epsilon"), scheduler=scheduler, tokens=0)
    return Diffusion(course=course, levels=levels, prediction="epsilon", differentiable=eps, device=torch.device("cpu"))


def score(x):
    """The linear classifier's logit, of pixels in [-1, 1]."""
    return (WEIGHT * x).sum((1, 2, 3)) + 0.2


def judge(shown):
    """The same, of images in [0, 1], as two columns."""
    logit = score(2 * shown - 1)
    return torch.stack([-logit / 2, logit / 2], 1)


def unlike(shown, seen):
    """Mean squared difference on the scale of [-1, 1]."""
    return 4 * (shown - seen).square().mean((1, 2, 3))


def silent(_stream):
    """No noise."""
    return torch.zeros(2, *SHAPE)


def scripted():
    """The k-th draw is sin(0.37 j + k), j over the whole batch."""
    drawn = []

    def draw(stream):
        drawn.append(stream)
        return torch.sin(0.37 * torch.arange(96, dtype=torch.float64) + len(drawn)).float().view(2, *SHAPE)

    return draw


def in_dime_s_order(depth=60, kept=200):
    """The same for DiME, whose released code draws at every evaluation, those without noise included: the k-th by (outer, inner) step."""
    order = {}
    for index in reversed(range(depth)):
        order[2 * index] = len(order) + 1
        for at in reversed(range(index)):
            order[2 * kept + index * (index - 1) // 2 + at] = len(order) + 1
    return lambda stream: torch.sin(0.37 * torch.arange(96, dtype=torch.float64) + order[stream]).float().view(2, *SHAPE)

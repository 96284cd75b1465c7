"""A compact convolutional network with one head per concept, trained from nothing.

Training pictures are shifted, blurred, brightened and noised, so that what is learnt on photos holds on generated pictures; colours
are touched only mildly, since they may be concepts.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audit_plugin.core.protocols import Progress
from audit_plugin.core.values import Concept
from audit_plugin.perception.onnx_graph import Convolution, Head, compact_model
from audit_plugin.perception.task import Task, TrainingOptions, temperature, weighted_losses

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

_CHANNELS = ((16, 1), (32, 2), (48, 2), (64, 1), (96, 2), (96, 1), (128, 1))
"""Width and stride of each 3x3 convolution: about 300 thousand weights."""


def train_compact(task: Task, *, seed: int, progress: Progress | None) -> tuple[bytes, dict[str, Any]]:
    """The trained network as ONNX, and facts about its training."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network([len(concept.levels) for concept in task.concepts])
        facts = _fit(network, task, torch.Generator().manual_seed(seed), progress)
    tune = torch.from_numpy(task.rows.tune)
    truth, weight = torch.from_numpy(task.values)[tune], torch.from_numpy(task.weights)[tune]
    logits = _logits(network, torch.from_numpy(task.images)[tune])
    temperatures = [temperature(z, truth[:, j], weight[:, j]) for j, z in enumerate(logits)]
    layers, heads = _folded(network, task.concepts, temperatures)
    parts: list[Convolution | Head] = [*layers, *heads.values()]
    parameters = sum(part.weight.size + part.bias.size for part in parts)
    return compact_model(layers, heads, task.options.size), facts | {"parameters": parameters, "temperatures": temperatures}


def _fit(network: "nn.Module", task: Task, draws: "Generator", progress: Progress | None) -> dict[str, Any]:
    """Train in place to the weights with the least loss on the tuning rows."""
    import torch

    options, deadline = task.options, time.monotonic() + task.options.seconds
    x, y, w = (torch.from_numpy(part) for part in (task.images, task.values, task.weights.astype(np.float32)))
    train, tune = torch.from_numpy(task.rows.train), torch.from_numpy(task.rows.tune)
    batches = max(1, len(train) // options.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=batches * options.epochs + 1, pct_start=0.15
    )
    best, best_epoch, epoch, kept = np.inf, 0, 0, dict(network.state_dict())
    learnt = False
    while not learnt and epoch < options.epochs and epoch - best_epoch < options.patience and time.monotonic() < deadline:
        epoch += 1
        network.train()
        for rows in train[torch.randperm(len(train), generator=draws)].chunk(batches):
            optimiser.zero_grad()
            losses = weighted_losses(network(augment(x[rows], options, draws)), y[rows], w[rows])
            torch.autograd.backward(losses.sum())
            optimiser.step()
            schedule.step()
        tuning = weighted_losses(_logits(network, x[tune]), y[tune], w[tune])
        learnt, tuned = float(tuning.max()) <= options.good_enough, float(tuning.sum())
        if tuned < best:
            best, best_epoch, kept = tuned, epoch, {name: tensor.clone() for name, tensor in network.state_dict().items()}
        if progress is not None:
            progress(epoch, options.epochs, "passes over the detectors' training images")
    network.load_state_dict(kept)
    return {"epochs": epoch, "best_epoch": best_epoch, "out_of_time": time.monotonic() >= deadline}


def _network(levels: Sequence[int]) -> "nn.Module":
    """Convolutions with batch normalisation, pooled by mean and maximum, one linear head per concept."""
    import torch
    from torch import nn

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [3, *(width for width, _ in _CHANNELS)]
            self.convolutions = nn.ModuleList(
                nn.Conv2d(before, after, 3, stride, 1, bias=False)
                for before, (after, stride) in zip(widths[:-1], _CHANNELS, strict=True)
            )
            self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
            self.drop = nn.Dropout(0.2)
            self.heads = nn.ModuleList(nn.Linear(2 * widths[-1], n) for n in levels)

        def forward(self, x: "Tensor") -> "list[Tensor]":
            x = x.contiguous(memory_format=torch.channels_last)
            for convolution, norm in zip(self.convolutions, self.norms, strict=True):
                x = torch.relu(norm(convolution(x)))
            pooled = self.drop(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
            return [head(pooled) for head in self.heads]

    return Detector().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def augment(x: "Tensor", options: TrainingOptions, draws: "Generator") -> "Tensor":
    """Images ``(n, 3, h, w)`` shifted, perhaps mirrored, blurred, brightened, tinted and noised, each image by its own draw."""
    import torch
    from torch.nn.functional import avg_pool2d, pad

    n, _, height, width = x.shape

    def uniform(low: float, high: float, channels: int = 1) -> "Tensor":
        return low + (high - low) * torch.rand(n, channels, 1, 1, generator=draws)

    reach = options.shift_px
    padded = pad(x, (reach, reach, reach, reach), mode="replicate")
    top, left = (torch.randint(0, 2 * reach + 1, (n,), generator=draws) for _ in range(2))
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    if options.mirror:
        flip = torch.rand(n, 1, generator=draws) < 0.5
        columns = torch.where(flip, columns.flip(1), columns)
    image = torch.arange(n)[:, None, None]
    x = padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    soft = avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, uniform(-1.0, 1.0).clamp_min(0))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * uniform(1 - options.brightness, 1 + options.brightness)
    x = x * uniform(1 - options.brightness, 1 + options.brightness) * uniform(1 - options.tint, 1 + options.tint, 3)
    x = x + uniform(0, options.noise) * torch.randn(x.shape, generator=draws)
    return x.clamp(0, 1)


def _logits(network: "nn.Module", x: "Tensor") -> "list[Tensor]":
    import torch

    network.eval()
    with torch.no_grad():
        parts = [network(batch) for batch in torch.split(x, 128)]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def _folded(network: Any, concepts: Sequence[Concept], temperatures: Sequence[float]) -> tuple[list[Convolution], dict[str, Head]]:
    """Weights with batch normalisation folded into the convolutions, and the temperature into the heads."""
    layers = []
    for convolution, norm, (_, stride) in zip(network.convolutions, network.norms, _CHANNELS, strict=True):
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
        weight = (convolution.weight.detach() * scale[:, None, None, None]).contiguous().numpy()
        layers.append(Convolution(weight=weight, bias=(norm.bias - norm.running_mean * scale).detach().numpy(), stride=stride))
    heads = {
        concept.name: Head(weight=(head.weight.detach() / t).numpy(), bias=(head.bias.detach() / t).numpy())
        for concept, head, t in zip(concepts, network.heads, temperatures, strict=True)
    }
    return layers, heads

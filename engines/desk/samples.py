"""Small networks with random weights, one per kind, made of what denoisers and classifiers are made of.

They take seconds to build, so that a machine's backends can be proved on them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.graphs.gradients import Guided, Vjp
from engines.network import Network
from engines.networks import state_digest
from engines.parity import ROWS, Feeds
from engines.spec import BATCH, EngineSpec, Kind, Profile, TensorSpec

SIZES = (ROWS, 1, 3)
"""Batches that are compared: full, single, ragged."""
CHANNELS, SIDE, TOKENS, WIDTH, CLASSES = 4, 16, 8, 32, 5
TIMESTEPS = 1000


class SmallDenoiser(nn.Module):
    """Convolutions, group norm, self- and cross-attention, down and up once: (sample (n 4 16 16), t (n), context (n 8 32))."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, CHANNELS, 3, padding=1)
        self.down, self.up = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.time, self.norm = nn.Linear(WIDTH, WIDTH), nn.GroupNorm(8, WIDTH)
        self.ask, self.know, self.join = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, sample: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """A prediction (n 4 16 16), every row at its own timestep."""
        entered = self.enter(sample) + self.time(_sinusoids(t).to(sample.dtype))[:, :, None, None]
        hidden = self.down(functional.silu(self.norm(entered)))
        tokens = hidden.flatten(2).transpose(1, 2)
        for seen in (tokens, context):
            tokens = tokens + self.join(self._attend(tokens, seen))
        hidden = functional.interpolate(tokens.transpose(1, 2).unflatten(2, hidden.shape[2:]), scale_factor=2.0, mode="nearest")
        left: Tensor = self.leave(functional.silu(self.up(hidden)) + entered)
        return left

    def _attend(self, tokens: Tensor, seen: Tensor) -> Tensor:
        q, (k, v) = self.ask(tokens), self.know(seen).chunk(2, dim=-1)
        q, k, v = (each.unflatten(-1, (4, -1)).transpose(1, 2) for each in (q, k, v))
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SmallClassifier(nn.Module):
    """Convolution, max pool, residual, mean: images (n 3 16 16) -> logits (n 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """One row of logits per image."""
        hidden = functional.max_pool2d(functional.silu(self.first(images)), 2)
        logits: Tensor = self.head((hidden + functional.silu(self.second(hidden))).mean((2, 3)))
        return logits


class SmallDecoder(nn.Module):
    """Latents (n 4 16 16) -> images (n 3 32 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Twice as large."""
        grown = functional.interpolate(functional.silu(self.enter(latents)), scale_factor=2.0, mode="nearest")
        images: Tensor = self.leave(grown)
        return images


class Negation(nn.Module):
    """Next to nothing: what a call of it takes is what a call takes."""

    def forward(self, x: Tensor) -> Tensor:
        """Minus x (n 1)."""
        return -x


def _sinusoids(t: Tensor) -> Tensor:
    """Sines and cosines of t (n) at frequencies from 1 down to 1e-4: (n 32)."""
    frequencies = torch.exp(torch.arange(WIDTH // 2, device=t.device) * (-math.log(1e4) / (WIDTH // 2)))
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def forward_sample() -> Network:
    """A denoiser."""
    inputs = (_tensor("sample", CHANNELS, SIDE, SIDE), _tensor("t"), _tensor("context", TOKENS, WIDTH))
    return _network("forward", SmallDenoiser, inputs, (_tensor("prediction", CHANNELS, SIDE, SIDE),))


def vjp_sample() -> Network:
    """A classifier with its vector-Jacobian product."""
    inputs = (_tensor("x", 3, SIDE, SIDE), _tensor("cotangent", CLASSES))
    outputs = (_tensor("y", CLASSES), _tensor("gradient", 3, SIDE, SIDE))
    return _network("vjp", lambda: Vjp(SmallClassifier()), inputs, outputs, gradients=("gradient",))


def guided_sample() -> Network:
    """A guided step: denoiser, clean estimate, decoder, classifier, and the way back."""
    latents = (CHANNELS, SIDE, SIDE)
    rows = (_tensor("x", *latents), _tensor("t"), _tensor("alpha_bar"), TensorSpec("target", "int64", (BATCH,)), _tensor("weight"))
    outputs = (_tensor("loss"), _tensor("eps", *latents), _tensor("clean", *latents), _tensor("gradient", *latents))
    inputs = (*rows, _tensor("context", TOKENS, WIDTH))
    return _network(
        "guided",
        lambda: Guided(SmallDenoiser(), SmallClassifier(), decoder=SmallDecoder()),
        inputs,
        outputs,
        gradients=("gradient",),
    )


def call_sample() -> Network:
    """Next to nothing."""
    network = _network("forward", Negation, (_tensor("x", 1),), (_tensor("y", 1),), name="call")
    static = replace(network.spec, profile=Profile(1, 1, 1))  # which every backend may capture
    return replace(network, spec=static, batches=lambda: [_feeds(static.inputs, 1)])


SAMPLES: Mapping[Kind, Callable[[], Network]] = {"forward": forward_sample, "vjp": vjp_sample, "guided": guided_sample}
"""Kind -> the network that stands for it."""


def _tensor(name: str, *row: int) -> TensorSpec:
    return TensorSpec(name, "float32", (BATCH, *row))


def _network(
    kind: Kind,
    make: Callable[[], nn.Module],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    *,
    gradients: tuple[str, ...] = (),
    name: str = "",
) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval().requires_grad_(requires_grad=False)
    spec = EngineSpec(
        name=f"selfcheck_{name or kind}",
        kind=kind,
        inputs=inputs,
        outputs=outputs,
        gradients=gradients,
        profile=Profile(1, ROWS, ROWS),
        model_hash=state_digest(module),
    )
    return Network(module, spec, lambda: [_feeds(inputs, size) for size in SIZES])


def _feeds(inputs: Sequence[TensorSpec], rows: int) -> Feeds:
    """Normal numbers; timesteps spread over a schedule, every class in turn."""
    chance, spread = torch.Generator().manual_seed(rows), torch.linspace(0, TIMESTEPS - 1, rows).round()
    known = {
        "t": spread,
        "alpha_bar": 1 - 0.98 * spread / TIMESTEPS,
        "target": torch.arange(rows) % CLASSES,
        "weight": torch.ones(rows),
    }
    return {
        each.name: known[each.name] if each.name in known else torch.randn(rows, *each.row, generator=chance) for each in inputs
    }

"""Networks that every backend must run: small, with the parts that exporters and compilers get wrong."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from engines.graphs.gradients import Guided, Vjp
from engines.spec import EngineSpec, Profile, TensorSpec

IMAGE = ("B", 4, 8, 8)
CLASSES = 3


class Denoiser(nn.Module):
    """Norm, upsampling in front of a convolution, strides, and a scalar per row."""

    def __init__(self, seed=1):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm = nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.up, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1, stride=2)

    def forward(self, x, t):
        hidden = self.norm(self.conv(x))
        hidden = nn.functional.silu(hidden * (t / 10).cos().to(hidden)[:, None, None, None])
        return self.out(self.up(nn.functional.interpolate(hidden, scale_factor=2.0, mode="nearest")))


class Classifier(nn.Module):
    """Attention over the pixels, then a linear head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.tokens, self.head = nn.Conv2d(4, 6, 2, stride=2), nn.Linear(6, CLASSES)

    def forward(self, x):
        tokens = self.tokens(x).flatten(2).transpose(1, 2)
        return self.head(nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1))


class TwoOutputs(nn.Module):
    """The second output is a view of what the first is made from, and of another shape."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x, t):
        hidden = self.conv(x)
        hidden = hidden + (t / 10).to(hidden)[:, None, None, None]
        return hidden.relu(), hidden.flatten(1)


@dataclass(frozen=True, eq=False)
class Case:
    """A network, what it is called with, and what is right."""

    module: nn.Module
    spec: EngineSpec
    drawn: Mapping[str, Callable[[int, torch.Generator], Tensor]]
    """Input name -> a batch of it."""

    def feeds(self, rows, seed=0):
        generator = torch.Generator().manual_seed(1000 * seed + rows)
        return {name: draw(rows, generator) for name, draw in self.drawn.items()}

    def right(self, feeds):
        """The module itself, in float64 where it can be."""
        wide = copy.deepcopy(self.module).double()
        values = wide(*(each.double() if each.is_floating_point() else each for each in feeds.values()))
        values = values if isinstance(values, tuple) else (values,)
        return {each.name: value.detach() for each, value in zip(self.spec.outputs, values, strict=True)}

    def at(self, profile):
        return replace(self, spec=replace(self.spec, profile=profile))

    def outs(self, rows, fill=0.0):
        return {each.name: torch.full((rows, *each.row), fill) for each in self.spec.outputs}


def images(rows, generator):
    return torch.randn(rows, *IMAGE[1:], generator=generator)


def timesteps(rows, generator):
    return 999 * torch.rand(rows, generator=generator)


def cumulative(rows, generator):
    return 0.1 + 0.8 * torch.rand(rows, generator=generator)


def classes(rows, generator):
    return torch.randint(CLASSES, (rows,), generator=generator)


def frozen(module):
    return module.eval().requires_grad_(requires_grad=False)


def tensors(shape, *names):
    return tuple(TensorSpec(name, "float32", shape) for name in names)


def case(name, module, inputs, outputs, drawn, *, kind="forward", gradients=(), digit="a"):
    spec = EngineSpec(
        name=name, inputs=inputs, outputs=outputs, profile=Profile(1, 4, 12), model_hash=64 * digit, kind=kind, gradients=gradients
    )
    return Case(frozen(module), spec, drawn)


X, T, Y = tensors(IMAGE, "x")[0], tensors(("B",), "t")[0], tensors(IMAGE, "y")[0]


def make_cases():
    """Name -> case; made anew on each call, so that a test may change weights."""
    both = {"x": images, "t": timesteps}
    forward = case("forward", Denoiser(), (X, T), (Y,), both)
    guided_inputs = (X, *tensors(("B",), "t", "alpha_bar"), TensorSpec("target", "int64", ("B",)), *tensors(("B",), "weight"))
    return {
        "forward": forward,
        "static": forward.at(Profile(4, 4, 4)),
        "two": case("two", TwoOutputs(), (X, T), (Y, TensorSpec("flat", "float32", ("B", 256))), both, digit="b"),
        "vjp": case(
            "vjp",
            Vjp(Denoiser()),
            (X, *tensors(IMAGE, "cotangent"), T),
            tensors(IMAGE, "y", "gradient"),
            {"x": images, "cotangent": images, "t": timesteps},
            kind="vjp",
            gradients=("gradient",),
            digit="c",
        ),
        "guided": case(
            "guided",
            Guided(Denoiser(), Classifier()),
            guided_inputs,
            (*tensors(("B",), "loss"), *tensors(IMAGE, "eps", "clean", "gradient")),
            {"x": images, "t": timesteps, "alpha_bar": cumulative, "target": classes, "weight": cumulative},
            kind="guided",
            gradients=("gradient",),
            digit="d",
        ),
    }

"""Gradients of piecewise linear networks are judged by what float32 allows; all others by their certificate."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.errors import ParityError
from engines.graphs.gradients import Vjp
from engines.serving.judging import gradient_noise, judged
from engines.serving.networks import vjp_spec
from engines.spec import EngineSpec, Profile, TensorSpec

UNITS = 100_000
SPEC = vjp_spec(
    EngineSpec(
        name="network",
        inputs=(TensorSpec("x", "float32", ("B", 64)),),
        outputs=(TensorSpec("y", "float32", ("B", 8)),),
        profile=Profile(1, 8, 64),
        model_hash="e" * 64,
    ),
    "network_vjp",
)


class Kinked(nn.Module):
    """Many ReLUs, a few of which are undecided: their inputs are small differences of large numbers."""

    def __init__(self, *, order=None, size=1e3):
        super().__init__()
        chance = torch.Generator().manual_seed(0)
        large = size * torch.randn(UNITS, 32, generator=chance)
        weight = torch.cat([large, -large], 1) + torch.randn(UNITS, 64, generator=chance)
        self.order = torch.arange(64) if order is None else order
        self.first, self.last = nn.Parameter(weight[:, self.order]), nn.Parameter(torch.rand(8, UNITS, generator=chance))

    def forward(self, x):
        return torch.relu(x[:, self.order] @ self.first.T) @ self.last.T


class Skewed(Vjp):
    """Its gradient is a little too long."""

    def forward(self, x, cotangent):
        y, gradient = super().forward(x, cotangent)
        return y, 1.001 * gradient


def batches():
    half = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([half, half], 1) + 0.01 * torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    cotangent = torch.randn(8, 8, generator=torch.Generator().manual_seed(3))
    return [{"x": rows[:size], "cotangent": cotangent[:size]} for size in (8, 3, 1)]


def engine(module):
    return EagerBackend().build(module, SPEC)


def test_other_rounding_is_not_another_gradient():
    """The same sums in another order: beyond the bound, as is torch in float32 itself."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(4))
    reference, other = Vjp(Kinked()), Vjp(Kinked(order=order))
    certificate = judged(engine(other), reference, batches())
    assert not certificate.passed
    assert certificate.gradient_error > 1e-4
    assert gradient_noise(reference, batches()) > 1e-4


def test_a_wrong_gradient_of_a_smooth_network_is_refused():
    """One in a thousand, where float32 is sure of itself."""
    network = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 8)).eval()
    assert judged(engine(Vjp(network)), Vjp(network), batches()).passed
    with pytest.raises(ParityError, match="its gradient differs from the reference by 1"):
        judged(engine(Skewed(network)), Vjp(network), batches())


def test_another_network_is_refused_kinks_or_not():
    with pytest.raises(ParityError, match="differs from the reference"):
        judged(engine(Vjp(Kinked(size=0.0))), Vjp(Kinked()), batches())


def test_scores_are_never_excused():
    """Noise in the gradient is no licence for wrong scores."""

    class Shifted(Vjp):
        def forward(self, x, cotangent):
            y, gradient = super().forward(x, cotangent)
            return 1.01 * y, gradient

    with pytest.raises(ParityError, match="its output differs"):
        judged(engine(Shifted(Kinked())), Vjp(Kinked()), batches())


def test_forward_networks_have_no_such_excuse():
    spec = replace(SPEC, kind="forward", inputs=SPEC.inputs[:1], outputs=SPEC.outputs[:1], gradients=())
    feeds = [{"x": each["x"]} for each in batches()]
    with pytest.raises(ParityError, match="its output differs"):
        judged(EagerBackend().build(Kinked(size=0.0), spec), Kinked(), feeds)

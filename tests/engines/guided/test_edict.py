"""Inversion by coupled states comes back to where it began, however deep and whatever the network is."""

from itertools import pairwise

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.edict import Coupled, Step, between, coupled, denoised, inverted, steps_of
from engines.pipeline import load_pipeline

CURVE = [1.0, *(torch.linspace(1.4, 0.08, 50, dtype=torch.float64).sin() ** 2).tolist()]
STEPS = tuple(Step(20 * at + 1, low, high) for at, (low, high) in enumerate(pairwise(CURVE)))


def analytic(x, t):
    """Far from linear, and different at every timestep."""
    return (3 * x + t / 200).sin() + 0.3 * x.roll(1, 3)


@pytest.fixture(scope="module")
def diffusion(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1).diffusion


def told(seed, rows):
    return Conditioning.of(context=torch.randn(rows, 12, 32, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("depth", [1, 15, 35, 50])
def test_down_undoes_up_and_up_undoes_down(depth):
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    back = denoised(analytic, inverted(analytic, coupled(x), STEPS[:depth]), STEPS[:depth])
    pair = Coupled(x.double(), x.flip(0).double())
    there = inverted(analytic, denoised(analytic, pair, STEPS[:depth]), STEPS[:depth])
    for found, wanted in zip((*back, *there), (x, x, *pair), strict=True):
        torch.testing.assert_close(found.float(), wanted.float(), atol=1e-4, rtol=0)


def test_a_network_in_float32_is_undone_under_strong_guidance(diffusion):
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    noise, steps = between(diffusion, told(1, 1), told(2, 1), 4.0), steps_of(diffusion, 50)[:35]
    up = inverted(noise, coupled(x), steps)
    back = denoised(noise, up, steps)
    assert float((up.u - x).abs().max()) > 0.1
    torch.testing.assert_close(back.u.float(), x, atol=1e-4, rtol=0)
    torch.testing.assert_close(back.v.float(), x, atol=1e-4, rtol=0)


def test_without_mixing_and_with_known_noise_it_is_ddim(diffusion):
    """Noise that does not depend on the state: u goes where the diffusion's own steps go."""
    x, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    steps = steps_of(diffusion, 10)
    down = denoised(lambda _x, _t: eps, coupled(x), steps, 1.0)
    wanted = x.double()
    for step, to in zip(reversed(steps), [*(each.timestep for each in reversed(steps[:-1])), -1], strict=True):
        before, after = (float(diffusion.alpha_bar(t, 1)) for t in (step.timestep, to))
        clean = (wanted - (1 - before) ** 0.5 * eps) / before**0.5
        wanted = after**0.5 * clean + (1 - after) ** 0.5 * eps
    torch.testing.assert_close(down.u, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(down.u, down.v, atol=1e-12, rtol=0)


def test_steps_are_those_of_stable_diffusion(diffusion):
    """50 of 1000 timesteps, 1, 21, ... 981, each told the noisier end; every timestep where all are visited."""
    steps = steps_of(diffusion, 50)
    assert [step.timestep for step in steps][:2] == [1, 21]
    assert steps[-1].timestep == 981
    assert steps[0].cleaner == 1.0
    assert all(one.noisier == other.cleaner for one, other in pairwise(steps))
    assert [step.timestep for step in steps_of(diffusion, 1000)] == list(range(1000))


def test_guidance_goes_from_one_conditioning_to_the_other(diffusion):
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    own, other = told(3, 2), told(4, 2)
    with torch.no_grad():
        own_eps, other_eps = diffusion.eps(x, 301, own), diffusion.eps(x, 301, other)
    torch.testing.assert_close(between(diffusion, own, other, 0.0)(x, 301), other_eps, atol=1e-5, rtol=0)
    torch.testing.assert_close(between(diffusion, own, other, 3.0)(x, 301), 3 * own_eps - 2 * other_eps, atol=1e-4, rtol=0)

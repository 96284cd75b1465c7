from itertools import pairwise

import pytest
import torch

from engines.samplers import SAMPLERS, sample_ddim, sample_dpmpp_2m
from engines.schedules import karras_sigmas, trailing_sigmas

SPREAD = 0.7


def gaussian(x, sigma):
    """The exact denoiser of data N(0, SPREAD^2)."""
    return x * SPREAD**2 / (SPREAD**2 + sigma.view(-1, 1, 1, 1) ** 2)


def error(sampler, steps):
    """Distance to the known solution x(sigma) ~ sqrt(SPREAD^2 + sigma^2), at the last level above 0."""
    sigmas = karras_sigmas(0.05, 10.0, steps)[:-1]
    x = torch.full((1, 1, 1, 1), 10.0, dtype=torch.float64)
    exact = x * ((SPREAD**2 + sigmas[-1] ** 2) / (SPREAD**2 + sigmas[0] ** 2)) ** 0.5
    return float((sampler(gaussian, x, sigmas, None) - exact).abs())


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_point_mass_is_reached_exactly(sampler, steps):
    """If the data are a single image, every path ends at it."""
    photo = torch.rand(1, 3, 4, 4)
    sigmas = karras_sigmas(0.1, 80.0, steps)
    found = sampler(lambda x, _: photo.expand_as(x), 80 * torch.randn(5, 3, 4, 4), sigmas, None)
    torch.testing.assert_close(found, photo.expand(5, -1, -1, -1), atol=1e-5, rtol=0)


def test_orders_of_convergence():
    """Twice the steps: DDIM halves its error, 2M quarters it."""
    assert 1.8 < error(sample_ddim, 40) / error(sample_ddim, 80) < 2.3
    assert 3.2 < error(sample_dpmpp_2m, 40) / error(sample_dpmpp_2m, 80) < 5.0


def test_second_order_pays_at_few_steps():
    assert error(sample_dpmpp_2m, 10) < error(sample_ddim, 10) / 3


def test_ddim_is_euler_in_sigma():
    """The update in the paper's form gives the same numbers."""
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    sigmas = [5.0, 2.0, 0.5]
    euler = x
    for sigma, following in pairwise(sigmas):
        slope = (euler - gaussian(euler, torch.full((2,), sigma))) / sigma
        euler = euler + (following - sigma) * slope
    torch.testing.assert_close(sample_ddim(gaussian, x, sigmas), euler)


def test_steps_are_reported():
    """One call per evaluation, with the level and the estimate."""
    told = []
    sample_dpmpp_2m(
        gaussian, torch.randn(2, 1, 2, 2), [3.0, 1.0, 0.0], lambda step, sigma, clean: told.append((step, sigma, clean.shape))
    )
    assert told == [(0, 3.0, (2, 1, 2, 2)), (1, 1.0, (2, 1, 2, 2))]


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_trailing_visits_the_timesteps_of_diffusers(steps):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert trailing_sigmas(list(range(1000)), steps)[:-1] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match="steps"):
        trailing_sigmas(list(range(1000)), steps)


@pytest.mark.parametrize("arguments", [(0.1, 10.0, 0), (10.0, 0.1, 3), (0.0, 1.0, 3)])
def test_impossible_karras_schedules_are_refused(arguments):
    with pytest.raises(ValueError, match="sigma_min"):
        karras_sigmas(*arguments)

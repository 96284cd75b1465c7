from itertools import pairwise

import pytest
import torch

from engines.samplers import (
    SAMPLERS,
    STOCHASTIC_SAMPLERS,
    sample_consistency,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
    sample_flow_euler,
)
from engines.schedules import karras_sigmas, spaced_timesteps, trailing_sigmas

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
    photo = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    sigmas = karras_sigmas(0.1, 80.0, steps)
    found = sampler(lambda x, _: photo.expand_as(x), 80 * torch.randn(5, 3, 4, 4, dtype=torch.float64), sigmas, None)
    torch.testing.assert_close(found, photo.expand(5, -1, -1, -1), atol=1e-12, rtol=0)


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


def standard(step):
    return torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("sampler", STOCHASTIC_SAMPLERS.values(), ids=STOCHASTIC_SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_point_mass_is_reached_whatever_noise_is_added(sampler, steps):
    photo = torch.rand(1, 3, 4, 4)
    sigmas = karras_sigmas(0.1, 80.0, steps)
    found = sampler(lambda x, _: photo.expand_as(x), 80 * standard(99), sigmas, standard)
    torch.testing.assert_close(found, photo.expand(5, -1, -1, -1), atol=1e-5, rtol=0)


def test_euler_and_ddim_are_one_curve():
    """Two ways to write it."""
    x, sigmas = torch.randn(2, 3, 4, 4, dtype=torch.float64), karras_sigmas(0.05, 10.0, 9)
    torch.testing.assert_close(sample_euler(gaussian, x, sigmas), sample_ddim(gaussian, x, sigmas))


@pytest.mark.parametrize(("variance", "spread"), [("small", 0.0), ("large", 1.0)])
def test_ddpm_variances_are_exact_for_the_data_they_were_made_for(variance, spread):
    """Ho et al. 2020, section 3.2: the smaller for a point, the larger for unit variance; a step keeps the marginal."""
    sigma, after = 5.0, 2.0

    def denoise(x, level):
        return x * spread**2 / (spread**2 + level.view(-1, 1, 1, 1) ** 2)

    def step(x, n):
        one = torch.full((1, 1, 1, 1), x, dtype=torch.float64)
        return float(sample_ddpm(denoise, one, [sigma, after], lambda _: torch.full_like(one, n), variance=variance))

    marginal = step(1.0, 0.0) ** 2 * (spread**2 + sigma**2) + step(0.0, 1.0) ** 2
    assert marginal == pytest.approx(spread**2 + after**2)


def test_ancestral_steps_are_those_of_the_posterior():
    """Euler ancestral at eta 1 and DDPM with the smaller variance are one sampler."""
    x, sigmas = standard(99), karras_sigmas(0.05, 10.0, 9)
    ddpm, ancestral = (sampler(gaussian, x, sigmas, standard) for sampler in (sample_ddpm, sample_euler_ancestral))
    torch.testing.assert_close(ddpm, ancestral)


def test_ancestral_sampling_keeps_the_spread_of_the_data():
    """Many small steps from N(0, sigma^2 + SPREAD^2) end at N(0, SPREAD^2)."""
    draw = torch.Generator().manual_seed(0)
    x = (100 + SPREAD**2) ** 0.5 * torch.randn(20_000, 1, 1, 1, generator=draw)
    end = sample_euler_ancestral(
        gaussian, x, karras_sigmas(0.02, 10.0, 300), lambda _: torch.randn(20_000, 1, 1, 1, generator=draw)
    )
    assert float(end.std()) == pytest.approx(SPREAD, rel=0.03)


def test_a_consistency_function_is_noised_between_jumps():
    """What a step starts from is the last jump plus noise of the level; the last jump is the result."""
    seen = []

    def jump(x, sigma):
        seen.append(x)
        return 0 * x + float(sigma[0])

    found = sample_consistency(jump, standard(99), [8.0, 3.0, 0.0], standard)
    torch.testing.assert_close(seen[1], 8.0 + 3.0 * standard(0))
    assert (found == 3.0).all()


def test_a_flow_goes_straight():
    """For a single image the velocity is constant along a path, so that one step is as good as many."""
    photo, noise = torch.rand(1, 3, 4, 4), standard(0)
    for levels in ([1.0, 0.0], [1.0, 0.7, 0.2, 0.0]):
        end = sample_flow_euler(lambda x, _: photo.expand_as(x), noise, levels)
        torch.testing.assert_close(end, photo.expand_as(noise), atol=1e-6, rtol=0)
    middle = sample_flow_euler(lambda x, _: photo.expand_as(x), noise, [1.0, 0.4])
    torch.testing.assert_close(middle, 0.6 * photo + 0.4 * noise, atol=1e-6, rtol=0)


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(ValueError, match="1 to 10 steps"):
        spaced_timesteps("leading", 10, 11)

"""Tables are read off the samplers, so what is tested is that running the table is running the sampler."""

from itertools import pairwise

import pytest
import torch

from engines.noise import start_noise, step_noise
from engines.precondition import noise_levels, precondition
from engines.samplers import SAMPLERS, sample_ddim
from engines.schedules import karras_sigmas
from engines.steptable import COLUMNS, run_table, step_noises, step_table, table_steps

LEVELS = noise_levels({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
SIGMAS = karras_sigmas(0.05, 14.0, 6)
SEEDS = [3, 2**40]
SHAPE = (4, 8, 8)


def network(x, t):
    """Neither linear nor blind to t."""
    return torch.tanh(x) * (1 + t.view(-1, 1, 1, 1) / 1000) - 0.1 * x.roll(1, -1)


def start():
    return SIGMAS[0] * start_noise(SEEDS, SHAPE)


def denoiser_of(prediction):
    def made(of_rows):
        denoise = precondition(lambda x, t, _: of_rows(x, t), LEVELS, prediction)
        return lambda x, sigma: denoise(x, sigma, None)

    return made


def ancestral(denoise, x, noise):
    """Euler with noise added again, written down once more here."""
    for step, (sigma, after) in enumerate(pairwise(SIGMAS)):
        clean = denoise(x, x.new_full([len(x)], sigma))
        down, up = after**2 / sigma, after * (1 - (after / sigma) ** 2) ** 0.5
        x = clean + down / sigma * (x - clean) + up * noise(step).to(x)
    return x


def restart(denoise, x, noise):
    """Jumps to the estimate and noises it: the state is forgotten."""
    for step, (sigma, after) in enumerate(pairwise(SIGMAS)):
        x = denoise(x, x.new_full([len(x)], sigma)) + after * noise(step).to(x)
    return x


def of(name):
    return lambda denoise, x, _: SAMPLERS[name](denoise, x, SIGMAS, None)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "sampler", [of("ddim"), of("dpmpp_2m"), ancestral, restart], ids=["ddim", "dpmpp_2m", "ancestral", "restart"]
)
def test_running_the_table_is_running_the_sampler(sampler, prediction):
    """Deterministic of either order, and with noise; whatever the network predicts."""
    noise = step_noises(SEEDS, len(SIGMAS) - 1, SHAPE)
    wanted = sampler(denoiser_of(prediction)(network), start(), lambda step: noise[step])
    table = step_table(SIGMAS, sampler, denoiser_of(prediction))
    found = run_table(table_steps([network] * len(table), noise), start(), table.float())
    assert table.shape == (len(SIGMAS) - 1, len(COLUMNS))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_table_of_ddim_in_closed_form():
    """Keep sigma'/sigma of the state, the rest from the estimate, which for epsilon is x - sigma F."""
    table = step_table(SIGMAS, of("ddim"), denoiser_of("epsilon"))
    sigma, after = (torch.tensor(part, dtype=torch.float64) for part in (SIGMAS[:-1], SIGMAS[1:]))
    one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
    c_in, t = (1 + sigma**2).rsqrt(), LEVELS.timestep(sigma).double()
    wanted = torch.stack([c_in, t, one, -sigma, after / sigma, 1 - after / sigma, zero, zero], 1)
    assert table.dtype == torch.float64
    torch.testing.assert_close(table, wanted, rtol=1e-9, atol=1e-9)


def test_guidance_inside_an_interval():
    """The host knows which steps are guided; the combination is the usual one, of estimates."""
    inside = [0.5 <= sigma <= 8.0 for sigma in SIGMAS[:-1]]

    def null(x, t):
        return network(x, t).flip(-1)

    def guided_sampler(denoise, x, _):
        other = denoiser_of("v_prediction")(null)
        told = lambda y, sigma: torch.lerp(other(y, sigma), denoise(y, sigma), 3.0 if 0.5 <= sigma[0] <= 8.0 else 1.0)  # noqa: E731
        return sample_ddim(told, x, SIGMAS)

    def guided_network(x, t):
        return torch.lerp(null(x, t), network(x, t), 3.0)

    table = step_table(SIGMAS, of("ddim"), denoiser_of("v_prediction")).float()
    wanted = guided_sampler(denoiser_of("v_prediction")(network), start(), None)
    steps = table_steps([guided_network if each else network for each in inside])
    assert len(set(steps)) == 2
    torch.testing.assert_close(run_table(steps, start(), table), wanted, rtol=1e-4, atol=1e-4)


def test_noise_is_drawn_before_and_does_not_depend_on_the_batch():
    together, alone = step_noises(SEEDS, 3, SHAPE), step_noises(SEEDS[1:], 3, SHAPE)
    torch.testing.assert_close(together[:, 1:], alone, rtol=0, atol=0)
    torch.testing.assert_close(together[2], step_noise(SEEDS, 2, SHAPE), rtol=0, atol=0)


def heun(denoise, x, _):
    for sigma, after in pairwise(SIGMAS[:-1]):
        slope = (x - denoise(x, x.new_full([len(x)], sigma))) / sigma
        ahead = x + (after - sigma) * slope
        x = x + (after - sigma) * (slope + (ahead - denoise(ahead, x.new_full([len(x)], after))) / after) / 2
    return x


def three_back(denoise, x, _):
    estimates = []
    for sigma in SIGMAS[:-1]:
        estimates.append(denoise(x, x.new_full([len(x)], sigma)))
        x = 0.5 * x + sum(estimates[-3:])
    return x


@pytest.mark.parametrize(("sampler", "message"), [(heun, "more than once a step"), (three_back, "last two estimates")])
def test_samplers_without_a_table_say_so(sampler, message):
    with pytest.raises(ValueError, match=message):
        step_table(SIGMAS, sampler, denoiser_of("epsilon"))


def test_clipping_has_no_table():
    def clipping(of_rows):
        inner = denoiser_of("epsilon")(of_rows)
        return lambda x, sigma: inner(x, sigma).clamp(-1, 1)

    with pytest.raises(ValueError, match="not affine"):
        step_table(SIGMAS, lambda d, x, _: sample_ddim(d, x, SIGMAS), clipping)

"""Every rule against diffusers' own scheduler, step by step."""

import pytest
import torch

from engines.editing.grid import consistency_times, grid_at, skipping_times
from engines.editing.predictor import Predictor
from engines.editing.steps import Consistency, EditFriendlyDdpm, SdeDpmSolver, rule_note, rule_of
from engines.noise import start_noise, step_noise
from tests.engines.editing.toys import LEVELS, SHAPE

SETTINGS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def answer(x, t, _=None):
    return torch.tanh(1.3 * x + 0.3) + 0.2 * torch.cos(torch.as_tensor(t) / 37).view(-1, 1, 1, 1)


def walked(rule, grid, noise_scale, prediction="epsilon"):
    """Sampling by a rule's means and step noise, all states."""
    predictor = Predictor(answer, prediction)
    x, before, states = start_noise([1, 2], SHAPE), None, []
    for k, t in enumerate(grid.times):
        now = predictor.estimate(x, predictor.output(x, t, None), grid.alpha_bars[k])
        mean = rule.mean(grid, k, x, now, before)
        x, before = mean + noise_scale(k) * step_noise([1, 2], k, SHAPE), now.clean
        states.append(x)
    return states


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_ddpm_is_ddim_with_noise(prediction):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**SETTINGS, clip_sample=False, prediction_type=prediction, set_alpha_to_one=True)
    scheduler.set_timesteps(10)
    times = [int(t) for t in scheduler.timesteps]
    grid = grid_at(times, LEVELS)
    a, b = grid.alpha_bars[:-1], grid.alpha_bars[1:]
    spread = [((1 - b[k]) / (1 - a[k]) * (1 - a[k] / b[k])) ** 0.5 for k in range(10)]
    x = start_noise([1, 2], SHAPE)
    for k, ours in enumerate(walked(EditFriendlyDdpm(), grid, lambda k: spread[k], prediction)):
        x = scheduler.step(
            answer(x, torch.tensor([float(times[k])] * 2)), times[k], x, eta=1.0, variance_noise=step_noise([1, 2], k, SHAPE)
        ).prev_sample
        if k + 1 < 10:  # the scheduler goes on to add noise at its own last step
            torch.testing.assert_close(ours, x, atol=2e-5 * float(x.abs().max()), rtol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sde_solver_is_that_of_diffusers(prediction):
    """Its second-order steps with the same noise at the same timesteps, the first and last of order one."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        **SETTINGS, algorithm_type="sde-dpmsolver++", solver_order=2, solver_type="midpoint", prediction_type=prediction, euler_at_final=True,
        final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(20)
    times = [int(t) for t in scheduler.timesteps]
    grid = grid_at(times, LEVELS)

    def spread(k):
        a, b = grid.alpha_bars[k], grid.alpha_bars[k + 1]
        ratio = (1 - b) * a / ((1 - a) * b)  # exp(-2h)
        return ((1 - b) * (1 - ratio)) ** 0.5

    x = start_noise([1, 2], SHAPE)
    for k, ours in enumerate(walked(SdeDpmSolver(), grid, spread, prediction)):
        said = answer(x, torch.tensor([float(times[k])] * 2))
        x = scheduler.step(said, times[k], x, variance_noise=step_noise([1, 2], k, SHAPE)).prev_sample
        torch.testing.assert_close(ours, x, atol=1e-4 * float(x.abs().max()), rtol=0)


def test_consistency_is_that_of_diffusers():
    from diffusers import LCMScheduler

    scheduler = LCMScheduler(**SETTINGS)
    scheduler.set_timesteps(4)
    grid = grid_at(consistency_times(4), LEVELS)
    x = start_noise([1, 2], SHAPE)
    predictor = Predictor(answer, "epsilon")
    for k, t in enumerate(grid.times):
        now = predictor.estimate(x, predictor.output(x, t, None), grid.alpha_bars[k])
        wanted = scheduler.step(answer(x, torch.tensor([float(t)] * 2)), t, x, generator=torch.Generator().manual_seed(0))
        mean = Consistency().mean(grid, k, x, now, None)
        torch.testing.assert_close(mean / grid.alpha_bars[k + 1] ** 0.5, wanted.denoised, atol=1e-4, rtol=1e-4)
        x = wanted.prev_sample


def test_less_noise_is_ddim_in_the_limit():
    """At eta 0 the mean has the spread of the next state; eta squared scales the variance."""
    grid, x = grid_at(skipping_times(10, 0.1), LEVELS), start_noise([1], SHAPE).double()
    predictor = Predictor(answer, "epsilon")
    now = predictor.estimate(x, predictor.output(x, grid.times[2], None), grid.alpha_bars[2])
    a, b = grid.alpha_bars[2:4]
    mean = EditFriendlyDdpm(eta=0.5).mean(grid, 2, x, now, None)
    variance = 0.25 * (1 - b) / (1 - a) * (1 - a / b)
    torch.testing.assert_close(mean, b**0.5 * now.clean + (1 - b - variance) ** 0.5 * now.noise)


@pytest.mark.parametrize("rule", [EditFriendlyDdpm(0.3), SdeDpmSolver(), Consistency(7.0)])
def test_rules_are_read_back(rule):
    assert rule_of(rule_note(rule)) == rule


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="unknown"):
        rule_of({"name": "euler"})

"""Fitted solvers through plans whose ends are known: what is linear is met exactly, what is not comes closer than the sampler itself."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from engines.fitted import FittedSolver, fit_solver, full_run, likely_levels
from engines.noise import start_noise
from engines.samplers import sample_ddim, sample_dpmpp_2m
from engines.schedules import Trajectory, karras_sigmas
from engines.steptable import run_table, step_table, table_steps

SIGMAS = karras_sigmas(0.05, 14.0, 12)
MODES = torch.tensor([[-1.5], [0.2], [1.0]])
SPREAD = 0.3


def gaussian(x, sigma):
    """The exact denoiser of one bell."""
    return x * SPREAD**2 / (SPREAD**2 + sigma.view(-1, 1, 1, 1) ** 2)


def mixture(x, sigma):
    """The exact denoiser of three bells, number by number: not linear."""
    at = MODES.view(-1, 1, 1, 1, 1)
    variance = SPREAD**2 + sigma.view(1, -1, 1, 1, 1) ** 2
    belongs = torch.softmax(-((x - at) ** 2) / (2 * variance), 0)
    return (belongs * (at + (x - at) * SPREAD**2 / variance)).sum(0)


def runs(denoise, count=4, sample=sample_dpmpp_2m):
    starts = [SIGMAS[0] * start_noise(range(8 * at, 8 * at + 8), (4, 8, 8)) for at in range(count)]
    return [full_run(denoise, start, SIGMAS, sample) for start in starts]


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_a_linear_course_is_met_exactly(steps):
    """States are multiples of one another then, however few of them are visited."""
    assert fit_solver(runs(gaussian), SIGMAS, steps).error < 1e-5


def test_it_ends_closer_than_the_sampler_in_as_many_steps():
    """On runs that it has not seen."""
    full = runs(mixture)

    def plain(run):
        return sample_dpmpp_2m(run.denoise, run.states[0], karras_sigmas(0.05, 14.0, 5))

    fit = fit_solver(full, SIGMAS, 5, plain=plain)
    assert fit.error < fit.plain / 2
    errors = [fit_solver(full, SIGMAS, steps).error for steps in (3, 6, 9, 11)]
    assert errors == sorted(errors, reverse=True)


def test_the_error_is_that_of_the_runs_held_out():
    full = runs(mixture)
    fit = fit_solver(full, SIGMAS, 4, held_out=2)
    again = fit_solver([*full[:2], full[0], full[1]], SIGMAS, 4, held_out=2)
    assert fit.solver == again.solver
    assert fit.error != again.error


def test_the_likely_levels_are_those_that_trying_all_finds():
    """In the same order."""
    vectors = (
        torch.cat([torch.stack([each.flatten() for each in (*run.states, *run.estimates)]) for run in runs(mixture, 1)])
        .double()
        .numpy()
    )
    count = len(SIGMAS) - 1

    def missed(before, at, to):
        columns = [at, count + 1 + at, *([] if before is None else [count + 1 + before])]
        data, wanted = vectors[columns].T, vectors[to]
        rest = wanted - data @ np.linalg.lstsq(data, wanted, rcond=None)[0]
        return rest @ rest / (wanted @ wanted)

    def total(levels):
        return sum(missed(levels[i - 1] if i else None, *pair) for i, pair in enumerate(pairwise(levels)))

    costs = sorted(total((0, *middle, count)) for middle in combinations(range(1, count), 3))
    found = likely_levels(vectors @ vectors.T, count, 4, 10)
    assert len(set(found)) == 10
    np.testing.assert_allclose([total(levels) for levels in found], costs[:10], rtol=1e-2)


def test_more_candidates_do_not_end_further_away():
    """The first is only likely; held-out runs bear it out, up to their own chance."""
    full = runs(mixture)
    one, many = (fit_solver(full, SIGMAS, 4, candidates=count).error for count in (1, 24))
    assert many <= 1.05 * one


def test_it_visits_its_levels_and_tells_them():
    """Some of the plan's sigmas and timesteps; start and end stay the plan's."""
    solver = fit_solver(runs(mixture), SIGMAS, 3).solver
    timesteps = tuple(float(900 - at) for at in range(len(SIGMAS) - 1))
    path = solver.along(Trajectory(tuple(SIGMAS), start=14.1, end=0.9, timesteps=timesteps))
    assert path.sigmas == tuple(SIGMAS[at] for at in solver.levels)
    assert path.timesteps == tuple(timesteps[at] for at in solver.levels[:-1])
    assert (path.start, path.end) == (14.1, 0.9)
    told = []
    solver.sample(mixture, 14.0 * start_noise([1], (4, 8, 8)), path.sigmas, lambda step, sigma, _: told.append((step, sigma)))
    assert told == list(enumerate(path.sigmas[:-1]))
    with pytest.raises(ValueError, match="fitted to 12 steps, the plan has 2"):
        solver.along(Trajectory((3.0, 1.0, 0.0), start=3.0))


def test_it_has_a_table():
    """A whole trajectory of it can be enqueued like any other."""
    solver = fit_solver(runs(mixture), SIGMAS, 4).solver
    sigmas = [SIGMAS[at] for at in solver.levels]
    start = 14.0 * start_noise([1, 2], (4, 8, 8))

    def network(x, t):
        return mixture(x, t)

    table = step_table(sigmas, lambda denoise, x, _: solver.sample(denoise, x, sigmas), lambda of_rows: of_rows)
    ended = run_table(table_steps([network] * solver.steps), start, table.float())
    torch.testing.assert_close(ended, solver.sample(mixture, start, sigmas), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("levels", "weights", "said"),
    [
        ((1, 3), ((1.0, 0.0),), "rise from 0"),
        ((0, 3, 3), ((1.0, 0.0), (1.0, 0.0, 0.0)), "rise from 0"),
        ((0, 3), ((1.0, 0.0, 0.0),), "2 weights for the first"),
        ((0, 2, 3), ((1.0, 0.0), (1.0, 0.0)), "3 for each other"),
        ((0, 3), ((1.0, float("nan")),), "finite"),
    ],
)
def test_what_is_none_is_refused(levels, weights, said):
    with pytest.raises(ValueError, match=said):
        FittedSolver(levels, weights)


@pytest.mark.parametrize("steps", [0, 12, 13])
def test_it_must_be_shorter(steps):
    with pytest.raises(ValueError, match="1 to 11 of its own"):
        fit_solver(runs(gaussian, 2), SIGMAS, steps)


def test_one_run_alone_measures_nothing():
    with pytest.raises(ValueError, match="more runs than the 1"):
        fit_solver(runs(gaussian, 1), SIGMAS, 3)


def test_two_evaluations_a_step_are_refused():
    def heun(denoise, x, sigmas, _):
        for sigma in sigmas[:-1]:
            denoise(x, x.new_full([len(x)], sigma))
            x = denoise(x, x.new_full([len(x)], sigma))
        return x

    with pytest.raises(ValueError, match="one evaluation a step"):
        full_run(gaussian, start_noise([1], (4, 8, 8)), SIGMAS, heun)


def test_other_samplers_can_be_cut_short():
    full = runs(mixture, sample=sample_ddim)
    assert fit_solver(full, SIGMAS, 6).error < 0.05

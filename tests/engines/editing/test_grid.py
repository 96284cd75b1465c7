"""Timesteps that are published, and grids that cannot be."""

from itertools import pairwise

import pytest

from engines.editing.grid import TimeGrid, consistency_times, grid_at, skipping_times, turbo_times
from tests.engines.editing.toys import LEVELS


@pytest.mark.parametrize(("steps", "skip", "first"), [(50, 0.10, 883), (30, 0.15, 842), (20, 0.15, 818), (20, 0.25, 761)])
def test_edits_start_where_leditspp_does(steps, skip, first):
    """Descending to 1, evenly."""
    times = skipping_times(steps, skip)
    assert (times[0], times[-1], len(times)) == (first, 1, steps)
    assert len({early - late for early, late in pairwise(times)}) == 1


def test_few_step_grids_are_those_of_consistency_models():
    from diffusers import LCMScheduler

    assert consistency_times(4) == (999, 759, 499, 259)
    assert consistency_times(8) == (999, 879, 759, 639, 499, 379, 259, 139)
    for steps in (1, 2, 3, 5, 6, 50):
        scheduler = LCMScheduler()
        scheduler.set_timesteps(steps)
        assert consistency_times(steps) == tuple(scheduler.timesteps.tolist())


def test_turbo_grid_is_the_published_one():
    assert turbo_times(3) == (799, 499, 199)
    assert turbo_times(1, 100) == (79,)


@pytest.mark.parametrize("steps", [4, 10, 20])
def test_grids_fit_any_number_of_timesteps(steps):
    for timesteps in (100, 128, 1000, 4000):
        for times in (skipping_times(steps, 0.15, timesteps), consistency_times(steps, timesteps), turbo_times(steps, timesteps)):
            assert 0 <= times[-1] < times[0] < timesteps
            assert len(set(times)) == steps


@pytest.mark.parametrize(
    "make",
    [
        lambda: skipping_times(0, 0.1),
        lambda: skipping_times(20, -0.1),
        lambda: skipping_times(20, 0.15, 20),
        lambda: skipping_times(20, 0.0, 20),
        lambda: consistency_times(51),
        lambda: consistency_times(4, 40),
        lambda: turbo_times(3, 4),
        lambda: grid_at([1000, 1], LEVELS),
        lambda: grid_at([], LEVELS),
        lambda: grid_at([5, 5], LEVELS),
        lambda: TimeGrid((5, 1), (0.5, 0.9), 10),
        lambda: TimeGrid((10, 1), (0.5, 0.9, 1.0), 10),
    ],
)
def test_impossible_grids_are_refused(make):
    with pytest.raises(ValueError, match="step"):
        make()

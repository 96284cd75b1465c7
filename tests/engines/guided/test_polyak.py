"""Steps of Polyak's length: exact where the model is linear, unguided first, and nothing where nothing is needed."""

import math

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.judge import log_odds
from engines.guided.polyak import PolyakOptions, coarse, move, polyak
from tests.engines.guided.vectors import WEIGHT, X, gaussian, judge

OPTIONS = PolyakOptions(kept=200, depth=60, smooth=0.0, longest=math.inf)
TARGETS = torch.tensor([1, 0])


def linear(latents, target):
    odds = (latents * WEIGHT).sum((1, 2, 3)) + 0.2
    return torch.where(target == 1, odds, -odds)


@pytest.mark.parametrize("smooth", [0.0, 0.7, 2.0])
def test_one_whole_step_takes_a_linear_model_to_the_goal(smooth):
    """Along whatever positive definite weighting of the gradient."""
    options = PolyakOptions(kept=200, depth=60, smooth=smooth, longest=math.inf, goal=0.9)
    moved = X + move(linear, X, TARGETS, torch.ones(2), options)
    torch.testing.assert_close(linear(moved, TARGETS), torch.full((2,), math.log(9)), atol=1e-4, rtol=0)


def test_nothing_moves_that_is_there_or_that_no_slope_leads_on():
    sure = PolyakOptions(kept=200, depth=60, goal=0.6)
    far = torch.full_like(X, 50.0) * WEIGHT.sign()
    assert not move(linear, far, torch.tensor([1, 1]), torch.ones(2), sure).any()
    assert not move(lambda x, _: 0 * x.sum((1, 2, 3)) - 3, X, TARGETS, torch.ones(2), sure).any()
    assert not move(linear, X, TARGETS, torch.zeros(2), sure).any()


def test_no_step_is_longer_than_allowed():
    moved = move(linear, X, TARGETS, torch.full((2,), 1e6), PolyakOptions(kept=200, depth=60, longest=0.25))
    torch.testing.assert_close(moved.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.25))


def test_coarse_changes_are_preferred():
    """A gradient of one frequency keeps its shape; of two the finer one loses more."""
    wave = torch.linspace(0, 2 * math.pi, 17)[:16]
    slow, fast = (torch.sin(times * wave).expand(1, 1, 16, 16) for times in (1, 7))
    torch.testing.assert_close(coarse(slow, 1.0), slow / 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(coarse(slow + fast, 1.0), slow / 2 + fast / 8, atol=1e-6, rtol=0)


def test_images_flip_and_the_first_attempt_is_unguided():
    made = polyak(gaussian(), X, TARGETS, Conditioning(rows=2), judge, seeds=[1, 2], options=OPTIONS)
    assert made.success.all()
    assert (made.probability >= 0.5).all()
    assert made.network_rows == 60 * int(made.attempts.sum())
    assert made.floor is not None
    assert not (made.floor == made.images).flatten(1).all(1)[~made.free].any()
    odds = log_odds(judge(made.floor), TARGETS)
    assert ((odds > 0) == made.free).all()  # what flips with nobody to guide it is left at that


def test_an_image_does_not_depend_on_its_batch():
    together = polyak(gaussian(), X, TARGETS, Conditioning(rows=2), judge, seeds=[1, 2], options=OPTIONS)
    for row in (0, 1):
        one = slice(row, row + 1)
        alone = polyak(gaussian(), X[one], TARGETS[one], Conditioning(rows=1), judge, seeds=[row + 1], options=OPTIONS)
        torch.testing.assert_close(alone.images, together.images[one], atol=1.1 / 255, rtol=0)


def test_a_stronger_judge_needs_no_other_scale():
    """Logits ten times as large: still one guided attempt, where a fixed class scale would push ten times as hard."""
    plain, strong = (
        polyak(
            gaussian(), X, TARGETS, Conditioning(rows=2), lambda images, t=times: t * judge(images), seeds=[1, 2], options=OPTIONS
        )
        for times in (1, 10)
    )
    assert strong.success.all()
    assert (strong.images - X / 2 - 0.5).abs().mean() <= (plain.images - X / 2 - 0.5).abs().mean()


@pytest.mark.parametrize("options", [{"depth": 50}, {"strengths": ()}, {"strengths": (0.0,)}, {"goal": 0.4}, {"smooth": -1.0}])
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        PolyakOptions(**options)

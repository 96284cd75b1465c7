"""ACE against the released code's numbers on the substrate in closed form."""

import dataclasses

import pytest
import torch

from engines.guided.ace import AceOptions, AceTask, ace
from engines.guided.chain import Chain
from engines.guided.edits import pixels
from tests.engines.guided.vectors import NOTHING, SHAPE, TARGET, X, gaussian, judge, score

RELEASED = AceOptions(distances=(0.001,), class_weight=0.5)  # the mean over a batch of two


def still(_stream):
    return torch.zeros(2, *SHAPE)


def attack(iterations, options=RELEASED):
    diffusion = gaussian()
    options = dataclasses.replace(options, iterations=iterations)
    return AceTask(
        diffusion=diffusion,
        chain=Chain.of(diffusion, 50),
        x=X,
        target=TARGET,
        cond=NOTHING,
        judge=judge,
        decode=pixels,
        options=options,
    )


def test_the_filter_is_the_released_one():
    torch.testing.assert_close(score(attack(1).filtered(X, still)), torch.tensor([-0.1086, 0.2902]), atol=2e-4, rtol=0)


@pytest.mark.parametrize(("iterations", "logits"), [(5, (0.1538, -0.0378)), (50, (3.1554, -3.0107))])
def test_the_attack_is_the_released_one(iterations, logits):
    task, evaluated = attack(iterations), []
    network = task.diffusion.differentiable

    def counting(*given):
        evaluated.append(given)
        return network(*given)

    task = dataclasses.replace(task, diffusion=dataclasses.replace(task.diffusion, differentiable=counting))
    found = task.attacked(torch.full((2,), 0.001), still)
    assert len(evaluated) == 5 * iterations
    torch.testing.assert_close(score(found), torch.tensor(logits), atol=2e-4, rtol=0)
    if iterations == 50:
        assert float(((found - X) / 2).abs().max()) == pytest.approx(50 / 255, abs=1e-5)
        torch.testing.assert_close(
            found[0].flatten()[:4] / 2 + 0.5, torch.tensor([0.6961, 0.9538, 0.6981, 0.6492]), atol=1e-4, rtol=0
        )


def left(shown):
    """A judge that looks at the left half alone."""
    logit = score((2 * shown - 1) * (torch.arange(4) < 2))
    return torch.stack([-logit / 2, logit / 2], 1)


def test_it_flips_and_keeps_what_it_need_not_change():
    options = AceOptions(iterations=40, dilation=1, threshold=0.5)
    found = ace(gaussian(), X, TARGET, NOTHING, judge, seeds=[1, 2], options=options)
    assert found.success.all()
    assert found.network_rows == int(found.attempts.sum()) * 41 * 5
    one = ace(gaussian(), X[1:], TARGET[1:], NOTHING[torch.tensor([1])], judge, seeds=[2], options=options)
    torch.testing.assert_close(one.images, found.images[1:], atol=1.1 / 255, rtol=0)
    half = ace(gaussian(), X, TARGET, NOTHING, left, seeds=[1, 2], options=options)
    assert half.success.all()
    assert half.mask[..., :2].any()
    assert not half.mask[..., 2:].any()
    torch.testing.assert_close(half.latents[..., 2:], X[..., 2:])

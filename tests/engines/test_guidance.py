import pytest
import torch

from engines.conditioning import Conditioning
from engines.guidance import Guidance, guide


class Recorder:
    """A conditional denoiser whose estimate is its level, and which counts its rows."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, sigma, told):
        assert len(x) == len(sigma) == len(told)
        self.calls.append(len(x))
        return told.tensors["level"][:, :, None, None].expand_as(x)


def run(guidance, sigma):
    denoise, x = Recorder(), torch.randn(len(sigma), 1, 2, 2)
    told, null = Conditioning.of(level=torch.full((len(sigma), 1), 3.0)), Conditioning.of(level=torch.ones(1, 1))
    return guide(denoise, told, null, guidance)(x, torch.tensor(sigma))[:, 0, 0, 0].tolist(), denoise.calls


def test_guidance_extrapolates_from_null_to_context():
    """1 + 4 (3 - 1) = 9, both halves in one call."""
    assert run(Guidance(4.0), [1.0, 2.0]) == ([9.0, 9.0], [4])


def test_outside_the_interval_one_evaluation_a_row():
    """Rows at different levels are treated each by its own level."""
    assert run(Guidance(4.0, 1.0, 2.0), [0.5, 1.5, 5.0]) == ([3.0, 9.0, 3.0], [4])


@pytest.mark.parametrize("guidance", [Guidance(1.0), Guidance(4.0, 7.0, 9.0)])
def test_without_guidance_null_is_never_evaluated(guidance):
    assert run(guidance, [1.0, 2.0]) == ([3.0, 3.0], [2])


def test_cost_is_predicted():
    """What the plan says is what a sampler spends."""
    guidance, sigmas = Guidance(4.0, 1.0, 5.0), [10.0, 5.0, 1.0, 0.5, 0.0]
    spent = sum(run(guidance, [sigma])[1][0] for sigma in sigmas[:-1])
    assert guidance.evaluations(sigmas) == spent == 6


def test_empty_interval_is_refused():
    with pytest.raises(ValueError, match="low <= high"):
        Guidance(2.0, 3.0, 1.0)


def test_without_a_null_condition_there_is_no_guidance():
    """Scale 1 needs none; any other is refused before anything is evaluated."""
    told = Conditioning.of(level=torch.full((2, 1), 3.0))
    assert guide(Recorder(), told, None, Guidance())(torch.zeros(2, 1, 1, 1), torch.ones(2)).flatten().tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="null condition"):
        guide(Recorder(), told, None, Guidance(2.0))

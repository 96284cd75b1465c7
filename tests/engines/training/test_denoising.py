"""Targets and weights against diffusers' schedulers, and against what they mean for the clean image."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from engines.precondition import noise_levels, prediction_of
from engines.training.denoising import min_snr_weight, noising_of, stratified

PREDICTIONS = ("epsilon", "v_prediction", "sample")


@pytest.fixture
def scheduler():
    def make(prediction):
        return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction)

    return make


def process(scheduler):
    config = dict(scheduler.config)
    return noising_of(noise_levels(config), prediction_of(config), torch.device("cpu"))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_noising_and_targets_are_those_of_diffusers(scheduler, prediction):
    """Over the whole schedule."""
    theirs = scheduler(prediction)
    x0, noise = torch.randn(2, 1000, 2, 1, 1)
    t = torch.arange(1000)
    noised, target = process(theirs).noised(x0, noise, t)
    torch.testing.assert_close(noised, theirs.add_noise(x0, noise, t), atol=1e-5, rtol=1e-5)
    wanted = {"epsilon": noise, "v_prediction": theirs.get_velocity(x0, noise, t), "sample": x0}[prediction]
    torch.testing.assert_close(target, wanted, atol=1e-5, rtol=1e-5)


def test_signal_to_noise_is_that_of_diffusers(scheduler):
    """At every timestep."""
    theirs = scheduler("epsilon")
    torch.testing.assert_close(process(theirs).snr, compute_snr(theirs, torch.arange(1000)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_weighted_error_is_min_snr_of_the_clean_image(scheduler, prediction):
    """Whatever the network predicts: an error d of the clean image costs min(SNR, gamma) d^2 (Hang et al. 2023)."""
    ours = process(scheduler(prediction))
    d, t = 0.25, torch.arange(0, 1000, 37)
    # With x_t known, an error d of x_0 is one of -alpha/sigma d of epsilon, and of -1/sigma d of v.
    factor = {"epsilon": ours.alpha / ours.sigma, "v_prediction": 1 / ours.sigma, "sample": torch.ones(1000)}[prediction]
    cost = min_snr_weight(ours, 5.0) * (factor * d).square()
    torch.testing.assert_close(cost[t], ours.snr.clamp(max=5.0)[t] * d * d, rtol=1e-3, atol=0)


def test_without_gamma_all_timesteps_weigh_the_same(scheduler):
    """Ones."""
    assert (min_snr_weight(process(scheduler("epsilon")), None) == 1).all()


def test_pure_noise_has_a_finite_weight(scheduler):
    """With zero terminal SNR, where a quotient would be infinite."""
    ours = process(scheduler("epsilon"))
    pure = replace(ours, alpha=torch.zeros(3), sigma=torch.ones(3))
    assert min_snr_weight(pure, 5.0).tolist() == [1, 1, 1]
    assert min_snr_weight(replace(pure, prediction="v_prediction"), 5.0).tolist() == [0, 0, 0]


def test_every_stratum_has_one_timestep():
    """Four items, four quarters."""
    t = stratified(4, 1000, torch.Generator().manual_seed(0))
    assert (t // 250).tolist() == [0, 1, 2, 3]

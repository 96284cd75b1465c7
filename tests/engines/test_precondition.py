import numpy as np
import pytest
import torch

from engines.conditioning import Conditioning
from engines.errors import UnsupportedPipelineError
from engines.precondition import clipped, consistent, estimates, noise_levels, precondition, prediction_of

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
KINDS = [
    STABLE,
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "sigmoid"},
    {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
]


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("config", KINDS)
def test_levels_are_those_of_diffusers(config, zero_snr):
    """Its alpha bars, computed by its own scheduler, up to its float32; infinite levels are cut."""
    from diffusers import DDPMScheduler

    alpha_bar = DDPMScheduler(**config, rescale_betas_zero_snr=zero_snr).alphas_cumprod.double()
    sigmas = np.array(noise_levels({**config, "rescale_betas_zero_snr": zero_snr}).sigmas)
    np.testing.assert_allclose(1 / (1 + sigmas**2), alpha_bar, rtol=2e-3, atol=2e-7)
    assert np.isfinite(sigmas).all()
    assert (np.diff(sigmas) > 0).all()


def test_a_table_level_is_its_own_timestep():
    """Exactly, although sigma is float32."""
    levels = noise_levels(STABLE)
    assert torch.equal(levels.timestep(torch.tensor(levels.sigmas)), torch.arange(1000.0))


def test_between_levels_time_is_linear_in_log_sigma():
    levels = noise_levels(STABLE)
    between = (levels.sigmas[10] * levels.sigmas[11]) ** 0.5
    assert levels.timestep(torch.tensor([between, 1e-6, 1e6])).tolist() == pytest.approx([10.5, 0.0, 999.0], abs=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_gives_the_same_clean_estimate(prediction):
    """A network that knows the truth yields it, whatever it was trained to say."""
    levels = noise_levels({**STABLE, "rescale_betas_zero_snr": prediction != "epsilon"})
    clean, noise = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    sigma = torch.tensor([levels.sigmas[t] for t in (0, 300, 700, 999)])

    def network(x, t, _):
        alpha = (1 / (1 + sigma**2)).sqrt().view(-1, 1, 1, 1)
        spread = alpha * sigma.view(-1, 1, 1, 1)
        torch.testing.assert_close(x, alpha * clean + spread * noise, atol=1e-4, rtol=1e-4)
        assert t.tolist() == [0, 300, 700, 999]
        return {"epsilon": noise, "sample": clean, "v_prediction": alpha * noise - spread * clean}[prediction]

    found = precondition(network, levels, prediction)(clean + sigma.view(-1, 1, 1, 1) * noise, sigma, Conditioning(rows=4))
    torch.testing.assert_close(found, clean, atol=2e-3, rtol=1e-3)


def test_epsilon_at_zero_signal_is_refused():
    with pytest.raises(UnsupportedPipelineError, match="v_prediction"):
        prediction_of({"prediction_type": "epsilon", "rescale_betas_zero_snr": True})


@pytest.mark.parametrize(
    ("config", "message"), [({"beta_schedule": "exp"}, "beta_schedule"), ({"prediction_type": "flow"}, "prediction_type")]
)
def test_unknown_schedules_are_named(config, message):
    read = noise_levels if "beta_schedule" in config else prediction_of
    with pytest.raises(UnsupportedPipelineError, match=message):
        read(config)


def test_a_decreed_timestep_holds_at_its_level_and_nowhere_else():
    """Pairs that the table has are not kept; those that it has otherwise win where they were decreed."""
    levels = noise_levels(STABLE)
    told = levels.visiting([(667.0, levels.sigmas[667]), (500.0, levels.sigmas[501] * 0.9999), (0.0, levels.sigmas[3])])
    assert len(told.visited) == 2
    asked = torch.tensor([levels.sigmas[667], levels.sigmas[501] * 0.9999, levels.sigmas[3], levels.sigmas[501]])
    assert told.timestep(asked).tolist() == pytest.approx([667.0, 500.0, 0.0, 501.0])


def test_clean_estimates_are_clipped():
    denoise = clipped(lambda x, _: x, 0.5)
    assert denoise(torch.tensor([[-2.0, 0.1, 0.7]]), torch.ones(1)).tolist() == [[-0.5, pytest.approx(0.1), 0.5]]


def test_a_consistency_function_is_the_identity_at_no_noise():
    """At the first timestep it hands on what it is given, scaled to unit variance; far from it, the denoiser's estimate."""
    levels, x = noise_levels(STABLE), torch.randn(2, 3, 2, 2)
    sigma = torch.tensor([levels.sigmas[0], levels.sigmas[999]])
    found = consistent(lambda x, _: torch.zeros_like(x) + 5.0, levels, 10.0)(x, sigma)
    torch.testing.assert_close(found[0], x[0] / (1 + sigma[0] ** 2).sqrt())
    torch.testing.assert_close(found[1], torch.full_like(x[1], 5.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_outputs_mean_noise_and_clean_data(prediction):
    """Of a network that knows the truth, at a level of its own for every row."""
    clean, noise, alpha_bar = torch.randn(3, 2, 2, 2), torch.randn(3, 2, 2, 2), torch.tensor([0.9, 0.5, 0.1])
    alpha, sigma = alpha_bar.sqrt().view(-1, 1, 1, 1), (1 - alpha_bar).sqrt().view(-1, 1, 1, 1)
    out = {"epsilon": noise, "sample": clean, "v_prediction": alpha * noise - sigma * clean}[prediction]
    found = estimates(prediction, alpha * clean + sigma * noise, out, alpha_bar)
    for ours, right in zip(found, (noise, clean), strict=True):
        torch.testing.assert_close(ours, right, atol=1e-5, rtol=1e-5)

import numpy as np
import pytest
import torch

from engines.conditioning import Conditioning
from engines.errors import UnsupportedPipelineError
from engines.precondition import noise_levels, precondition, prediction_of

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
KINDS = [
    STABLE,
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
]


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("config", KINDS)
def test_levels_are_those_of_diffusers(config, zero_snr):
    """Its alpha bars, computed by its own scheduler, up to its float32; infinite levels are cut."""
    from diffusers import DDIMScheduler

    alpha_bar = DDIMScheduler(**config, rescale_betas_zero_snr=zero_snr).alphas_cumprod.double()
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

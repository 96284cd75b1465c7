"""Our steps against diffusers' own schedulers: the same network, the same noise, step by step."""

import inspect
import sys

import pytest
import torch

from engines.conditioning import Conditioning
from engines.course import Course, check_plan
from engines.errors import PipelineError, UnsupportedPipelineError
from engines.noise import start_noise, step_noise
from engines.pipelines.native import NATIVE
from engines.pipelines.schedulers import DEFAULTS, LEVELS_ONLY, read_scheduler
from engines.plan import SamplingPlan
from engines.precondition import noise_levels, prediction_of
from engines.process import Diffusing, Flowing

SHAPE, SEEDS = (3, 4, 4), (5, 2**63 + 1)
STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PIXELS = {"beta_start": 0.0001, "beta_end": 0.02}
V_ZERO = {**STABLE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}

CASES = [
    ("DDIMScheduler", "ddim", 5, {**STABLE, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    ("DDIMScheduler", "ddim", 4, {**V_ZERO, "clip_sample": False, "timestep_spacing": "trailing"}),
    ("DDIMScheduler", "ddim", 10, {**PIXELS, "prediction_type": "sample", "clip_sample": False}),
    ("DDPMScheduler", "ddpm", 10, PIXELS),
    ("DDPMScheduler", "ddpm", 7, {**PIXELS, "variance_type": "fixed_large", "clip_sample": False}),
    ("DDPMScheduler", "ddpm", 6, {**PIXELS, "timestep_spacing": "linspace", "clip_sample_range": 2.0, "beta_schedule": "sigmoid"}),
    ("DDPMScheduler", "ddpm", 8, {**PIXELS, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    ("EulerDiscreteScheduler", "euler", 7, {**STABLE, "timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerDiscreteScheduler", "euler", 9, STABLE),
    ("EulerDiscreteScheduler", "euler", 1, {**STABLE, "timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", "euler", 6, {**STABLE, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}),
    ("EulerDiscreteScheduler", "euler", 6, {**STABLE, "use_exponential_sigmas": True, "sigma_min": 0.05, "sigma_max": 12.0}),
    ("EulerDiscreteScheduler", "euler", 4, {**V_ZERO, "timestep_spacing": "trailing"}),
    ("EulerAncestralDiscreteScheduler", "euler_ancestral", 4, {**STABLE, "timestep_spacing": "trailing"}),
    ("EulerAncestralDiscreteScheduler", "euler_ancestral", 7, {**STABLE, "prediction_type": "v_prediction"}),
    ("EulerAncestralDiscreteScheduler", "euler_ancestral", 5, {**STABLE, "timestep_spacing": "leading", "steps_offset": 1}),
    ("LCMScheduler", "lcm", 4, {}),
    ("LCMScheduler", "lcm", 1, {"timestep_scaling": 3.0}),
    ("LCMScheduler", "lcm", 7, {"prediction_type": "v_prediction", "clip_sample": True, "original_inference_steps": 40}),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", 8, STABLE),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", 8, {**STABLE, "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", 20, {**STABLE, "timestep_spacing": "leading", "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", 9, {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}),
    ("DPMSolverMultistepScheduler", "dpmpp_2m", 5, {**V_ZERO, "timestep_spacing": "trailing"}),
    ("FlowMatchEulerDiscreteScheduler", "flow_euler", 6, {"shift": 3.0}),
    ("FlowMatchEulerDiscreteScheduler", "flow_euler", 5, {"use_dynamic_shifting": True, "shift_terminal": 0.02}),
    ("FlowMatchEulerDiscreteScheduler", "flow_euler", 5, {"use_dynamic_shifting": True, "time_shift_type": "linear"}),
]  # fmt: skip


def network(x, t):
    """Bounded, with a mind of its own about the timestep."""
    return torch.tanh(1.3 * x + 0.3) + 0.2 * torch.cos(t / 37).view(-1, 1, 1, 1)


def theirs(name, settings, steps, tokens, monkeypatch):
    import diffusers

    scheduler = getattr(diffusers, name)(**settings)
    drawn = iter(range(steps))
    noise = lambda *_, **__: step_noise(SEEDS, next(drawn), SHAPE)  # noqa: E731
    monkeypatch.setattr(sys.modules[type(scheduler).__module__], "randn_tensor", noise, raising=False)
    extra = {"mu": 0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256)} if settings.get("use_dynamic_shifting") else {}
    scheduler.set_timesteps(steps, **extra)
    x = start_noise(SEEDS, SHAPE) * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        asked = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(asked, t.float().expand(2)), t, x).prev_sample
    return x


def course(name, settings, tokens=256):
    scheduler = read_scheduler({"_class_name": name, **settings})
    process = Flowing() if scheduler.flowing else Diffusing(noise_levels(scheduler.settings), prediction_of(scheduler.settings))
    return Course(network=lambda x, t, _: network(x, t), process=process, scheduler=scheduler, tokens=tokens)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
@pytest.mark.parametrize(("name", "sampler", "steps", "settings"), CASES)
def test_steps_are_those_of_diffusers(name, sampler, steps, settings, monkeypatch):
    """To the rounding of its float32 tables; at zero terminal SNR sigma is cut at 4096, which costs a little more."""
    plan = SamplingPlan(steps=steps, sampler=sampler, schedule="native", guidance=1.0)
    ours = course(name, settings)
    x = ours.path(plan).start * start_noise(SEEDS, SHAPE)
    found = ours.draw(plan, ours.denoiser(plan, Conditioning(rows=2), None), x, lambda step: step_noise(SEEDS, step, SHAPE))
    wanted = theirs(name, settings, steps, 256, monkeypatch)
    tolerance = 1e-3 if settings.get("rescale_betas_zero_snr") else 1e-5
    torch.testing.assert_close(found, wanted, atol=tolerance * float(wanted.abs().max()), rtol=0)


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_configuration_leaves_out_is_what_the_class_assumes(name):
    import diffusers

    assumed = {key: each.default for key, each in inspect.signature(getattr(diffusers, name).__init__).parameters.items()}
    assert {key: assumed[key] for key in DEFAULTS[name]} == dict(DEFAULTS[name])


@pytest.mark.parametrize("name", LEVELS_ONLY)
def test_classes_without_steps_of_their_own_here_still_have_levels(name):
    """Drawn by trailing or Karras levels; asked for its own steps, the answer says who has them."""
    import diffusers

    assert hasattr(diffusers, name)
    ours = course(name, STABLE)
    assert len(ours.path(SamplingPlan(steps=3)).sigmas) == 4
    with pytest.raises(UnsupportedPipelineError, match=f"{name}.*EulerDiscreteScheduler"):
        ours.path(SamplingPlan(steps=3, schedule="native"))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("TCDScheduler", {}, "TCDScheduler is not supported"),
        ("EDMEulerScheduler", {}, "EDMEulerScheduler is not supported"),
        ("DDIMScheduler", {"thresholding": True}, "thresholding to True"),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous"}, "timestep_type"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "use_flow_sigmas"),
        ("UniPCMultistepScheduler", {"thresholding": True}, "thresholding to True"),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, "stochastic_sampling"),
    ],
)
def test_what_would_be_drawn_otherwise_is_refused_by_name(name, settings, message):
    with pytest.raises(UnsupportedPipelineError, match=message):
        read_scheduler({"_class_name": name, **settings})


@pytest.mark.parametrize(
    ("name", "steps", "settings", "message"),
    [
        ("LCMScheduler", 51, {}, "1 to 50 steps"),
        ("EulerDiscreteScheduler", 8, {"interpolation_type": "log_linear"}, "interpolation_type.*use schedule trailing"),
        ("EulerDiscreteScheduler", 8, {"use_beta_sigmas": True}, "use_beta_sigmas"),
        ("DPMSolverMultistepScheduler", 8, {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type"),
        ("DPMSolverMultistepScheduler", 8, {"solver_order": 3}, "solver_order"),
        ("DDPMScheduler", 8, {"variance_type": "fixed_large_log"}, "variance_type"),
        ("DDIMScheduler", 1000, {"steps_offset": 1}, "past the last timestep"),
        ("DPMSolverMultistepScheduler", 8, {"final_sigmas_type": "sigma_min"}, "at least 15 steps"),
        ("DPMSolverMultistepScheduler", 8, {"use_exponential_sigmas": True}, "schedule karras"),
        ("FlowMatchEulerDiscreteScheduler", 8, {"use_karras_sigmas": True}, "use_karras_sigmas"),
    ],
)
def test_steps_that_a_class_cannot_take_are_refused(name, steps, settings, message):
    with pytest.raises(UnsupportedPipelineError, match=message):
        course(name, settings).path(SamplingPlan(steps=steps, schedule="native"))


@pytest.mark.parametrize(
    ("process", "plan", "known", "message"),
    [
        (Flowing(), {"sampler": "ddim", "schedule": "native"}, {}, "flow_euler"),
        (Flowing(), {"sampler": "flow_euler"}, {}, "schedule native"),
        (None, {"sampler": "flow_euler", "schedule": "native"}, {}, "flow_euler"),
        (None, {"guidance_interval": (0.1, 1.0)}, {"distilled": True}, "guidance_interval"),
        (None, {}, {"guided": False}, "null_class"),
    ],
)
def test_plans_that_a_network_cannot_follow_are_refused(process, plan, known, message):
    with pytest.raises(PipelineError, match=message):
        check_plan(SamplingPlan(**plan), process, **{"distilled": False, "guided": True, **known})


@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler"])
def test_settings_of_other_classes_are_left_alone(name):
    """Configurations carry them along; the class does not look at them, so neither do we."""
    found = read_scheduler({"_class_name": name, **STABLE, "clip_sample": True, "solver_order": 3, "skip_prk_steps": True})
    assert found.clip is None
    assert read_scheduler({"_class_name": "DDIMScheduler", "clip_sample_range": 2.0}).clip == 2.0


def test_every_known_class_has_steps_or_is_a_flow():
    assert set(DEFAULTS) == {*NATIVE, "FlowMatchEulerDiscreteScheduler"}


def test_trailing_and_karras_plans_need_no_class_of_their_own():
    """A directory's levels are enough; they start from the marginal and end clean."""
    path = course("PNDMScheduler", STABLE).path(SamplingPlan(steps=4))
    assert path.start == pytest.approx((1 + path.sigmas[0] ** 2) ** 0.5)
    assert (path.sigmas[-1], path.end, path.timesteps) == (0.0, 1.0, ())

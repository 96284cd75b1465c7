"""The class that algorithms see, against diffusers' schedulers, closed forms, and the pipeline it belongs to."""

import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.conditioning import Conditioning
from engines.course import Course
from engines.diffusion import Diffusion
from engines.errors import UnsupportedPipelineError
from engines.inversion import invert_ddim
from engines.noise import start_noise, step_noise
from engines.pipeline import load_pipeline
from engines.pipelines.schedulers import read_scheduler
from engines.plan import SamplingPlan
from engines.precondition import noise_levels, prediction_of
from engines.process import Diffusing
from engines.spec import EngineSpec, Profile, TensorSpec

SHAPE = (3, 4, 4)
NOTHING = Conditioning(rows=3)
TIMES = [0, 400, 999]
PLAN = SamplingPlan(steps=40, sampler="ddim", guidance=1.0)


def network(x, t, _):
    return torch.tanh(1.3 * x + 0.3) + 0.2 * torch.cos(t / 37).view(-1, 1, 1, 1)


def diffusion(answer=network, **settings):
    scheduler = read_scheduler({"_class_name": "DDPMScheduler", "clip_sample": False, **settings})
    process = Diffusing(noise_levels(scheduler.settings), prediction_of(scheduler.settings))
    course = Course(network=answer, process=process, scheduler=scheduler, tokens=16)
    return Diffusion(
        course=course, levels=process.levels, prediction=process.prediction, differentiable=answer, device=torch.device("cpu")
    )


@pytest.fixture
def x():
    return start_noise([1, 2, 3], SHAPE)


def test_noising_is_that_of_diffusers(x):
    """Every row at its own timestep."""
    from diffusers import DDPMScheduler

    noise = start_noise([4, 5, 6], SHAPE)
    wanted = DDPMScheduler().add_noise(x, noise, torch.tensor(TIMES))
    torch.testing.assert_close(diffusion().noised(x, TIMES, noise), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(diffusion().noised(x, torch.tensor(TIMES), noise), wanted, atol=1e-5, rtol=0)
    assert torch.equal(diffusion().noised(x, -1, noise), x)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_steps_are_those_of_diffusers(x, prediction, clip, eta):
    """DDIM without noise, and with it the same step at eta 1; rows at different timesteps as each alone."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=clip)
    scheduler.set_timesteps(10)
    ours, noise = diffusion(prediction_type=prediction, clip_sample=clip), step_noise([1, 2, 3], 0, SHAPE)
    found = ours.step(x, [100, 400, 900], [0, 300, 800], NOTHING, noise if eta else None)
    for row, t in enumerate((100, 400, 900)):
        one = x[row : row + 1]
        wanted = scheduler.step(
            network(one, torch.tensor([float(t)]), None), t, one, eta=eta, use_clipped_model_output=True,
            variance_noise=noise[row : row + 1] if eta else None,
        ).prev_sample  # fmt: skip
        torch.testing.assert_close(found[row : row + 1], wanted, atol=2e-5 * float(wanted.abs().max()), rtol=0)


def test_noise_and_clean_estimate_make_up_the_state(x):
    """x_t = sqrt(alpha bar) x0 + sqrt(1 - alpha bar) eps, whatever the network says."""
    ours = diffusion(prediction_type="v_prediction")
    torch.testing.assert_close(ours.noised(ours.x0(x, TIMES, NOTHING), TIMES, ours.eps(x, TIMES, NOTHING)), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("times", [[0, 1], [0, 1, 1000], [0, -2, 3]])
def test_timesteps_that_are_not_there_are_refused(x, times):
    with pytest.raises(ValueError, match="-1 to 999"):
        diffusion().eps(x, times, NOTHING)


class Half(nn.Module):
    """The guided graph of a network that answers x / 2: everything in closed form."""

    def forward(self, x, t, alpha_bar, target, weight):
        k = ((1 - (1 - alpha_bar).sqrt() / 2) / alpha_bar.sqrt()).view(-1, 1, 1, 1)
        error = k * x - target
        return error.square().sum((1, 2, 3)), x / 2, k * x, 2 * weight.view(-1, 1, 1, 1) * k * error


def test_guidance_by_autograd_and_by_an_engine_is_the_closed_form(x):
    """A network that says x/2 makes the clean estimate k x, and the gradient of weight |k x - target|^2 is 2 weight k (k x - target)."""
    ours = diffusion(lambda x, *_: x / 2).judged(lambda clean, target: (clean - target).square().sum((1, 2, 3)))
    target, weight = start_noise([7, 8, 9], SHAPE), torch.tensor([0.0, 1.0, 3.0])
    found = ours.guided(x, TIMES, NOTHING, target, weight)
    engine = EagerBackend().build(Half(), guided_spec())
    wanted = ours.judged(None, engine).guided(x, TIMES, NOTHING, target, weight)
    for name in ("eps", "x0", "loss", "grad"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=2e-4, atol=1e-4)
    assert not found.grad[0].any()


def guided_spec():
    image, row = ("B", *SHAPE), ("B",)
    shapes = {"x": image, "t": row, "alpha_bar": row, "target": image, "weight": row}
    outs = {"loss": row, "noise": image, "clean": image, "slope": image}
    return EngineSpec(
        name="guided", kind="guided", model_hash="0" * 64, profile=Profile(1, 4, 8), gradients=("slope",),
        inputs=tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items()),
        outputs=tuple(TensorSpec(name, "float32", shape) for name, shape in outs.items()),
    )  # fmt: skip


def test_without_a_judge_there_is_nothing_to_guide_towards(x):
    with pytest.raises(UnsupportedPipelineError, match="judge"):
        diffusion().guided(x, 0, NOTHING, x, torch.ones(3))


def test_inversion_is_that_of_diffusers(x):
    """Its inverse scheduler, over the same timesteps."""
    from diffusers import DDIMInverseScheduler

    scheduler = DDIMInverseScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    wanted = x
    for t in scheduler.timesteps:
        wanted = scheduler.step(network(wanted, t.float().expand(3), None), t, wanted).prev_sample
    found = diffusion().invert(x, SamplingPlan(steps=10, sampler="ddim", guidance=1.0), NOTHING)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_refined_inversion_is_the_inverse_of_sampling(x):
    """The fixed point is exact; without refinement the way back misses by what a step is long."""
    ours = diffusion()
    start = ours.sample(x, PLAN, NOTHING)

    def miss(refine):
        return float((ours.sample(ours.invert(start, PLAN, NOTHING, refine=refine), PLAN, NOTHING) - start).abs().max())

    assert miss(30) < 1e-3 < miss(0)


def test_inverting_towards_a_point_mass_finds_its_noise():
    """If the data are a single image, every path through it is a straight line in sigma."""
    photo, noise = torch.rand(1, *SHAPE), torch.randn(2, *SHAPE)
    low = photo + 0.1 * noise
    found = invert_ddim(lambda x, _: photo.expand_as(x), low, [10.0, 1.0, 0.1], refine=200)
    torch.testing.assert_close(found, photo + 10.0 * noise, rtol=1e-3, atol=1e-3)


def test_stochastic_samplers_want_their_noise(x):
    with pytest.raises(ValueError, match="adds noise"):
        diffusion().sample(x, SamplingPlan(steps=2, sampler="ddpm", guidance=1.0), NOTHING)


@pytest.mark.parametrize(("name", "asked"), [("stable_diffusion_xl", ["a red circle", "a photo"]), ("ddpm", None)])
def test_a_pipeline_and_its_diffusion_draw_the_same(family_directory, name, asked):
    """By its plan, from the same noise."""
    pipeline = load_pipeline(family_directory(name), backend="torch", steps=3)
    ours = pipeline.diffusion
    found = ours.sample(
        start_noise([3, 4], pipeline.latent_shape), pipeline.plan, pipeline.told(asked, 2), null=pipeline.null,
        noise=lambda step: step_noise([3, 4], step, pipeline.latent_shape),
    )  # fmt: skip
    torch.testing.assert_close(found, pipeline.draw(asked, [3, 4]), rtol=1e-5, atol=1e-5)


def test_gradients_through_a_real_network_are_slopes(family_directory):
    """Along a random direction, by central differences; the weight scales them, and rows do not mix."""
    pipeline = load_pipeline(family_directory("stable_diffusion_2"), backend="torch")
    ours = pipeline.diffusion.judged(lambda clean, target: (clean - target).square().mean((1, 2, 3)))
    x, target = start_noise([1, 2], pipeline.latent_shape), start_noise([3, 4], pipeline.latent_shape)
    told, weight = pipeline.told(["a photo", "a red circle"]), torch.tensor([1.0, 2.0])
    found, way = ours.guided(x, [300, 700], told, target, weight), start_noise([5, 6], pipeline.latent_shape)
    ahead, behind = (ours.guided(x + h * way, [300, 700], told, target, weight).loss for h in (1e-2, -1e-2))
    slope = weight * (ahead - behind) / 2e-2
    torch.testing.assert_close((found.grad * way).sum((1, 2, 3)), slope, rtol=2e-2, atol=1e-3)
    alone = ours.guided(x[1:], 700, told[1:], target[1:], weight[1:])
    torch.testing.assert_close(alone.grad, found.grad[1:], rtol=1e-4, atol=1e-5)


def test_a_flow_has_a_velocity_and_no_timesteps_of_diffusion(family_directory):
    """The transformer's own answer at 1000 s, from which the clean estimate follows; each family says which it has."""
    pipeline = load_pipeline(family_directory("stable_diffusion_3"), backend="torch", steps=2)
    x, s, told = start_noise([1, 2], pipeline.latent_shape), torch.tensor([0.3, 1.0]), pipeline.told(["a photo", "a circle"])
    velocity = pipeline.velocity(x, s, told)
    transformer = pipeline.differentiable(x, 1000 * s, told)
    torch.testing.assert_close(velocity, transformer, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pipeline.conditional(x, s, told), x - s.view(-1, 1, 1, 1) * velocity, rtol=1e-5, atol=1e-5)
    with pytest.raises(UnsupportedPipelineError, match="flow"):
        _ = pipeline.diffusion
    with pytest.raises(UnsupportedPipelineError, match="use its diffusion"):
        _ = load_pipeline(family_directory("ddpm"), backend="torch").velocity

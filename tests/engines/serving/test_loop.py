"""The loop that runs inside Triton, on NumPy's and on torch's arrays, against the samplers of the package."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from engines.conditioning import Conditioning
from engines.guidance import Guidance, guide
from engines.noise import start_noise
from engines.precondition import noise_levels
from engines.samplers import SAMPLERS
from engines.schedules import karras_sigmas, trailing_sigmas
from engines.serving.models.audit_loop import noise, sampling
from engines.serving.models.audit_loop.comparison import compared, plans
from engines.serving.models.audit_loop.drawing import Drawing
from engines.serving.models.audit_loop.plan import RequestError, read_plan
from engines.serving.models.audit_loop.steering import cotangents

LEVELS = noise_levels({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
TABLE = LEVELS.sigmas
SHAPE = (2, 4, 4)
REFERENCE = {
    "sigmas": trailing_sigmas(TABLE, 4), "timesteps": [], "start": 0.0, "end": 1.0, "sampler": "dpmpp_2m", "guidance": 3.0,
    "guidance_interval": None,
}  # fmt: skip
SETTINGS = {
    "models": {"denoiser": "d", "vae_decoder": "v", "vae_encoder": "e", "vae_decoder_vjp": "w", "classifier_vjp": "c"},
    "levels": list(TABLE), "log_levels": LEVELS.log_sigmas.tolist(), "prediction": "epsilon", "reference": REFERENCE, "clip": None,
    "latent": SHAPE, "told": ["context"], "classes": 2, "scores": "logits", "engine_key": "k", "rows": 8, "arrays": "cpu",
}  # fmt: skip
NULL = {"context": np.zeros((1, 1, 2), np.float32)}


def network(x, t, context):
    """Depends on everything, is not linear, and runs on both kinds of arrays."""
    t = t.reshape(-1, 1, 1, 1)
    return x / (1 + x**2) + 0.1 * context[:, :, :, None].sum(1)[:, :, :, None] - t / 2000


def decode(latents):
    return latents[:, [0, 1, 0]] * 0.3


@dataclass
class Local:
    """Models that are functions; the classifier is linear in the image's mean colour."""

    torch: bool
    weight = np.array([[1.0, -1.0], [0.5, 0.2], [-0.3, 0.8]], np.float32)

    def call(self, model, feeds, output):
        if model == "d":
            return network(feeds["sample"], feeds["t"], feeds["context"])
        if model == "v":
            return decode(feeds["latents"])
        if model == "e":
            return feeds["images"][:, :2]
        return self.place(self.gradient(model, {name: self.host(value) for name, value in feeds.items()}, output))

    def gradient(self, model, feeds, output):
        if model == "w":
            both = 0.3 * feeds["cotangent"]
            return np.stack([both[:, 0] + both[:, 2], both[:, 1]], 1)
        if output == "scores":
            return feeds["image"].mean((2, 3)) @ self.weight
        return np.broadcast_to((feeds["cotangent"] @ self.weight.T)[:, :, None, None] / 16, feeds["image"].shape).copy()

    def host(self, value):
        return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)

    def place(self, value):
        return torch.from_numpy(np.ascontiguousarray(value)) if self.torch else np.asarray(value)

    def join(self, parts):
        return torch.cat(parts) if self.torch else np.concatenate(parts)


@dataclass
class Sent:
    calls: Local
    values: dict

    def array(self, name):
        return None if name not in self.values else self.calls.place(self.values[name])

    def host(self, name):
        return self.values.get(name)

    def text(self, name):
        return json.dumps(self.values[name]) if name in self.values else ""


def draw(on_torch=False, null=NULL, **values):
    calls = Local(on_torch)
    outputs = Drawing(SETTINGS, null, calls, Sent(calls, values)).outputs()
    return {name: value if isinstance(value, str) else calls.host(value) for name, value in outputs.items()}


SEEDS = np.array([3, 2**63 + 5, 7], np.uint64)
CONTEXT = np.random.default_rng(0).normal(size=(3, 1, 2)).astype(np.float32)


def expected(sampler="dpmpp_2m", sigmas=None, guidance=3.0, interval=(), x=None):
    """By the package's own functions, in torch."""
    sigmas = sigmas or trailing_sigmas(TABLE, 4)

    def denoise(x, sigma, told):
        s = sigma.view(-1, 1, 1, 1)
        return x - s * network(x / (1 + s**2).sqrt(), LEVELS.timestep(sigma), told.tensors["context"])

    told, null = (Conditioning.of(context=torch.from_numpy(value)) for value in (CONTEXT, NULL["context"]))
    start = float(np.hypot(1, sigmas[0])) * start_noise(SEEDS.tolist(), SHAPE) if x is None else x
    return SAMPLERS[sampler](guide(denoise, told, null, Guidance(guidance, *interval)), start, sigmas, None).numpy()


@pytest.mark.parametrize("on_torch", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("plan", "options"),
    [
        ({}, {}),
        ({"sampler": "ddim"}, {"sampler": "ddim"}),
        ({"sampler": "euler", "steps": 6}, {"sampler": "euler", "sigmas": trailing_sigmas(TABLE, 6)}),
        ({"steps": 5, "schedule": "karras"}, {"sigmas": karras_sigmas(TABLE[0], TABLE[-1], 5)}),
        ({"sigmas": [9.0, 2.0, 0.4, 0.1]}, {"sigmas": [9.0, 2.0, 0.4, 0.1]}),
        ({"guidance": 1.0}, {"guidance": 1.0}),
        ({"guidance": 5.0, "guidance_interval": [0.5, 3.0]}, {"guidance": 5.0, "interval": (0.5, 3.0)}),
    ],
)
def test_the_loop_is_the_packages_sampler(plan, options, on_torch):
    """Every plan, from seeds, on both kinds of arrays."""
    found = draw(on_torch, seeds=SEEDS, context=CONTEXT, plan=plan)
    np.testing.assert_allclose(found["latents"], expected(**options), atol=2e-5)
    np.testing.assert_allclose(found["image"], (decode(found["latents"]) / 2 + 0.5).clip(0, 1), atol=1e-6)


def test_latents_and_images_are_starts_too():
    """An image starts at the level that the plan does not skip, with the noise of its seed."""
    sigmas, noises = trailing_sigmas(TABLE, 4)[2:], start_noise(SEEDS.tolist(), SHAPE)
    image = np.random.default_rng(1).random((3, 3, 4, 4), np.float32)
    noisy = torch.from_numpy(image[:, :2] * 2 - 1) + sigmas[0] * noises
    for sent in ({"image": image, "seeds": SEEDS}, {"latents": noisy.numpy()}):
        found = draw(context=CONTEXT, plan={"skip": 2}, **sent)
        np.testing.assert_allclose(found["latents"], expected(sigmas=sigmas, x=noisy), atol=2e-5)


def test_noise_is_that_of_the_package():
    np.testing.assert_array_equal(noise.start_noise(SEEDS, SHAPE), start_noise(SEEDS.tolist(), SHAPE).numpy())


@pytest.mark.parametrize("sigma", [1e-4, TABLE[0], 0.3, TABLE[500], 7.123, TABLE[-1], 1e4])
def test_timesteps_are_those_of_the_package(sigma):
    found = sampling.timestep(LEVELS.log_sigmas.tolist(), sigma)
    assert found == pytest.approx(float(LEVELS.timestep(torch.tensor([sigma], dtype=torch.float64))), abs=1e-4)


def test_decreed_timesteps_are_told():
    """Schedulers may tell the network other timesteps than the table of levels."""
    told = []
    plan = read_plan("", {**REFERENCE, "timesteps": [900.0, 600.0, 300.0, 1.0]}, TABLE)
    denoise = sampling.denoiser(lambda x, t, _: told.append(t) or x, plan, LEVELS.log_sigmas.tolist(), "epsilon")
    sampling.sample_ddim(lambda x, sigma: denoise(x, sigma, {}), np.ones((1, 1, 1, 1), np.float32), plan.sigmas, lambda *_: None)
    assert told == [900.0, 600.0, 300.0, 1.0]


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions_give_the_same_clean_estimate(prediction):
    """The network that predicts them for a known picture: the estimate is the picture."""
    sigma, clean, noisy = 2.0, np.float32(0.7), np.float32(0.7 + 2.0 * 0.4)
    alpha, beta = 1 / np.sqrt(1 + sigma**2), sigma / np.sqrt(1 + sigma**2)
    answer = {"v_prediction": alpha * 0.4 - beta * clean, "sample": clean}[prediction]
    denoise = sampling.denoiser(
        lambda *_: np.float32(answer), read_plan("", REFERENCE, TABLE), LEVELS.log_sigmas.tolist(), prediction
    )
    assert denoise(noisy, sigma, {}) == pytest.approx(clean, abs=1e-6)


def test_the_trajectory_is_told_row_by_row():
    """Sigma of every step; size and change of the clean estimate; no log-probability where nothing steers."""
    found = draw(seeds=SEEDS, context=CONTEXT)
    sigma, size, change, told = np.moveaxis(found["trajectory"], 2, 0)
    np.testing.assert_allclose(sigma, np.tile(REFERENCE["sigmas"][:-1], (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(size[:, 0], change[:, 0])
    assert np.isnan(told).all()
    assert found["evaluations"] == 3 * 2 * 4


@pytest.mark.parametrize("on_torch", [False, True], ids=["numpy", "torch"])
def test_steering_raises_the_targets_probability(on_torch):
    """More, the stronger it is; and what the trajectory tells rises with it."""
    target = np.array([0, 1, 1])
    chances = []
    for strength in (0.0, 0.1, 0.4):
        found = draw(on_torch, seeds=SEEDS, context=CONTEXT, target=target, plan={"classifier_guidance": strength})
        logits = found["image"].mean((2, 3)) @ Local.weight
        chances.append(np.log(cotangents(logits, target, "logits")[0]))
    assert (np.diff(chances, axis=0) > 0).all()
    assert (found["trajectory"][:, -1, 3] > found["trajectory"][:, 0, 3]).all()


def test_a_step_of_steering_has_the_length_it_says():
    """D' - D = C |x - D| along the gradient."""
    plan = read_plan(json.dumps({"classifier_guidance": 0.25}), REFERENCE, TABLE)
    x, g = (np.random.default_rng(i).normal(size=(2, *SHAPE)).astype(np.float32) for i in range(2))
    moved = sampling.steered(lambda x, _: 0.5 * x, lambda _: 7 * g, plan)(x, 1.0) - 0.5 * x
    np.testing.assert_allclose(
        np.linalg.norm(moved.reshape(2, -1), axis=1), 0.125 * np.linalg.norm(x.reshape(2, -1), axis=1), rtol=1e-5
    )
    assert (np.einsum("nchw,nchw->n", moved, g) > 0).all()


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_cotangents_point_along_the_log_probability(kind):
    """Against torch's gradient, up to a positive factor per row."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    scores = (logits if kind == "logits" else logits.softmax(1)).requires_grad_()
    target = np.array([0, 2, 1, 1])
    log_p = (scores.log_softmax(1) if kind == "logits" else scores.log())[torch.arange(4), torch.from_numpy(target)]
    (right,) = torch.autograd.grad(log_p.sum(), scores)
    p, found = cotangents(scores.detach().numpy(), target, kind)
    np.testing.assert_allclose(np.log(p), log_p.detach(), atol=1e-5)
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(found), right)
    torch.testing.assert_close(cosine, torch.ones(4))


@pytest.mark.parametrize(
    ("plan", "tier"),
    [
        ({}, "exact"),
        ({"skip": 1}, "exact"),
        ({"classifier_guidance": 0.1}, "exact"),
        ({"steps": 9}, "exact"),
        ({"sampler": "ddim"}, "exact"),
        ({"sigmas": [0.1, 0.0]}, "exact"),
        ({"steps": 3}, "approximate"),
        ({"steps": 2, "skip": 1}, "approximate"),
        ({"guidance": 1.0}, "approximate"),
        ({"guidance_interval": [0.0, 5.0]}, "approximate"),
    ],
)
def test_saving_is_approximate(plan, tier):
    """Doing more, or the same in another order, is not."""
    assert draw(seeds=SEEDS, context=CONTEXT, target=np.zeros(3, np.int64), plan=plan)["tier"] == tier


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"plan": {"stps": 3}}, "unknown stps; known are steps"),
        ({"plan": {"steps": 3, "sigmas": [1.0, 0.0]}}, "either sigmas, or steps"),
        ({"plan": {"sigmas": [1.0, 2.0, 0.0]}}, "descending"),
        ({"plan": {"sampler": "magic"}}, "ddim or dpmpp_2m"),
        ({"plan": {"schedule": "magic"}}, "trailing or karras"),
        ({"plan": {"steps": 0}}, "1 to 1000 steps"),
        ({"plan": {"skip": 9}}, "of 4 steps skips 0 to 3"),
        ({"plan": {"skip": -1}}, "skips 0 to 3"),
        ({"plan": {"guidance": "strong"}}, "cannot be read"),
        ({"plan": [1]}, "cannot be read"),
        ({"seeds": None}, "latents to start from, or one seed per row"),
        ({"image": np.zeros((2, 3, 4, 4), np.float32)}, "one seed per row"),
        ({"image": np.zeros((3, 3, 4, 4), np.float32), "latents": np.zeros((3, *SHAPE), np.float32)}, "not from both"),
        ({"context": CONTEXT[:2]}, "'context' for each of its 3 rows"),
        ({"plan": {"classifier_guidance": 1}}, "target for each of the 3 rows, from 0 to 1"),
        ({"plan": {"classifier_guidance": 1}, "target": np.array([0, 1, 2])}, "from 0 to 1"),
        ({"null": {}}, "no empty condition"),
    ],
)
def test_what_cannot_be_drawn_is_said(sent, message):
    values = {"seeds": SEEDS, "context": CONTEXT, **sent}
    with pytest.raises(RequestError, match=message):
        draw(**{name: value for name, value in values.items() if value is not None})


def drawing(value):
    image = np.full((3, 3, 2, 2), value, np.float32)
    said = {"engine_key": np.array([b"k"]), "tier": np.array([b"exact"])}
    return {"image": image, "trajectory": np.zeros((3, 1, 4)), "evaluations": np.array([4]), **said}


def test_a_flip_needs_another_answer_before():
    """Row by row; on images rounded to 8 bits."""
    answers = iter([np.array([[0, 1], [1, 0], [0, 1]]), np.array([[1, 0], [1, 0], [0, 1]])])
    seen = []
    found = compared(drawing(0.2), drawing(0.5), np.zeros(3, np.int64), lambda images: seen.append(images) or next(answers))
    assert found["flipped"].tolist() == [True, False, False]
    np.testing.assert_allclose(found["l1"], np.abs(128 - 51) / 255, rtol=1e-5)
    assert all(((255 * each) % 1 < 1e-4).all() for each in seen)
    assert found["evaluations"] == 8


def test_before_is_drawn_without_the_pull():
    before, after = (json.loads(each) for each in plans('{"steps": 3, "classifier_guidance": 0.3}', other_condition=False))
    assert (before, after) == ({"steps": 3, "classifier_guidance": 0.0}, {"steps": 3, "classifier_guidance": 0.3})


def test_before_and_after_must_differ():
    with pytest.raises(RequestError, match="nothing tells before from after"):
        plans("{}", other_condition=False)
    assert plans("", other_condition=True) == ('{"classifier_guidance": 0.0}', "{}")


@pytest.mark.parametrize("target", [None, np.array([0, 1]), np.array([0, 1, 2]), np.array([0, 1, -1])])
def test_a_comparison_needs_targets(target):
    with pytest.raises(RequestError, match="target for each of the 3 rows"):
        compared(drawing(0.2), drawing(0.5), target, lambda _: np.eye(2)[[0, 0, 1]])

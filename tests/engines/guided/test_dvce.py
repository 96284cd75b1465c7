"""DVCE against the numbers of the released sampler on a substrate in closed form, and the properties its parts must have."""

import math
from importlib import import_module

import pytest
import torch

from engines.guided.adaptive import adaptive, angle, cone, norms, unit
from engines.guided.augment import views
from engines.guided.chain import Chain
from engines.guided.dvce import DvceOptions, DvceTask, descend, dvce
from engines.precondition import rowwise
from tests.engines.guided.vectors import NOTHING, SHAPE, X, gaussian

TARGET = torch.tensor([0, 1])
PLAIN = {"views": 1, "rescale": False}
_I = torch.arange(48, dtype=torch.float64)


def linear(omega, phi):
    """A classifier of images in [0, 1]: three columns, not quite linear."""
    weight = 0.6 * torch.stack([torch.cos(omega * _I + k + phi) for k in range(3)]).float()

    def judge(shown):
        u = shown.flatten(1)
        return u @ weight.T + 0.5 * (2 * u[:, :3]).tanh()

    return judge


AUDITED, ROBUST = linear(1.3, 0.0), linear(0.45, 0.7)
# run: (C_c, C_d), cone, first four of each image, means, mean absolute change, logits of the audited model after
VECTORS = {
    "A": ((0.1, 0.15), False, ((0.55158, 0.57935, 0.56606, 0.55607), (0.53856, 0.58131, 0.55010, 0.57635)), (0.54338, 0.54441), (0.23719, 0.23360), ((0.3885, 0.2166, 0.2089), (0.5038, 0.4646, 0.3506))),
    "B": ((0.3, 0.1), False, ((0.57855, 0.59011, 0.56364, 0.51860), (0.52031, 0.60738, 0.51003, 0.59494)), (0.54335, 0.54419), (0.24087, 0.23440), ((0.5519, 0.0624, -0.1165), (0.6965, 0.7829, 0.4706))),
    "C": ((0.1, 0.15), True, ((0.55607, 0.57970, 0.56708, 0.55445), (0.53095, 0.58812, 0.54668, 0.57627)), (0.54342, 0.54433), (0.23760, 0.23385), ((0.3869, 0.2326, 0.2296), (0.4776, 0.4359, 0.3393))),
    "D": ((0.3, 0.1), True, ((0.59296, 0.59157, 0.56723, 0.51288), (0.49635, 0.62436, 0.49920, 0.59193)), (0.54347, 0.54374), (0.24131, 0.23499), ((0.5430, 0.1154, -0.0450), (0.6215, 0.6914, 0.4272))),
    "E": ((0.1, 0.0), False, ((0.56905, 0.57172, 0.56312, 0.54270), (0.53863, 0.57798, 0.54699, 0.57123)), (0.54320, 0.54443), (0.24545, 0.23946), ((0.4049, 0.2169, 0.2006), (0.4578, 0.4465, 0.3770))),
}  # fmt: skip
TOLERANCE = 1e-5
PRINTED = 5e-6
"""Half of the last digit that the vectors are printed with."""


def substrate(diffusion, chain):
    """The vectors' network: a Gaussian's own noise with a ripple, and a learned variance."""

    def predict(z, index):
        a = diffusion.levels.alpha_bars[chain.at[index]].float()
        eps = (1 - a).sqrt() * (z - 0.1 * a.sqrt()) / (0.25 * a + 1 - a) + 0.1 * z.roll(1, 3).tanh()
        before = chain.alpha_bars[max(index - 1, 0)] if index else torch.tensor(1.0, dtype=torch.float64)
        beta = 1 - chain.alpha_bars[index] / before
        lower = Chain.of(diffusion, 200, "small").variance[index]
        w = (0.2 * (3 * z).sin() + 1) / 2
        return eps, (w * beta.log() + (1 - w) * lower.log()).exp().float()

    return predict


def task(weights=(0.1, 0.15), *, robust=None, judge=AUDITED, rows=slice(None), **options):
    diffusion = gaussian(timesteps=1000, clip=False)
    chain = Chain.of(diffusion, 200)
    return DvceTask(
        chain=chain,
        predict=substrate(diffusion, chain),
        x=X[rows],
        original=X[rows] / 2 + 0.5,
        target=TARGET[rows],
        judge=judge,
        robust=robust,
        decode=lambda x: x,
        options=DvceOptions(weights=(weights,), **{**PLAIN, **options}),
    )


def scripted(m):
    return torch.sin(0.37 * torch.arange(96, dtype=torch.float64) + m).float().view(2, *SHAPE)


def run(one, rows=slice(None)):
    weights = one.options.weights[0]
    each = tuple(torch.full((len(one.x),), weight) for weight in weights)
    found = descend(one, each, scripted(1)[rows], lambda stream: scripted(2 + 99 - stream // 2)[rows], [1, 2][rows])
    return (found / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("name", VECTORS)
def test_the_released_sampler_is_reproduced(name):
    weights, coned, first, means, change, logits = VECTORS[name]
    images = run(task(weights, robust=ROBUST if coned else None))
    worst = {
        "pixels": (images.flatten(1)[:, :4], first, PRINTED),
        "means": (images.mean((1, 2, 3)), means, PRINTED),
        "change": ((images - X / 2 - 0.5).abs().mean((1, 2, 3)), change, PRINTED),
        "logits": (AUDITED(images), logits, 10 * PRINTED),
    }
    for what, (ours, theirs, printed) in worst.items():
        assert float((ours - torch.tensor(theirs)).abs().max()) < TOLERANCE + printed, what


def test_the_two_models_disagree_as_published(monkeypatch):
    """Angles between the two gradients of run C, at the first and at the last step."""
    module = import_module("engines.guided.dvce")  # the package's own name `dvce` is the function
    seen, own = [], cone

    def watching(target, robust, radians, inside):
        seen.append(angle(target, robust).rad2deg())
        return own(target, robust, radians, inside)

    monkeypatch.setattr(module, "cone", watching)
    run(task(robust=ROBUST))
    torch.testing.assert_close(seen[0], torch.tensor([88.25, 81.81]), atol=0.01, rtol=0)
    torch.testing.assert_close(seen[-1], torch.tensor([84.60, 85.55]), atol=0.01, rtol=0)


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_the_length_of_a_gradient_says_nothing(factor):
    """A loss a thousand times as large, or as small, gives the same image."""
    one = task((0.3, 0.1))

    def louder(shown):
        # log-softmax times a factor, as logits again: scaling the loss, not the probabilities
        logits = AUDITED(shown)
        return logits.detach() + factor * (logits - logits.detach())

    torch.testing.assert_close(run(task((0.3, 0.1), judge=louder)), run(one), atol=1e-6, rtol=0)


def test_a_step_without_guidance_is_that_of_ddpm():
    """By the other form of its mean (Ho et al. 2020, eq. 11), with the variance that the network learned."""
    one = task((0.0, 0.0))
    z = math.sqrt(float(one.chain.alpha_bars[99])) * X + math.sqrt(1 - float(one.chain.alpha_bars[99])) * scripted(1)
    for index in range(99, 0, -1):
        eps, variance = one.predict(z, index)
        kept = float(one.chain.alpha_bars[index])
        alpha = kept / float(one.chain.alpha_bars[index - 1])
        mean = (z - (1 - alpha) / math.sqrt(1 - kept) * eps) / math.sqrt(alpha)
        z = mean + variance.sqrt() * scripted(2 + 99 - index)
    kept = float(one.chain.alpha_bars[0])
    clean = (z - math.sqrt(1 - kept) * one.predict(z, 0)[0]) / math.sqrt(kept)
    torch.testing.assert_close(run(one), (clean / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


def test_an_image_does_not_depend_on_its_batch():
    both = run(task(robust=ROBUST, views=2))
    for row in (slice(0, 1), slice(1, 2)):
        torch.testing.assert_close(run(task(robust=ROBUST, views=2, rows=row), row), both[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("degrees", [0, 1, 30, 60, 89])
@pytest.mark.parametrize("inside", ["target", "robust"])
def test_a_cone_has_its_angle(degrees, inside):
    """min(theta, alpha) from the audited model's gradient where the robust one may stay, else alpha or nothing; always an ascent of it."""
    g = torch.Generator().manual_seed(degrees)
    f = torch.randn(64, 3, 5, 5, generator=g, dtype=torch.float64)  # in float32 an arc cosine near 1 is off by 1e-3
    r = torch.linspace(-1, 3, 64)[:, None, None, None] * f + torch.randn(64, 3, 5, 5, generator=g, dtype=torch.float64)
    found, theta, alpha = cone(f, r, math.radians(degrees), inside), angle(f, r), math.radians(degrees)
    wanted = torch.where(theta <= alpha, theta if inside == "robust" else torch.zeros_like(theta), torch.full_like(theta, alpha))
    torch.testing.assert_close(angle(f, found), wanted, atol=1e-4, rtol=0)
    assert bool(((found * f).sum((1, 2, 3)) > 0).all())


def test_a_cone_is_the_projection():
    """The same ray as the Euclidean projection of the robust gradient onto the cone, found by search over its plane."""
    alpha, g = math.radians(30), torch.Generator().manual_seed(0)
    f, r = torch.randn(8, 3, 4, 4, generator=g), torch.randn(8, 3, 4, 4, generator=g)
    u = unit(f)
    across = unit(r - rowwise((r * u).sum((1, 2, 3)), u) * u)
    allowed = torch.linspace(0, alpha, 2000)
    rays = allowed.cos()[:, None, None, None, None] * u + allowed.sin()[:, None, None, None, None] * across
    along = (rays * r).sum((2, 3, 4)).clamp(min=0)  # the projection on a ray is as long as r is along it
    best = rays[along.argmax(0), torch.arange(8)]
    torch.testing.assert_close(unit(cone(f, r, alpha)), best, atol=1e-3, rtol=0)


@pytest.mark.parametrize("case", ["no target", "no robust", "neither", "opposite", "same", "tiny"])
def test_a_cone_never_divides_by_zero(case):
    f = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(f)
    given = {
        "no target": (zero, f),
        "no robust": (f, zero),
        "neither": (zero, zero),
        "opposite": (f, -f),
        "same": (f, f),
        "tiny": (f * 1e-20, f * 1e-20),
    }
    found = cone(*given[case], math.radians(30))
    assert bool(found.isfinite().all())
    if case != "neither":
        torch.testing.assert_close(unit(found), unit(f), atol=1e-5, rtol=0)
    else:
        assert not found.any()


def test_guidance_has_the_length_it_is_given():
    f = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    length = torch.tensor([1.0, 2.0, 3.0])
    step = adaptive(length, f * 1e-12, f, (torch.full((3,), 0.5), torch.zeros(3)))
    torch.testing.assert_close(norms(step), 0.5 * length)
    assert not adaptive(length, 0 * f, 0 * f, (length, length)).any()


def test_views_belong_to_their_image():
    """The first is the image, the others move it; seed, step and stream decide how, the batch does not."""
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    looks = list(views(5, [7, 8], 3)(images))
    assert torch.equal(looks[0], images)
    assert sum(bool((look != images).any()) for look in looks[1:]) >= 3
    for alone, among in zip(views(5, [8], 3)(images[1:]), looks, strict=True):
        torch.testing.assert_close(alone, among[1:])
    assert not torch.equal(list(views(2, [7, 8], 4)(images))[1], looks[1])


def test_the_ladder_flips_and_comes_back():
    """From rung to rung until the judge is content; then halfway back, so that no more is changed than needed."""
    diffusion, seeds = gaussian(timesteps=1000), [1, 2]
    options = DvceOptions(views=1, kept=50, depth=20, confidence=0.4)
    found = dvce(diffusion, X, TARGET, NOTHING, AUDITED, seeds=seeds, options=options)
    assert found.success.all()
    assert found.network_rows == int(found.attempts.sum()) * 20
    closer = dvce(
        diffusion,
        X,
        TARGET,
        NOTHING,
        AUDITED,
        seeds=seeds,
        options=DvceOptions(views=1, kept=50, depth=20, confidence=0.4, bisections=3),
    )
    assert closer.success.all()
    assert bool((closer.probability <= found.probability + 1e-6).all())
    assert float((closer.images - X / 2 - 0.5).abs().mean()) < float((found.images - X / 2 - 0.5).abs().mean())
    in_slots = dvce(diffusion, X, TARGET, NOTHING, AUDITED, seeds=seeds, options=options, batch=1)
    torch.testing.assert_close(in_slots.images, found.images, atol=1.1 / 255, rtol=0)


@pytest.mark.parametrize(
    "options", [{"depth": 0}, {"weights": ()}, {"weights": ((-1, 0),)}, {"degrees": 90}, {"views": 0}, {"norm": "rms"}]
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        DvceOptions(**options)

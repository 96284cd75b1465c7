"""LDCE: where the two classifiers agree, how long a push is, and that nobody pushes where nobody agrees."""

import dataclasses
import math

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.adaptive import angle, norms, unit
from engines.guided.chain import Chain, depth_at
from engines.guided.edits import pixels, stored
from engines.guided.ldce import LdceOptions, agreed, ldce
from engines.noise import start_noise
from engines.precondition import rowwise
from tests.engines.guided.vectors import NOTHING, SHAPE, TARGET, WEIGHT, X, gaussian, judge

SEEDS = [11, 12]
SHORT = {"kept": 30, "signal": 0.63}
UPPER = torch.zeros(SHAPE)
UPPER[:, :2] = 1
"""Half of the image that a condition is about."""


def told(towards):
    """Each row's own mean of the data, (2 3 4 4)."""
    return Conditioning.of(mean=towards)


def named(where):
    """Conditions that mean more of the judge's target there: 1 for the first image, 0 for the second."""
    return told(torch.stack([0.2 * WEIGHT * where, -0.2 * WEIGHT * where]))


NULL = told(torch.zeros(2, *SHAPE))


def conditional(variance=0.25):
    """Gaussian data whose mean is what the network is told."""
    plain = gaussian(timesteps=500, clip=False)
    bars = plain.levels.alpha_bars

    def eps(z, t, cond):
        a = rowwise(bars.float()[t.long()], z)
        return (1 - a).sqrt() * (z - a.sqrt() * (0.1 + cond.tensors["mean"])) / (variance * a + 1 - a)

    return dataclasses.replace(plain, course=dataclasses.replace(plain.course, network=eps), differentiable=eps)


def edited(rows=(0, 1), *, condition=None, judged=judge, batch=None, **options):
    rows = list(rows)
    return ldce(
        conditional(),
        X[rows],
        TARGET[rows],
        NULL[rows],
        judged,
        seeds=[SEEDS[row] for row in rows],
        told=None if condition is None else condition[rows],
        batch=batch,
        options=LdceOptions(**{**SHORT, "weights": ((2.3, 0.3), (4.0, 0.3)), **options}),
    )


def unguided():
    """DDIM from the same noise, by the step of the diffusion itself."""
    diffusion = conditional()
    chain = Chain.of(diffusion, SHORT["kept"])
    depth = depth_at(diffusion, SHORT["kept"], SHORT["signal"])
    z = chain.noised(X, depth - 1, start_noise(SEEDS, SHAPE))
    for index in reversed(range(depth)):
        z = diffusion.step(z, chain.at[index], chain.at[index - 1] if index else -1, NULL)
    return z


def flat(shown):
    return 0 * judge(shown)


@pytest.mark.parametrize("degrees", [30, 45, 55])
def test_a_location_is_heard_where_the_two_agree(degrees):
    """By the angle between channel vectors, whatever their lengths and whatever the neighbours."""
    angles = torch.tensor([0.0, degrees - 0.1, degrees + 0.1, 90.0, 135.0, 180.0]).deg2rad()
    lengths = torch.tensor([1.0, 1e-6, 1e6, 1.0, 3.0, 1.0])
    implicit = torch.tensor([2.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 2, 3)
    score = (lengths * torch.stack([angles.cos(), angles.sin(), torch.zeros(6)])).view(1, 3, 2, 3)
    found = agreed(score, implicit, math.radians(degrees))
    heard = torch.tensor([1, 1, 0, 0, 0, 0]).view(1, 1, 2, 3)
    assert torch.equal(found, score * heard)
    assert not agreed(score, torch.zeros_like(implicit), math.radians(degrees)).any()
    assert not agreed(torch.zeros_like(score), implicit, math.radians(degrees)).any()


def test_a_cone_at_each_location_keeps_its_angle():
    """No location turns from the gradient by more than the cone; each keeps about the gradient's length."""
    g = torch.Generator().manual_seed(0)
    score, implicit = torch.randn(2, 4, 5, 6, generator=g), torch.randn(2, 4, 5, 6, generator=g)
    found = agreed(score, implicit, math.radians(40), "cone")

    def places(x):
        return x.permute(0, 2, 3, 1).reshape(-1, 4, 1, 1)

    ours, theirs, turned = places(score), places(implicit), places(found)
    wanted = torch.where(angle(ours, theirs) <= math.radians(40), 0.0, math.radians(40))
    torch.testing.assert_close(angle(ours, turned), wanted, atol=2e-3, rtol=0)
    longer = norms(turned) / norms(ours)
    assert bool(((longer > 0.999) & (longer < 1 / math.cos(math.radians(40)) + 1e-3)).all())
    whole = agreed(score, implicit, math.radians(40), "image")
    torch.testing.assert_close(angle(score, whole), torch.full((2,), math.radians(40)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("condition", [named(UPPER), None])
def test_one_step_is_the_formula(condition):
    """Eps + 3 * 2 * |length| * unit(axis), the gradient of a linear judge through an isotropic network being its weight."""
    diffusion, kept = conditional(), 30
    chain = Chain.of(diffusion, kept)
    found = edited(condition=condition, signal=0.9999, weights=((2.0, 0.0),), share=0.1)
    a = float(chain.alpha_bars[0])
    z = math.sqrt(a) * X + math.sqrt(1 - a) * start_noise(SEEDS, SHAPE)
    eps = diffusion.eps(z, 0, NULL)
    axis = -torch.stack([WEIGHT, -WEIGHT])
    if condition is None:
        length = 0.1 * norms(eps)
    else:
        axis, length = axis * UPPER, norms(diffusion.eps(z, 0, condition) - eps)
    moved = eps + 3 * 2 * rowwise(length, z) * unit(axis)
    torch.testing.assert_close(found.latents, (z - math.sqrt(1 - a) * moved) / math.sqrt(a), atol=1e-5, rtol=0)


def test_half_an_image_is_edited_where_only_half_agrees():
    """The other half is the unguided one; what the condition is against is not edited at all."""
    ours = edited(condition=named(UPPER), weights=((2.3, 0.0),))
    away = (ours.latents - unguided()).abs()
    assert float((away * (1 - UPPER)).max()) < 1e-5
    assert float((away * UPPER).mean()) > 0.01
    against = edited(condition=named(-torch.ones(SHAPE)), weights=((2.3, 0.0),))
    torch.testing.assert_close(against.latents, unguided(), atol=1e-5, rtol=0)
    one_cone = edited(condition=named(-torch.ones(SHAPE)), weights=((2.3, 0.0),), consensus="cone")
    assert bool((one_cone.probability.abs() > against.probability.abs()).all())


@pytest.mark.parametrize("condition", [named(torch.ones(SHAPE)), None])
def test_equal_answers_push_nothing(condition):
    found = edited(condition=condition, judged=flat, weights=((2.3, 0.0),))
    torch.testing.assert_close(found.latents, unguided(), atol=1e-5, rtol=0)


def test_a_condition_that_says_nothing_pushes_nothing():
    """The length of the implicit score is what both pushes are measured in."""
    torch.testing.assert_close(edited(condition=NULL).latents, unguided(), atol=1e-5, rtol=0)


def test_the_distance_draws_back():
    near, far = (edited(judged=flat, weights=((2.3, weight),), share=0.1).images for weight in (2.0, 0.0))
    assert bool(((near - X / 2 - 0.5).abs().mean((1, 2, 3)) < (far - X / 2 - 0.5).abs().mean((1, 2, 3))).all())


def test_the_length_of_a_gradient_says_nothing():
    def louder(shown):
        logits = judge(shown)
        return logits.detach() + 1e-3 * (logits - logits.detach())

    one, other = (edited(condition=named(UPPER), judged=each, weights=((2.3, 0.3),)) for each in (judge, louder))
    torch.testing.assert_close(one.latents, other.latents, atol=1e-5, rtol=0)


@pytest.mark.parametrize("condition", [named(torch.ones(SHAPE)), None])
def test_an_image_does_not_depend_on_its_batch(condition):
    """Nor on the slot that it is edited in."""
    both, slots = edited(condition=condition), edited(condition=condition, batch=1)
    torch.testing.assert_close(slots.latents, both.latents, atol=1e-5, rtol=0)
    for row in (0, 1):
        alone = edited([row], condition=condition)
        torch.testing.assert_close(alone.latents[0], both.latents[row], atol=1e-5, rtol=0)
        assert alone.attempts[0] == both.attempts[row]


def test_the_ladder_flips_and_comes_back():
    depth = depth_at(conditional(), SHORT["kept"], SHORT["signal"])
    ours = {"condition": named(torch.ones(SHAPE)), "weights": ((1.0, 0.3), (8.0, 0.3))}
    found, closer = edited(**ours), edited(**ours, bisections=3)
    assert found.success.all()
    assert closer.success.all()
    assert found.network_rows == int(found.attempts.sum()) * depth * 2
    assert bool((closer.probability <= found.probability + 1e-6).all())
    assert torch.equal(found.images, stored(pixels, found.latents))
    alone = edited(weights=((1.0, 0.3), (8.0, 0.3)), share=0.1)
    assert alone.success.all()
    assert alone.network_rows == int(alone.attempts.sum()) * depth


def test_a_network_without_gradients_will_do():
    """Of Gaussian data its Jacobian is a number, so the edits are the same."""
    plain = conditional()

    def refused(*_):
        raise AssertionError

    engine_only = dataclasses.replace(plain, differentiable=refused)
    options = LdceOptions(**SHORT, weights=((2.3, 0.3),), jacobian=False)
    given = (X, TARGET, NULL, judge)
    found = ldce(engine_only, *given, seeds=SEEDS, told=named(UPPER), options=options)
    wanted = edited(condition=named(UPPER), weights=((2.3, 0.3),))
    torch.testing.assert_close(found.latents, wanted.latents, atol=1e-4, rtol=0)


def test_the_default_starts_where_the_paper_does():
    """Stable Diffusion's own schedule, 0.382 of it."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert float((1 - betas).cumprod(0)[382].sqrt()) == pytest.approx(LdceOptions().signal, abs=0.005)


def test_rows_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="1 conditions that name"):
        ldce(conditional(), X, TARGET, NOTHING, judge, seeds=SEEDS, told=NULL[[0]])


@pytest.mark.parametrize(
    "options",
    [{"kept": 1}, {"signal": 1.0}, {"weights": ()}, {"weights": ((1, -1),)}, {"degrees": 90}, {"consensus": "most"}, {"share": -1}],
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        LdceOptions(**options)

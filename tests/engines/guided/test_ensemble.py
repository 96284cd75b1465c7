"""Guidance without gradients: what its direction is, what it costs, and what it reaches that chance does not."""

import dataclasses

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.ensemble import EnsembleOptions, direction, ensemble
from engines.guided.particles import Editing, Told, free_pass, particle_seed
from tests.engines.guided.vectors import SHAPE, WEIGHT, X, gaussian, score

ONE = EnsembleOptions(particles=8)


class Server:
    """Answers for a logit of images in [-1, 1]; remembers what it was sent."""

    def __init__(self, logit=score):
        self.logit, self.sent = logit, []

    def __call__(self, images, target, rows):
        self.sent += [(int(row), image) for row, image in zip(rows, images, strict=True)]
        odds = self.logit(2 * images - 1).double() * (2 * target - 1)
        return Told(odds, odds > 0)


def editing(server, rows=(0, 1), steps=10, **changes):
    rows = list(rows)
    given = {
        "diffusion": gaussian(timesteps=1000),
        "x": X[rows],
        "target": torch.tensor([1, 0])[rows],
        "cond": Conditioning(rows=len(rows)),
        "seeds": [[11, 12][row] for row in rows],
        "score": server,
        "rows": torch.tensor(rows),
        "steps": steps,
    }
    return Editing(**given | changes)


def test_the_direction_of_a_linear_score_is_the_covariance_times_its_gradient():
    """Exactly, whatever the particles."""
    particles = torch.randn(2, 9, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    odds = (particles * WEIGHT.double()).sum((2, 3, 4)) + 3
    flat = particles.flatten(2)
    centred = flat - flat.mean(1, keepdim=True)
    covariance = torch.einsum("nki,nkj->nij", centred, centred) / 9
    wanted = (covariance @ WEIGHT.double().flatten()).view(2, *SHAPE)
    torch.testing.assert_close(direction(particles, odds), wanted, atol=1e-12, rtol=0)


def test_equal_scores_push_nothing():
    """The sampler is the unguided one, bit for bit."""
    flat = Server(lambda x: x.new_full((len(x),), -1.0))
    (found, _) = ensemble(editing(flat), EnsembleOptions(particles=8, pull=0.0), attempts=1)
    some = editing(flat)
    images, _, _ = some.asked(some.cloud(0.35, 8).down())
    assert not found.success
    assert any(torch.equal(found.image, image) for image in images[0])
    assert found.agreement is None


def test_what_is_delivered_was_accepted_on_its_bytes_within_the_budget():
    server = Server()
    for found, row in zip(ensemble(editing(server), ONE), (0, 1), strict=True):
        asked = [image for at, image in server.sent if at == row]
        assert found.success
        assert len(asked) == found.queries <= found.attempts * 8 * 10
        assert found.network_rows == found.queries
        assert any(torch.equal(found.image, image) for image in asked)
        assert torch.equal(found.image.mul(255).round() / 255, found.image)
        assert all(torch.equal(image.mul(255).round() / 255, image) for image in asked)
        # the nearest of those that flipped
        distances = (found.valid - X[row] / 2 - 0.5).abs().mean((1, 2, 3))
        assert float((found.image - X[row] / 2 - 0.5).abs().mean()) == pytest.approx(float(distances.min()), abs=1e-3)


def test_an_image_does_not_depend_on_its_batch():
    together = ensemble(editing(Server()), ONE)
    for row in (0, 1):
        (alone,) = ensemble(editing(Server(), [row]), ONE)
        torch.testing.assert_close(alone.image, together[row].image, atol=1.1 / 255, rtol=0)
        assert alone.queries == together[row].queries


def test_seeds_of_particles_are_all_different():
    assert len({particle_seed(seed, at) for seed in range(100) for at in range(64)}) == 6400


def mixture(points, spread=0.05):
    """A diffusion that knows its data: Gaussians of one width around given images."""
    plain = gaussian(timesteps=1000)
    bars = plain.levels.alpha_bars

    def eps(z, t, _cond):
        a = bars.float()[t.long()].view(-1, 1)
        flat, centres = z.flatten(1), points.flatten(1)
        variance = a * spread**2 + 1 - a
        weight = (-((flat[:, None] - a[:, :, None].sqrt() * centres).square().sum(2)) / (2 * variance)).softmax(1)
        own = (flat[:, None] - a[:, :, None].sqrt() * centres) / variance[:, :, None]
        return ((1 - a).sqrt() * (weight[:, :, None] * own).sum(1)).view(z.shape)

    course = dataclasses.replace(plain.course, network=eps)
    return dataclasses.replace(plain, course=course, differentiable=eps)


def faces(count, marked, brightness, seed):
    """Grey 6x6 images: a smooth background, a marker in a corner, a bar whose brightness is another attribute."""
    g = torch.Generator().manual_seed(seed)
    images = 0.25 * torch.randn(count, 1, 1, 1, generator=g) + 0.08 * torch.randn(count, 3, 6, 6, generator=g)
    images[:, :, 4:, 1:5] += brightness
    images[:, :, :2, :2] = 0.8 if marked else -0.2
    return images.clamp(-1, 1)


def test_a_change_that_chance_does_not_make_is_reached():
    """The score asks for a bar that is brighter than variation alone makes it: best of 32 unguided finds it for few, guidance for all."""
    data = torch.cat(
        [
            faces(30, marked, bar, seed)
            for seed, (marked, bar) in enumerate([(False, -0.4), (False, 0.4), (True, -0.4), (True, 0.4)])
        ]
    )
    images = faces(12, marked=False, brightness=-0.4, seed=9)

    def brightness(x):
        return 12 * (x[:, :, 4:, 1:5].mean((1, 2, 3)) - 0.3)

    def asked(server):
        return Editing(
            diffusion=mixture(data, 0.1), x=images, target=torch.ones(12, dtype=torch.long), cond=Conditioning(rows=12),
            seeds=range(12), score=server, rows=torch.arange(12),
        )  # fmt: skip

    by_chance = free_pass(asked(Server(brightness)), signals=(0.7,), k=32)
    guided = ensemble(asked(Server(brightness)), EnsembleOptions(signals=(0.7, 0.35)), attempts=1)
    assert sum(each.success for each in by_chance) <= 1
    assert all(each.success for each in guided)
    assert all(each.queries == 32 and each.network_rows == 32 * 25 for each in by_chance)


def test_the_free_pass_goes_on_only_where_it_must():
    """An image that flips with little noise is not asked again."""
    server = Server(lambda x: x.new_full((len(x),), 1.0))
    first, second = free_pass(editing(server), k=4)
    assert (first.success, first.queries, first.attempts) == (True, 4, 1)
    assert (second.success, second.queries, second.attempts) == (False, 8, 2)


@pytest.mark.parametrize(
    "options", [{"particles": 1}, {"signals": ()}, {"signals": (1.0,)}, {"push": (-0.1,)}, {"stop": 0}, {"resample": -1}]
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        EnsembleOptions(**options)

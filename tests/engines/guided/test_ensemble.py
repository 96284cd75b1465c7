"""Guidance without gradients: what its direction is, what it costs, and what it reaches that chance does not."""

import dataclasses
import math

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.ensemble import EnsembleOptions, direction, ensemble
from engines.guided.particles import Editing, free_pass, particle_seed
from tests.engines.guided.searching import Server, editing, faces, mixture
from tests.engines.guided.vectors import SHAPE, WEIGHT, X

ONE = EnsembleOptions(particles=8)


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
    (found, _) = ensemble(editing(flat), EnsembleOptions(particles=8, pull=0.0, halfway=-math.inf), attempts=1)
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


def test_a_change_that_chance_does_not_make_is_reached():
    """The score asks for a bar that is brighter than variation alone makes it: best of 32 unguided finds it for none, guidance for all."""
    data = torch.cat(
        [
            faces(30, marked, bar, seed)
            for seed, (marked, bar) in enumerate([(False, -0.4), (False, 0.4), (True, -0.4), (True, 0.4)])
        ]
    )
    images = faces(12, marked=False, brightness=-0.5, seed=9)

    def brightness(x):
        return 12 * (x[:, :, 4:, 1:5].mean((1, 2, 3)) - 0.38)

    def asked(server):
        return Editing(
            diffusion=mixture(data, 0.1), x=images, target=torch.ones(12, dtype=torch.long), cond=Conditioning(rows=12),
            seeds=range(12), score=server, rows=torch.arange(12),
        )  # fmt: skip

    by_chance = free_pass(asked(Server(brightness)), signals=(0.7,), k=32)
    guided = ensemble(asked(Server(brightness)), EnsembleOptions(signals=(0.7, 0.35), reach=(math.inf, math.inf)), attempts=1)
    assert not any(each.success for each in by_chance)
    assert all(each.success for each in guided)
    assert all(each.queries == 32 and each.network_rows == 32 * 25 for each in by_chance)


def test_the_free_pass_goes_on_only_where_it_must():
    """An image that flips with little noise is not asked again."""
    server = Server(lambda x: x.new_full((len(x),), 1.0))
    first, second = free_pass(editing(server), k=4)
    assert (first.success, first.queries, first.attempts) == (True, 4, 1)
    assert (second.success, second.queries, second.attempts) == (False, 8, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"particles": 1},
        {"signals": (), "reach": ()},
        {"signals": (0.3,)},
        {"push": -0.1},
        {"stop": 0},
        {"resample": -1},
        {"last": 1},
    ],
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        EnsembleOptions(**options)


def test_images_whose_particles_are_sure_go_on_with_few():
    """The answer is as good, and what it costs is counted as it was."""
    server = Server()
    every = ensemble(editing(Server()), EnsembleOptions(particles=8, settled=0, stop=0.6), attempts=1)
    few = ensemble(editing(server), EnsembleOptions(particles=8, settled=2, stop=0.6), attempts=1)
    assert all(each.success for each in (*every, *few))
    assert all(a.network_rows < b.network_rows == 80 for a, b in zip(few, every, strict=True))
    for row, each in enumerate(few):
        assert each.queries == sum(at == row for at, _ in server.sent)


def test_particles_are_pushed_no_farther_than_they_need():
    """Of a linear score: the answers stay nearer than by the whole push."""
    far, near = (
        ensemble(editing(Server()), EnsembleOptions(particles=8, signals=(0.35,), reach=(reach,), push=1.0, last=0, stop=0.6))
        for reach in (math.inf, 2.0)
    )
    assert all(each.success for each in (*far, *near))
    assert all(a.odds < b.odds for a, b in zip(near, far, strict=True))


def test_attempts_that_get_nowhere_end_half_way():
    """All but those from the noisiest start; what they cost is counted."""
    server = Server(lambda x: -5 + 1e-3 * x.mean((1, 2, 3)))
    options = EnsembleOptions(particles=8, signals=(0.35, 0.2), reach=(math.inf, math.inf), probes=0, last=0)
    (found,) = ensemble(editing(server, [0]), options)
    assert not found.success
    assert found.network_rows == found.queries == len(server.sent) == 8 * (6 + 10)
    (stubborn,) = ensemble(editing(Server(server.logit), [0]), dataclasses.replace(options, halfway=-math.inf))
    assert stubborn.network_rows == 8 * (10 + 10)

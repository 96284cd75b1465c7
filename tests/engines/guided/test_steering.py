"""Selection among particles: which are kept, what it costs, and what it reaches that chance does not."""

import pytest
import torch

from engines.guided.particles import Cloud, free_pass
from engines.guided.resampling import resampled
from engines.guided.steering import SteeringOptions, feynman_kac, greedy
from tests.engines.guided.searching import Server, editing
from tests.engines.guided.test_evolution import many, planted
from tests.engines.guided.vectors import score

SMALL = SteeringOptions(particles=8)
BOTH = [feynman_kac, greedy]


@pytest.mark.parametrize("steer", BOTH)
def test_equal_scores_steer_nothing(steer):
    """The particles are the unguided ones, bit for bit."""
    flat = Server(lambda x: x.new_full((len(x),), -1.0))
    steer(editing(flat), SMALL, attempts=1)
    some = editing(flat)
    images, _, _ = some.asked(some.cloud(0.35, 8).down())
    last = torch.stack([image for _, image in flat.sent[-32:-16]])
    assert torch.equal(last, images.flatten(0, 1))


@pytest.mark.parametrize(("steer", "weighed"), [(feynman_kac, 3), (greedy, 7)])
def test_what_it_costs_is_what_was_asked(steer, weighed):
    """Steps 2, 5 and 8 of 10; steps 2 to 8; and the end of each attempt."""
    server = planted(1.0)
    for row, found in enumerate(steer(editing(server), SMALL)):
        asked = [image for at, image in server.sent if at == row]
        assert len(asked) == found.queries == found.attempts * 8 * (weighed + 1)
        assert found.network_rows == found.attempts * 80
        assert any(torch.equal(found.image, image) for image in asked[-8:])


@pytest.mark.parametrize("steer", BOTH)
def test_an_image_does_not_depend_on_its_batch(steer):
    together = steer(editing(planted(1.0)), SMALL)
    for row in (0, 1):
        (alone,) = steer(editing(planted(1.0), [row]), SMALL)
        torch.testing.assert_close(alone.image, together[row].image, atol=1.1 / 255, rtol=0)
        assert alone.queries == together[row].queries


@pytest.mark.parametrize(("steer", "margin"), [(feynman_kac, 1.5), (greedy, 2.4)])
def test_selection_reaches_what_chance_does_not(steer, margin):
    by_chance = free_pass(many(planted(margin)), (0.35,), k=16)
    found = steer(many(planted(margin)), attempts=1)
    assert sum(each.success for each in by_chance) <= 2
    assert sum(each.success for each in found) >= 6


@pytest.mark.parametrize("potential", ["max", "difference", "add"])
def test_the_heaviest_particle_has_the_most_descendants(potential, monkeypatch):
    """At the first resampling each has its share of slots of exp(2 odds), one more or less."""
    seen = []
    move = Cloud.move

    def watching(cloud, step, eps, clean, push=0.0):
        seen.append(clean)
        move(cloud, step, eps, clean, push)

    monkeypatch.setattr(Cloud, "move", watching)
    server = Server(lambda x: 3 * score(x))
    one = editing(server, [0])
    feynman_kac(one, SteeringOptions(particles=16, every=1, potential=potential), attempts=1)
    images = torch.stack([image for _, image in server.sent[:16]])
    weight = (6 * score(2 * images - 1)).softmax(0)
    own = editing(Server(), [0]).cloud(0.35, 16).estimated(0)[1][0]
    copies = torch.stack([(seen[0][0] - each).abs().flatten(1).amax(1) < 1e-6 for each in own]).sum(1)
    assert int(copies.sum()) == 16
    assert bool(((copies - 16 * weight).abs() < 1).all())


def test_even_weights_are_left_alone():
    assert resampled(torch.zeros(8).double(), 1, 0).tolist() == list(range(8))
    one_left = torch.full((8,), -1e9).double()
    one_left[3] = 0
    assert resampled(one_left, 1, 0).tolist() == [3] * 8


def test_a_greedy_choice_needs_noise():
    with pytest.raises(ValueError, match="eta"):
        greedy(editing(Server(), eta=0.0))


@pytest.mark.parametrize(
    "options", [{"particles": 1}, {"every": 0}, {"signals": (0.0,)}, {"potential": "min"}, {"free": 1}, {"strength": -1}]
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        SteeringOptions(**options)

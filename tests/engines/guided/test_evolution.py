"""Evolution over noise and over handles: what it reaches that chance does not, what it costs, and that ties teach it nothing."""

from dataclasses import replace

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.breeding import EvolutionOptions, worth
from engines.guided.evolution import Mutating, evolution
from engines.guided.handles import Adapting, LowFrequency, cosines, handle_evolution
from engines.guided.particles import Cloud, free_pass
from tests.engines.guided.searching import Server, editing
from tests.engines.guided.vectors import X, score

SMALL = EvolutionOptions(population=8, generations=4, elites=2)
LOW = LowFrequency(channels=3)


def bred(what, one, options, attempts=None):
    return evolution(one, options, attempts) if what == "noise" else handle_evolution(one, LOW, options, attempts)


def many(server, n=8):
    """One image again and again, each time with a seed of its own."""
    return replace(editing(server, [0] * n), seeds=range(n), rows=torch.arange(n))


def planted(margin):
    """A logit that is above 0 only where the score is well above what is common."""
    return Server(lambda x: 8 * (score(x) - margin))


@pytest.mark.parametrize("what", ["noise", "handle"])
def test_a_flip_that_chance_does_not_find_is_bred(what):
    """At the same number of queries."""
    by_chance = free_pass(many(planted(1.8), 5), (0.35,), k=128)
    found = bred(what, many(planted(1.8), 5), None, 1)
    assert not any(each.success for each in by_chance)
    assert all(each.success for each in found)
    assert all(each.queries <= 128 for each in found)


@pytest.mark.parametrize("what", ["noise", "handle"])
def test_generations_improve(what):
    """Where nothing flips, the mean score of each generation is above that of the first, and the last is the best half's."""
    server = planted(50)
    bred(what, many(server, 4), EvolutionOptions(population=8), 1)
    for row in range(4):
        scores = torch.stack([score(2 * image[None] - 1)[0] for at, image in server.sent if at == row]).view(8, 8).mean(1)
        assert bool((scores[1:] > scores[0]).all())
        assert float(scores[4:].mean()) > float(scores[:4].mean())


@pytest.mark.parametrize("what", ["noise", "handle"])
def test_what_it_costs_is_what_was_asked_and_drawn(what, monkeypatch):
    rows, server = [], planted(0.8)
    down = Cloud.down

    def counted(cloud):
        rows.append(len(cloud.seeds) * len(cloud.path))
        return down(cloud)

    monkeypatch.setattr(Cloud, "down", counted)
    found = bred(what, editing(server), SMALL)
    assert sum(rows) == sum(each.network_rows for each in found)
    for row, each in enumerate(found):
        asked = [image for at, image in server.sent if at == row]
        assert len(asked) == each.queries <= each.attempts * 32
        assert each.network_rows == each.queries * 10
        assert any(torch.equal(each.image, image) for image in asked)
    assert found[0].success


def test_the_nearest_of_all_that_flipped_is_delivered():
    """And an image that has flipped gets closer for as many generations as asked for, no longer."""
    server = planted(1.2)
    original = X[0] / 2 + 0.5
    (at_once,) = evolution(editing(planted(1.2), [0]), replace(SMALL, generations=12, closer=0))
    (later,) = evolution(editing(server, [0]), replace(SMALL, generations=12, closer=4))
    assert later.queries == at_once.queries + 4 * 8
    flipped = torch.stack([image for _, image in server.sent if float(score(2 * image[None] - 1)) > 1.2])
    assert len(later.valid) == len(flipped)
    away = [(each - original).abs().mean() for each in (later.image, at_once.image)]
    assert float(away[0]) == pytest.approx(float((flipped - original).abs().mean((1, 2, 3)).min()), abs=1e-3)
    assert away[0] < away[1]


def test_equal_scores_choose_nothing():
    """The first unguided draw is delivered bit for bit, and elites and the distribution stay as they were."""
    flat = Server(lambda x: x.new_full((len(x),), -1.0))
    (found, _) = evolution(editing(flat), SMALL, attempts=1)
    still = editing(flat, eta=0.0)
    images, _, _ = still.asked(Cloud(still, 0.35, 8).down())
    assert torch.equal(found.image, images[0, 0])
    ties = torch.zeros(8, dtype=torch.float64)
    elites = Mutating(1, X[0], SMALL)
    first = elites.ask(0)
    for generation in range(1, 4):
        elites.tell(first if generation == 1 else elites.ask(generation), ties)
        assert torch.equal(elites.elite.noise, first[:2])
    told, untold = (Adapting(1, 12, X, SMALL) for _ in range(2))
    for one in (told, untold):
        one.ask(0)
    told.tell(torch.zeros(8, 12), ties)
    assert torch.equal(told.ask(1), untold.ask(1))


@pytest.mark.parametrize("what", ["noise", "handle"])
def test_an_image_does_not_depend_on_its_batch(what):
    together = bred(what, editing(planted(1.2)), SMALL)
    for row in (0, 1):
        (alone,) = bred(what, editing(planted(1.2), [row]), SMALL)
        torch.testing.assert_close(alone.image, together[row].image, atol=1.1 / 255, rtol=0)
        assert (alone.queries, alone.attempts) == (together[row].queries, together[row].attempts)


def test_children_are_standard_normal_and_near_their_parents():
    options = EvolutionOptions(population=64, elites=4)
    one = Mutating(3, torch.zeros(3, 32, 32), options)
    first = one.ask(0)
    one.tell(first, torch.arange(64, dtype=torch.float64))
    children = one.ask(1)
    assert float(children.var()) == pytest.approx(1, abs=0.02)
    for at in range(8):
        parent = first[63 - at % 4]
        assert float((children[at] * parent).mean() / parent.square().mean()) == pytest.approx((1 - 0.25**2) ** 0.5, abs=0.03)


def test_a_flip_is_worth_more_than_any_odds():
    """Then closeness counts; odds within the server's own noise are one."""
    odds = torch.tensor([-700.0, -699.9, 40.0, float("inf"), -5.0, 3.0]).double()
    flipped = torch.tensor([False, False, False, False, True, True])
    value = worth(odds, flipped, torch.tensor([0, 0, 0, 0, 0.9, 0.5]).double())
    assert bool((value.diff() > 0).all())
    value = worth(torch.tensor([-5.01, -4.99, -2.0]).double(), torch.zeros(3, dtype=torch.bool), torch.zeros(3).double(), 0.1)
    assert value[0] == value[1] < value[2]


def test_low_frequencies_are_orthonormal_and_those_that_were_asked_for():
    basis = cosines(4, 9)
    torch.testing.assert_close(basis @ basis.T, torch.eye(4, dtype=torch.float64))
    one, given = editing(Server()), torch.randn(2, LowFrequency(channels=3, side=2).dim)
    rows = cosines(2, 4).float()
    same, noise = LowFrequency(channels=3, side=2).start(one, given)
    torch.testing.assert_close((rows @ noise @ rows.T).flatten(1), given)
    assert torch.equal(same.x, one.x)
    moved, own = LowFrequency(channels=3, side=2, of="latents", amplitude=0.2).start(one, given)
    torch.testing.assert_close((moved.x - one.x).square().mean((1, 2, 3)), 0.2**2 * given.square().sum(1) / 3)
    torch.testing.assert_close(noise - rows.T @ (rows @ noise @ rows.T) @ rows, own - rows.T @ (rows @ own @ rows.T) @ rows)


def test_a_handle_may_be_what_the_network_is_told():
    """A network that draws what it is told in one number: the number that is just enough for the flip is found."""
    plain = editing(Server(lambda x: 20 * (x.mean((1, 2, 3)) - 0.3)))

    def eps(z, t, cond):
        a = plain.diffusion.levels.alpha_bars.float()[t.long()].view(-1, 1, 1, 1)
        return (z - a.sqrt() * cond.tensors["level"][:, :, None, None]) / (1 - a).sqrt()

    class Level:
        dim = 2

        def start(self, each, coordinates):
            told = Conditioning.of(level=0.2 * coordinates[:, :1])
            return replace(each, cond=told), torch.zeros_like(each.x)

    diffusion = replace(plain.diffusion, course=replace(plain.diffusion.course, network=eps))
    one = editing(Server(lambda x: 20 * (x.mean((1, 2, 3)) - 0.3)), [0], diffusion=diffusion, x=torch.zeros(1, 3, 4, 4))
    (found,) = handle_evolution(one, Level(), EvolutionOptions(generations=20, closer=8), 1)
    assert found.success
    assert 0.3 < float(2 * found.image.mean() - 1) < 0.36


@pytest.mark.parametrize(
    "options",
    [
        {"population": 3},
        {"elites": 0},
        {"elites": 17},
        {"generations": 0},
        {"signals": ()},
        {"mutation": 0},
        {"spread": 4},
        {"closer": -1},
    ],
)
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        EvolutionOptions(**options)


def test_handles_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="100"):
        LowFrequency(channels=3, side=6)
    with pytest.raises(ValueError, match="does not fit"):
        handle_evolution(editing(Server()), LowFrequency(channels=4), SMALL)

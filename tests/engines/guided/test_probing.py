"""Slopes along coarse directions: exact for a linear score, and of use where particles are all alike."""

import torch

from engines.guided.ensemble import EnsembleOptions, ensemble
from engines.guided.probing import coarse_basis, coarse_slope
from tests.engines.guided.searching import Server, editing
from tests.engines.guided.vectors import SHAPE, WEIGHT


def test_the_lowest_frequencies_are_orthonormal_and_begin_with_brightness():
    basis = coarse_basis(torch.Size(SHAPE), 2)
    assert basis.shape == (12, *SHAPE)
    flat = basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(12), atol=1e-6, rtol=0)
    assert (basis[0][0] == basis[0][0][0, 0]).all()


def test_the_slope_of_a_linear_score_is_its_coarse_part():
    """Every frequency of an image of 4 x 4, so all of it, but for the rounding to bytes."""
    server = Server()
    some = editing(server, [0])
    found, cost = coarse_slope(some, torch.zeros(1, *SHAPE), side=4, size=0.2, spread=0.1)
    wanted = WEIGHT * 0.1**2 * WEIGHT.numel()
    assert (found[0] - wanted).abs().max() < 0.02 * wanted.abs().max()
    assert cost == len(server.sent) == 2 * 48


def test_a_plateau_that_particles_do_not_leave_is_left():
    """The model goes by brightness alone and is flat near the images: without probes nothing tells where to go."""

    def bright(x):
        return -3 + 8 * (x.mean((1, 2, 3)) - 0.25).clamp(min=0) + 1e-4 * x[:, 0, 0, 0]

    options = {"particles": 8, "signals": (0.6, 0.6), "reach": (float("inf"),) * 2, "last": 0, "push": 0.3}
    (blind,) = ensemble(editing(Server(bright), [0]), EnsembleOptions(**options, probes=0))
    server = Server(bright)
    (seeing,) = ensemble(editing(server, [0]), EnsembleOptions(**options))
    assert (blind.success, seeing.success) == (False, True)
    assert seeing.queries == len(server.sent) > seeing.network_rows

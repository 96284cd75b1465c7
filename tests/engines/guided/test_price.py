"""No counterfactual costs more than was said before."""

from dataclasses import replace

import numpy as np
import pytest

from engines.guided.plan import SCORED
from engines.guided.price import most
from engines.guided.proposing import METHODS, ProposalPlan, Proposer
from engines.pipeline import load_pipeline
from tests.engines.guided.test_proposing import Server, judge
from tests.engines.pipelines import miniatures

PLAN = ProposalPlan(kept=6, signal=0.6, bisections=1, iterations=2, particles=4, steps=3, free_steps=2)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return load_pipeline(miniatures.save(miniatures.ddpm, tmp_path_factory.mktemp("ddpm")), backend="torch", threads=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stubborn", [True, False])
def test_what_is_spent_is_within_what_was_said(pixels, method, stubborn):
    """By a model that never gives in, and by one that does."""
    said = most(PLAN, method, free=2)
    images = np.random.default_rng(0).random((1, *pixels.image_shape), np.float32)
    made = Proposer(pipeline=pixels, plan=PLAN).propose(
        method, images, [1], [1], Server(stubborn=stubborn), judge=None if method in SCORED else judge, free=2
    )
    assert 0 < made.queries[0] <= said.queries
    assert 0 < made.network_rows[0] <= said.network_rows
    if stubborn:
        assert made.network_rows[0] >= said.network_rows / 8  # no idle promise either


def test_evolution_takes_exactly_what_was_said(pixels):
    """To the last generation of the last start, and with no fewer than four individuals."""
    plan = replace(PLAN, particles=2, trims=())
    images = np.random.default_rng(0).random((1, *pixels.image_shape), np.float32)
    made = Proposer(pipeline=pixels, plan=plan).propose("evolution", images, [1], [1], Server(stubborn=True))
    said = most(plan, "evolution", free=0)
    assert (made.queries[0], made.network_rows[0]) == (said.queries, said.network_rows) == (2 * 8 * 4, 2 * 8 * 4 * PLAN.steps)

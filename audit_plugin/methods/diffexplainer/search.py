"""Search of a prompt by CMA-ES in a few dimensions (specification 7.3): at most 32 of them, from scores alone.

After Hansen and Ostermeier (2001), by Hansen's own package; black-box tuning of prompts by it is Sun et al. (2022).  Ours: common random
numbers within a generation, a box and a pull towards the base prompt, and the distribution's mean as the answer.
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from audit_plugin.methods.diffexplainer.objective import Asker, Objective, SearchResult, check_search, penalties

AGAIN = 2
"""Best of a generation that are scored again on fresh seeds."""
COMPARED_SEEDS = 32
"""Common fresh seeds on which the ends of several runs are compared."""


def cma_search(
    objective: Objective,
    dim: int,
    *,
    seed: int,
    budget: int,
    start: Float[np.ndarray, "d"] | None = None,
    population: int = 16,
    sigma: float = 1.0,
    box: float = 3.0,
    penalty: float = 0.1,
    restarts: int = 2,
    draws: int = 1,
    final: int = 100,
    least: int = 500,
) -> SearchResult:
    """The prompt vector of the highest expected score, by covariance matrix adaptation.

    Args:
        objective: Scores of vectors under seeds; higher is better.
        dim: Length d of a vector.
        seed: Of the search; everything follows from it and the objective.
        budget: Queries in all, those of the final value included; never exceeded.
        start: Where the distribution is centred at first; 0, the base prompt, unless given.
        population: Vectors per generation.
        sigma: First standard deviation, in whitened coordinates.
        box: Every coordinate stays within ±box.
        penalty: Times |z|²/d is taken off the score that the search sees.
        restarts: Independent runs at most, the budget shared; fewer where one would get fewer than ``least`` queries.
        draws: Seeds per vector and generation, K; more cost generations: at equal queries one was better on our oracles.
        final: Seeds of the final value.
        least: Queries that a run needs.

    Raises:
        ValueError: The budget does not hold one generation and the final value, or an argument is out of range.
    """
    centre = check_search(dim, start, box, population - 2, restarts, draws, final, least)
    rng = np.random.default_rng(seed)
    asker = Asker(objective, rng)
    runs = max(1, min(restarts, budget // least))
    compared = asker.rows(COMPARED_SEEDS) * runs * asker.cost if runs > 1 else 0
    left = budget - compared - asker.rows(final) * asker.cost
    generation = (population + AGAIN) * draws * asker.cost
    if left < runs * generation:
        raise ValueError(f"a budget of {budget} queries holds no generation of {generation} beside the final value: raise it")
    trace: list[tuple[int, float]] = []
    ends = []
    for run in range(runs):
        share = asker.queries + (left - asker.queries) // (runs - run)
        strategy = _strategy(centre, sigma, population, box, rng)
        while asker.queries + generation <= share and not strategy.stop():
            asked = strategy.ask()
            vectors = np.asarray(asked)
            fitness = asker.ask(vectors, draws).mean(axis=1) - penalties(vectors, penalty)
            strategy.tell(asked, (-fitness).tolist())
            best = vectors[np.argsort(-fitness)[:AGAIN]]
            again = float(asker.ask(best, draws).mean())
            trace.append((asker.queries, again))
        ends.append(np.clip(strategy.result.xfavorite, -box, box))
    if runs == 1:
        return asker.result(ends[0], trace, final)
    worth = asker.ask(np.stack(ends), asker.rows(COMPARED_SEEDS)).mean(axis=1) - penalties(np.stack(ends), penalty)
    return asker.result(ends[int(worth.argmax())], trace, final)


def _strategy(centre: Float[np.ndarray, "d"], sigma: float, population: int, box: float, rng: np.random.Generator) -> Any:
    """Hansen's strategy on our random numbers: it would seed numpy's, write logs and read a file of signals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package tells that it cannot plot
        from cma import CMAEvolutionStrategy
    options = {
        "popsize": population,
        "bounds": [-box, box],
        "seed": np.nan,
        "randn": lambda *shape: rng.standard_normal(shape),
        "tolx": 0.01,
        "verbose": -10,  # and no file of signals is read
        "verb_log": 0,
    }
    return CMAEvolutionStrategy(centre, sigma, options)

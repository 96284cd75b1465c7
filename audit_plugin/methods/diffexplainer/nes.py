"""Search of a prompt by estimated gradients (specification 7.4): natural evolution strategies in mirrored pairs, steps by Adam.

After Wierstra et al. (2014) and Salimans et al. (2017); SPSA (Spall, 1992) is one pair of random signs.  Weaker than CMA-ES at equal
queries in few dimensions; for more than 32, or to follow a drifting model from its last solution.  Needs scores: labels are too coarse.
"""

import numpy as np
from jaxtyping import Float

from audit_plugin.methods.diffexplainer.objective import Asker, Objective, SearchResult, check_search, penalties

MOMENTUM, SCALING, TINY = 0.9, 0.999, 1e-8
"""Adam's β₁, β₂ and ε (Kingma and Ba, 2015)."""


def nes_search(
    objective: Objective,
    dim: int,
    *,
    seed: int,
    budget: int,
    start: Float[np.ndarray, "d"] | None = None,
    pairs: int = 10,
    sigma: float = 0.3,
    rate: float = 0.1,
    box: float = 3.0,
    penalty: float = 0.1,
    draws: int = 1,
    final: int = 100,
    ranked: bool = False,
    signs: bool = False,
) -> SearchResult:
    """The prompt vector of the highest expected score, by ascent along g = 1/(2σn) Σ [F(z + σu) − F(z − σu)] u.

    The answer is the mean of the last quarter of the steps, which averages their noise.

    Args:
        objective: Scores of vectors under seeds; higher is better.
        dim: Length d of a vector.
        seed: Of the search; everything follows from it and the objective.
        budget: Queries in all, those of the final value included; never exceeded.
        start: First z; 0, the base prompt, unless given.
        pairs: Mirrored directions u per step, n.
        sigma: Distance of the two sides from z.
        rate: Adam's step, 0.1 to 0.3.
        box: Every coordinate that is asked or answered stays within ±box.
        penalty: Times |z|²/d is taken off the score that the search sees.
        draws: Seeds per vector and step, K; the same for all vectors of a step.
        final: Seeds of the final value.
        ranked: Replace the pairs' differences by their centred ranks: steps no longer depend on the score's scale or outliers.
        signs: Directions of random signs instead of normal ones; with one pair this is SPSA.

    Raises:
        ValueError: The budget does not hold one step and the final value, or an argument is out of range.
    """
    z = check_search(dim, start, box, pairs, draws, final)
    if not (sigma > 0 and rate > 0):
        raise ValueError(f"need a sigma and a rate above 0, got {sigma} and {rate}")
    rng = np.random.default_rng(seed)
    asker = Asker(objective, rng)
    step_cost = 2 * pairs * draws * asker.cost
    steps = (budget - asker.rows(final) * asker.cost) // step_cost
    if steps < 1:
        raise ValueError(f"a budget of {budget} queries holds no step of {step_cost} beside the final value: raise it")
    trace, path = list[tuple[int, float]](), list[Float[np.ndarray, "d"]]()
    first, second = np.zeros(dim), np.zeros(dim)
    for step in range(1, steps + 1):
        u = rng.choice([-1.0, 1.0], (pairs, dim)) if signs else rng.standard_normal((pairs, dim))
        vectors = np.clip(np.concatenate([z + sigma * u, z - sigma * u]), -box, box)
        scores = asker.ask(vectors, draws).mean(axis=1)
        trace.append((asker.queries, float(scores.mean())))
        fitness = scores - penalties(vectors, penalty)
        differences = fitness[:pairs] - fitness[pairs:]
        gradient = (_centred_ranks(differences) if ranked else differences) @ u / (2 * sigma * pairs)
        first, second = MOMENTUM * first + (1 - MOMENTUM) * gradient, SCALING * second + (1 - SCALING) * gradient**2
        ascent = first / (1 - MOMENTUM**step) / (np.sqrt(second / (1 - SCALING**step)) + TINY)
        z = np.clip(z + rate * ascent, -box, box)
        path.append(z)
    return asker.result(np.mean(path[-max(1, steps // 4) :], axis=0), trace, final)


def _centred_ranks(differences: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Ranks of the sizes in (0, 1], with the differences' signs; a difference of 0 stays 0."""
    sizes = np.abs(differences).argsort().argsort() + 1
    return np.asarray(np.sign(differences) * sizes / len(differences))

"""Fewer evaluations for nearly the same picture: a solver whose steps were fitted to where a finer plan arrives.

A deterministic sampler moves by a fixed combination of the state and of past clean estimates.  A fitted solver visits only some of the plan's
levels and takes the combinations that, over pictures drawn in full, come closest to the full plan's own states: least squares, one step
after the other, each on the states that the solver itself has reached, so that a step also mends what those before it missed.

Solvers with coefficients of their own at every step, fitted to a fine solver of the same network, are those of Shaul et al. 2024
("Bespoke non-stationary solvers", arXiv 2403.01329); here the levels are a subset of the plan's, proposed by dynamic programming, and the
fit is linear.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.protocols import Denoiser
from engines.samplers import OnStep, Sampler
from engines.schedules import Trajectory

Latents = Float[Tensor, "n c h w"]

PAST = 2
"""Clean estimates that a step combines: the newest and the one before it."""
_RIDGE = 1e-10
"""Relative to a column's power: columns that are one another's multiples must not get huge weights of opposite signs."""


@dataclass(frozen=True)
class FittedSolver:
    """Which levels of a plan are visited, and how each is left: a plan's sampler, with fewer evaluations."""

    levels: tuple[int, ...]
    """Positions among the plan's levels, from 0 (the start) to the last (where nothing is evaluated)."""
    weights: tuple[tuple[float, ...], ...]
    """Of each step: of the state, of the newest clean estimate, of the one before it; the first step has no last one."""

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or self.levels[0] != 0 or any(b <= a for a, b in pairwise(self.levels)):
            raise ValueError(f"a solver's levels rise from 0 to the plan's last, got {self.levels}")
        if [len(row) for row in self.weights] != [2 + min(step, PAST - 1) for step in range(self.steps)]:
            raise ValueError(f"a solver of {self.steps} steps has 2 weights for the first and {1 + PAST} for each other one")
        if not all(math.isfinite(weight) for row in self.weights for weight in row):
            raise ValueError("a solver's weights are finite numbers; what it was fitted to was not")

    @property
    def steps(self) -> int:
        """Evaluations of one picture."""
        return len(self.levels) - 1

    def along(self, path: Trajectory) -> Trajectory:
        """The levels that are visited of the full path.  Raises ValueError for a path of another length."""
        if self.levels[-1] != len(path.sigmas) - 1:
            raise ValueError(f"the solver was fitted to {self.levels[-1]} steps, the plan has {len(path.sigmas) - 1}")
        told = tuple(path.timesteps[at] for at in self.levels[:-1]) if path.timesteps else ()
        return replace(path, sigmas=tuple(path.sigmas[at] for at in self.levels), timesteps=told)

    def sample(self, denoise: Denoiser, x: Latents, sigmas: Sequence[float], on_step: OnStep | None = None) -> Latents:
        """Take x, noisy at sigmas[0], down to sigmas[-1]; ``sigmas`` are those of :meth:`along`."""
        before: Tensor | None = None
        for step, (sigma, weights) in enumerate(zip(sigmas[:-1], self.weights, strict=True)):
            clean = denoise(x, x.new_full([len(x)], sigma))
            if on_step is not None:
                on_step(step, sigma, clean)
            x = _combined(weights, x, clean, before)
            before = clean
        return x


@dataclass(frozen=True, eq=False)
class FullRun:
    """A batch drawn by the full plan."""

    denoise: Denoiser
    """What drew it."""
    states: Sequence[Latents]
    """At every level, the start first, the end last."""
    estimates: Sequence[Latents]
    """Clean estimates at all levels but the last."""


@dataclass(frozen=True)
class Fit:
    """A solver, and how far it ends from the full plan."""

    solver: FittedSolver
    error: float
    """||solver - full|| / ||full|| of the last states, over runs that nothing was fitted to."""
    plain: float | None = None
    """The same of the plan's own sampler in as many steps; None where it was not drawn."""


def full_run(denoise: Denoiser, x: Latents, sigmas: Sequence[float], sample: Sampler) -> FullRun:
    """Draw a batch by a plan and remember the way.  Raises ValueError for a sampler that evaluates more than once a step."""
    states: list[Tensor] = []
    estimates: list[Tensor] = []

    def watched(at: Tensor, sigma: Tensor, /) -> Tensor:
        states.append(at)
        estimates.append(denoise(at, sigma))
        return estimates[-1]

    states.append(sample(watched, x, sigmas, None))
    if len(states) != len(sigmas):
        raise ValueError(
            f"the sampler evaluates {len(states) - 1} times on {len(sigmas) - 1} steps; a solver replaces samplers of one evaluation a step"
        )
    return FullRun(denoise, states, estimates)


def fit_solver(
    runs: Sequence[FullRun],
    sigmas: Sequence[float],
    steps: int,
    *,
    held_out: int = 1,
    candidates: int = 24,
    plain: Callable[[FullRun], Latents] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Fit:
    """The best of so many likely sets of levels, each fitted and drawn; the last ``held_out`` runs only measure the error, of ``plain`` as well.

    Raises ValueError unless there is a run more than are held out and 1 <= steps < those of the full plan.
    """
    if not 1 <= steps < len(sigmas) - 1:
        raise ValueError(f"a solver for {len(sigmas) - 1} steps has 1 to {len(sigmas) - 2} of its own, got {steps}")
    if not 1 <= held_out < len(runs):
        raise ValueError(f"need more runs than the {held_out} that measure the error, got {len(runs)}")
    learnt, asked = runs[:-held_out], runs[-held_out:]
    likely = likely_levels(_powers(learnt), len(sigmas) - 1, steps, candidates)
    tried: list[tuple[float, FittedSolver]] = []
    for levels in likely:
        tried.append(_fitted(learnt, levels, sigmas))
        progress(len(tried), len(likely))
    _, solver = min(tried, key=lambda one: one[0])
    visited = [sigmas[at] for at in solver.levels]
    error = _error(asked, lambda run: solver.sample(run.denoise, run.states[0], visited))
    return Fit(solver, error, None if plain is None else _error(asked, plain))


def _error(runs: Sequence[FullRun], draw: Callable[[FullRun], Latents]) -> float:
    wanted = torch.cat([run.states[-1] for run in runs])
    return float((torch.cat([draw(run) for run in runs]) - wanted).norm() / wanted.norm())


def likely_levels(powers: Float[np.ndarray, "v v"], count: int, steps: int, most: int) -> list[tuple[int, ...]]:
    """Positions 0 … count, so many steps apart: the ways with the least sums of relative squared errors of single steps along full runs.

    ``powers`` are inner products of states 0 … count followed by estimates 0 … count - 1.  Whether a step is good depends on the two levels
    before its end, so the search is over pairs.  How much an early error matters at the end is not in these sums; hence several ways.
    """
    reached: dict[tuple[int, int], list[tuple[float, tuple[int, ...]]]] = {
        (0, to): [(_missed(powers, count, None, 0, to), (0, to))] for to in range(1, count + 1)
    }
    for _ in range(steps - 1):
        following: dict[tuple[int, int], list[tuple[float, tuple[int, ...]]]] = {}
        for (before, at), ways in reached.items():
            for to in range(at + 1, count + 1):
                missed = _missed(powers, count, before, at, to)
                following.setdefault((at, to), []).extend((cost + missed, (*way, to)) for cost, way in ways)
        reached = {pair: nsmallest(most, ways) for pair, ways in following.items()}
    ended = [one for (_, at), ways in reached.items() if at == count for one in ways]
    return [way for _, way in nsmallest(most, ended)]


def _missed(powers: Float[np.ndarray, "v v"], count: int, before: int | None, at: int, to: int) -> float:
    """Squared error of the best step from ``at`` to ``to``, over the power of the state there."""
    columns = [at, count + 1 + at, *([] if before is None else [count + 1 + before])]
    weights = _solved(powers[np.ix_(columns, columns)], powers[columns, to])
    return float(max(1.0 - weights @ powers[columns, to] / powers[to, to], 0.0))


def _fitted(runs: Sequence[FullRun], levels: tuple[int, ...], sigmas: Sequence[float]) -> tuple[float, FittedSolver]:
    """Steps by these levels, and how far the runs end from their full ends."""
    states = [run.states[0] for run in runs]
    before: list[Tensor] | None = None
    steps: list[tuple[float, ...]] = []
    for at, to in pairwise(levels):
        clean = [run.denoise(x, x.new_full([len(x)], sigmas[at])) for run, x in zip(runs, states, strict=True)]
        columns = [states, clean] if before is None else [states, clean, before]
        vectors = torch.cat([_flat(each) for each in (*columns, [run.states[to] for run in runs])])
        powers = (vectors @ vectors.T).cpu().numpy()
        weights = tuple(_solved(powers[:-1, :-1], powers[:-1, -1]).tolist())
        past: Sequence[Tensor | None] = before or [None] * len(runs)
        states = [_combined(weights, x, one, old) for x, one, old in zip(states, clean, past, strict=True)]
        steps.append(weights)
        before = clean
    missed = sum(float((x - run.states[-1]).square().sum()) for x, run in zip(states, runs, strict=True))
    return missed, FittedSolver(levels, tuple(steps))


def _combined(weights: Sequence[float], x: Tensor, clean: Tensor, before: Tensor | None) -> Tensor:
    made = weights[0] * x + weights[1] * clean
    return made if before is None else made + weights[2] * before


def _powers(runs: Sequence[FullRun]) -> Float[np.ndarray, "v v"]:
    """Inner products over all runs, run by run, since all of them at once in float64 may not fit into memory."""

    def products(run: FullRun) -> Float[np.ndarray, "v v"]:
        vectors = torch.cat([_flat([each]) for each in (*run.states, *run.estimates)])
        return np.asarray((vectors @ vectors.T).cpu().numpy())

    return np.asarray(np.sum([products(run) for run in runs], axis=0))


def _flat(tensors: Iterable[Tensor]) -> Float[Tensor, "1 v"]:
    return torch.cat([each.flatten() for each in tensors]).double()[None]


def _solved(gram: Float[np.ndarray, "k k"], right: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Least squares by normal equations, columns scaled to one another: a state at a high level is thousands of times an estimate."""
    scale = np.sqrt(np.diag(gram))
    scaled = gram / np.outer(scale, scale) + _RIDGE * np.eye(len(gram))
    return np.linalg.solve(scaled, right / scale) / scale

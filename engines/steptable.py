"""A sampler as a table: all that a trajectory multiplies by, worked out in float64 on the host and uploaded once.

The steps of the samplers here are affine in the state, the clean estimate, the one before it and fresh noise:
x' = keep x + clean D + before D_before + noise n,  with  D = c_skip x + c_out F(c_in x; t)  for the network F.  The numbers are not
written down again but read off the sampler and the denoiser themselves, which are run once on unit vectors.  What is left has no
number on the host that depends on the device, so that a whole trajectory can be enqueued, or captured, without waiting.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.noise import step_noise
from engines.protocols import Denoiser

COLUMNS = ("c_in", "t", "c_skip", "c_out", "keep", "clean", "before", "noise")

TOLERANCE = 1e-9
"""Relative; what is not affine misses by far more."""

StepTable = Float[Tensor, "steps 8"]
RowNetwork = Callable[[Tensor, Tensor], Tensor]
"""(x (n ...) of the network's scale, t (n)) -> its output (n ...)."""

State = Mapping[str, Tensor]
Step = Callable[[State, Tensor], State]
"""(``x`` and the estimate ``before`` (n ...), a row of the table) -> both after the step: what ``engines.capture`` records."""

OnDenoiser = Callable[[Denoiser, Tensor, Callable[[int], Tensor]], Tensor]
"""(denoise, x, noise of step i) -> the end of the trajectory: a sampler with its levels fixed."""


def step_table(
    sigmas: Sequence[float], sampler: OnDenoiser, denoiser_of: Callable[[RowNetwork], Denoiser]
) -> Float64[Tensor, "steps 8"]:
    """One row per evaluation, on the host.

    ``sigmas`` are the levels visited, the last of which is not evaluated.  Raises ValueError for a sampler or a denoiser that is not
    affine as above (second evaluations, clipping).
    """
    evaluated = torch.tensor(list(sigmas[:-1]), dtype=torch.float64)
    return torch.cat([_network_columns(evaluated, denoiser_of), _sampler_columns(len(evaluated), sampler)], 1)


def step_noises(seeds: Sequence[int], steps: int, shape: Sequence[int]) -> Float[Tensor, "steps n ..."]:
    """The noise of every step, drawn before the first: row i depends on ``seeds[i]`` only."""
    return torch.stack([step_noise(seeds, step, shape) for step in range(steps)])


def table_steps(networks: Sequence[RowNetwork], noise: Float[Tensor, "steps n ..."] | None = None) -> list[Step]:
    """One step per network: where guidance begins or ends another one is called, which the host knows beforehand.

    Without noise equal networks make one and the same step, which needs to be recorded once only.
    """
    if noise is not None:
        return [_step(network, added) for network, added in zip(networks, noise, strict=True)]
    made = {network: _step(network, None) for network in dict.fromkeys(networks)}
    return [made[network] for network in networks]


def run_table(steps: Sequence[Step], x: Float[Tensor, "n ..."], table: StepTable) -> Float[Tensor, "n ..."]:
    """Take x to the end of the table, all on one device, of which the host asks nothing."""
    state: State = {"x": x, "before": torch.zeros_like(x)}
    for step, row in zip(steps, table.unbind(), strict=True):
        state = {**state, **step(state, row)}
    return state["x"]


def _step(network: RowNetwork, noise: Tensor | None) -> Step:
    def step(state: State, row: Tensor) -> State:
        x = state["x"]
        c_in, t, c_skip, c_out, keep, clean, before, spread = row.unbind()
        estimate = c_skip * x + c_out * network(c_in * x, t.expand(len(x)))
        after = keep * x + clean * estimate + before * state["before"]
        return {"x": after if noise is None else after + spread * noise, "before": estimate}

    return step


def _network_columns(
    sigmas: Float64[Tensor, " steps"], denoiser_of: Callable[[RowNetwork], Denoiser]
) -> Float64[Tensor, "steps 4"]:
    told: list[tuple[Tensor, Tensor]] = []

    def answers(x: float, output: float) -> Tensor:
        def network(scaled: Tensor, t: Tensor) -> Tensor:
            told.append((scaled.flatten(), t))
            return torch.full_like(scaled, output)

        return denoiser_of(network)(torch.full((len(sigmas), 1, 1, 1), x, dtype=torch.float64), sigmas).flatten().double()

    c_skip, c_out = answers(1.0, 0.0), answers(0.0, 1.0)
    if not torch.allclose(answers(-300.0, 70.0), -300 * c_skip + 70 * c_out, rtol=TOLERANCE):
        raise ValueError("the denoiser is not affine in its network's output, so that it has no table; sample it step by step")
    return torch.stack([told[0][0].double(), told[0][1].double(), c_skip, c_out], 1)


def _sampler_columns(steps: int, sampler: OnDenoiser) -> Float64[Tensor, "steps 4"]:
    unit = torch.eye(1 + 2 * steps, dtype=torch.float64).view(1 + 2 * steps, 1, -1, 1, 1)
    start, estimates, noises = unit[0], unit[1 : steps + 1], unit[steps + 1 :]
    states: list[Tensor] = []

    def denoise(x: Tensor, _: Tensor, /) -> Tensor:
        states.append(x)
        if len(states) > steps:
            raise ValueError("the sampler evaluates more than once a step, so that it has no table; run it step by step")
        return estimates[len(states) - 1]

    states.append(sampler(denoise, start, lambda step: noises[step]))
    rows = [
        _fit(states[i : i + 2], estimates[i], estimates[i - 1] if i else torch.zeros_like(start), noises[i]) for i in range(steps)
    ]
    return torch.stack(rows)


def _fit(states: Sequence[Tensor], estimate: Tensor, previous: Tensor, noise: Tensor) -> Float64[Tensor, " 4"]:
    """The step from the first state to the second as a combination of vectors that are linearly independent."""
    basis = torch.stack([each.flatten() for each in (states[0], estimate, previous, noise)], 1)
    wanted = states[1].flatten()[:, None]
    found: Tensor = torch.linalg.lstsq(basis, wanted, driver="gelsd").solution
    if not torch.allclose(basis @ found, wanted, atol=TOLERANCE):
        raise ValueError(
            "the sampler's step depends on more than the last two estimates, so that it has no table; run it step by step"
        )
    return found[:, 0]

"""Work on a GPU recorded once and replayed at the cost of one launch: a call, a step of a trajectory, or a whole trajectory.

What is recorded keeps its addresses: inputs are changed in place, results are read where they were written.  What the host did while
it was recorded (branches, numbers read from Python) is not done again, so that per-step coefficients come from a tensor.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from engines.errors import CaptureError, FeedError
from engines.protocols import Replay

Policy = Literal["none", "step", "loop"]
"""What one launch covers: a kernel, a step of a trajectory, the whole trajectory."""

Work = Callable[[], None]
Recorder = Callable[[Work], Replay]
"""Takes work that may be repeated and returns what repeats it on the current stream."""

State = Mapping[str, Tensor]
Step = Callable[[State, Tensor], State]
"""(state, the step's coefficients (k)) -> the tensors of the state that change; asks the device nothing."""

WARM_UPS = 2
"""Runs before recording: libraries choose kernels and allocate workspaces in the first, and have settled in the second."""

CAPTURABLE = frozenset({"torch", "torch-compiled", "tensorrt"})
"""Backends whose launches can be recorded from outside; ONNX Runtime records its own, see its ``bind``."""

_ONE_AT_A_TIME = Lock()


def policy_refused(policy: Policy, device: torch.device, backends: Collection[str]) -> str | None:
    """Why a trajectory through engines of these backends cannot be run by the policy, or None."""
    if policy not in get_args(Policy):
        return f"capture policy {policy!r} is unknown; use {', '.join(get_args(Policy))}"
    if policy == "none":
        return None
    if device.type != "cuda":
        return f"capture policy {policy!r} needs a CUDA device, the work is on {device}; use none"
    own = sorted(set(backends) - CAPTURABLE)
    return f"launches of {', '.join(own)} cannot be recorded from outside; use policy none" if own else None


def recorder_for(device: torch.device) -> Recorder:
    """CUDA graphs on a GPU; on a CPU, where a launch costs nothing, work is simply repeated."""
    return partial(record_cuda, device=device) if device.type == "cuda" else repeated


def repeated(work: Work) -> Replay:
    """Nothing is recorded."""
    return work


@dataclass(frozen=True, eq=False)
class Recorded:
    """A CUDA graph, together with the work, which holds the tensors whose addresses are in the graph."""

    graph: torch.cuda.CUDAGraph
    work: Work

    def __call__(self) -> None:
        """One launch on the current stream."""
        self.graph.replay()


def record_cuda(work: Work, device: torch.device) -> Recorded:
    """Run twice on a side stream, then record on it.  The work was done, twice, when this returns.

    Raises CaptureError for work that waits for the device, copies from pageable memory, or allocates outside torch.
    """
    graph = torch.cuda.CUDAGraph()
    with (
        torch.cuda.device(device),
        torch.cuda.stream(torch.cuda.current_stream(device)),
    ):  # to which a failed recording does not return
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types for it
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        try:
            with _ONE_AT_A_TIME, torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CaptureError(str(error)) from error
        torch.cuda.current_stream().wait_stream(side)
    return Recorded(graph, work)


@dataclass(frozen=True, eq=False, kw_only=True)
class Trajectory:
    """A loop over named tensors that it changes in place: fill the state, call, read the state."""

    state: State
    replay: Replay
    captures: int
    """Graphs that were recorded for it."""

    def __call__(self) -> None:
        """From the first step to the last, enqueued on the current stream."""
        self.replay()


def capture_loop(
    steps: Sequence[Step],
    state: State,
    table: Float[Tensor, "steps k"],
    *,
    policy: Policy = "none",
    recorder: Recorder | None = None,
) -> Trajectory:
    """One step per row of the table, as launches of the policy's size; the state's contents are left as they were.

    Steps may differ, for instance where guidance ends: by policy ``step`` each distinct one is recorded once.  Classifier-free guidance and
    the sampler's update belong into the step.  ``recorder`` replaces CUDA graphs.  Raises CaptureError, FeedError.
    """
    if len(steps) != len(table) or not steps:
        raise FeedError(f"a trajectory has one step per row of its table, got {len(steps)} steps and {len(table)} rows")
    refused = None if recorder is not None else policy_refused(policy, table.device, ())
    if refused is not None:
        raise CaptureError(refused)
    record = recorder or recorder_for(table.device)
    every = [partial(_advance, step, state, row) for step, row in zip(steps, table.unbind(), strict=True)]
    if policy == "none":
        return Trajectory(state=state, replay=partial(_all, every), captures=0)
    with _left_alone(state):
        if policy == "loop":
            return Trajectory(state=state, replay=record(partial(_all, every)), captures=1)
        row = table[0].clone()
        launches = {step: record(partial(_advance, step, state, row)) for step in dict.fromkeys(steps)}
    return Trajectory(state=state, replay=partial(_by_steps, steps, launches, row, table), captures=len(launches))


def _all(works: Sequence[Work]) -> None:
    for work in works:
        work()


def _by_steps(steps: Sequence[Step], launches: Mapping[Step, Replay], row: Tensor, table: Tensor) -> None:
    for step, coefficients in zip(steps, table.unbind(), strict=True):
        row.copy_(coefficients)
        launches[step]()


def _advance(step: Step, state: State, row: Tensor) -> None:
    """Write what changes into the state; a result that lies in the state itself is taken out before anything is overwritten."""
    changed = step(state, row)
    unknown = sorted(set(changed) - set(state))
    if unknown:
        raise FeedError(f"a step returns {', '.join(unknown)}, which the state has not; it has {', '.join(sorted(state))}")
    held = {each.untyped_storage().data_ptr() for each in state.values()}
    fresh = {name: each.clone() if each.untyped_storage().data_ptr() in held else each for name, each in changed.items()}
    for name, value in fresh.items():
        if value.shape != state[name].shape or value.dtype != state[name].dtype:
            raise FeedError(
                f"a step makes {name!r} of {tuple(value.shape)} {value.dtype}, the state holds {tuple(state[name].shape)} {state[name].dtype}"
            )
        state[name].copy_(value)


@contextmanager
def _left_alone(state: State) -> Iterator[None]:
    """Recording runs the work; what the state held before is put back."""
    before = {name: value.clone() for name, value in state.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            state[name].copy_(value)

"""The loop both networks are trained by: budget, learning rate, moving average, checkpoints, progress."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.training import checkpoint
from engines.training.checkpoint import Spent
from engines.training.errors import TrainingError

Report = Callable[[int, int, str], None]
"""Told (done, total, what) now and then."""

_EVERY = 50
"""Steps between two reports; the loss is looked at no more often, since that makes a GPU wait."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When to stop: after so many steps or so many seconds, whichever comes first."""

    steps: int
    seconds: float
    checkpoint_seconds: float

    def spent(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, in [0, 1]."""
        return min(1.0, max(step / self.steps, seconds / self.seconds))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the networks to train: its name, and where and under which identity it is saved."""

    what: str
    saved: Path
    run: str
    """Digest of what is trained on what; a checkpoint of another run is refused."""


def rate(spent: float, *, peak: float, warm: float = 0.02) -> float:
    """Learning rate: linear rise over the first ``warm`` of the budget, then half a cosine to a hundredth of the peak."""
    if spent < warm:
        return peak * (spent / warm + 1e-3)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (spent - warm) / (1 - warm))))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """New networks get weights by this seed; the caller's own randomness goes on undisturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class StepRandomness:
    """One generator, set anew for every step, so that a resumed run draws what an uninterrupted one would have drawn."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._draw = seed, torch.Generator(device=device)

    def at(self, step: int) -> torch.Generator:
        """The generator at the start of a step."""
        name = hashlib.blake2b(f"{self._seed}/{step}".encode(), digest_size=8).digest()
        return self._draw.manual_seed(int.from_bytes(name, "big") >> 1)


@torch.no_grad()
def _follow(averages: list[Tensor], values: list[Tensor], decay: float) -> None:
    torch._foreach_lerp_(averages, values, 1 - decay)


def fit(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    *,
    average: nn.Module,
    budget: Budget,
    peak_rate: float,
    ema_decay: float,
    stage: Stage,
    report: Report,
) -> Spent:
    """Minimise ``loss(step)`` over ``module``'s parameters; ``average`` (same architecture) ends as their moving average.

    Resumes from the stage's checkpoint when there is one.  Raises TrainingError when the loss stops being a number.
    """
    parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
    shadow: list[Tensor] = [p for p in average.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=parameters[0].is_cuda)
    past = _resume(stage, module, average, optimizer)
    step, started = past.steps, time.monotonic() - past.seconds
    saved_at = time.monotonic()
    running = torch.tensor(past.loss, device=parameters[0].device)

    def so_far() -> Spent:
        now = Spent(steps=step, seconds=time.monotonic() - started, loss=float(running))
        if not math.isfinite(now.loss):
            raise TrainingError(f"{stage.what}: the loss is not finite at step {step}; lower the learning rate")
        return now

    while (share := budget.spent(step, time.monotonic() - started)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate(share, peak=peak_rate)
        value = loss(step)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _follow(shadow, parameters, min(ema_decay, (1 + step) / (10 + step)))
        running.lerp_(value.detach().float(), 0.02 if step else 1.0)
        step += 1
        if step % _EVERY == 0:
            report(step, budget.steps, f"{stage.what}, loss {so_far().loss:.4f}")
        if time.monotonic() - saved_at > budget.checkpoint_seconds:
            _keep(stage, module, average, optimizer, so_far())
            saved_at = time.monotonic()
    done = so_far()
    if done.steps > past.steps:
        _keep(stage, module, average, optimizer, done)
    report(step, budget.steps, f"{stage.what}, loss {done.loss:.4f}, {done.seconds:.0f} s")
    return done


def _resume(stage: Stage, module: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> Spent:
    past = checkpoint.load(stage.saved, run=stage.run)
    if past is None:
        return Spent()
    checkpoint.restore_module("module", module, past.tensors)
    checkpoint.restore_module("average", average, past.tensors)
    checkpoint.restore_optimizer(optimizer, past.tensors)
    return past.spent


def _keep(stage: Stage, module: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, spent: Spent) -> None:
    networks = checkpoint.module_tensors("module", module) | checkpoint.module_tensors("average", average)
    checkpoint.save(stage.saved, networks | checkpoint.optimizer_tensors(optimizer), spent, run=stage.run)

"""The loop both networks are trained by: budget, learning rate, moving average, checkpoints, progress."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.training import checkpoint

Report = Callable[[int, int, str], None]
"""Told (done, total, what) now and then."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When to stop: after so many steps or so many seconds, whichever comes first."""

    steps: int
    seconds: float
    checkpoint_seconds: float

    def spent(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, in [0, 1]."""
        return min(1.0, max(step / self.steps, seconds / self.seconds))


def rate(spent: float, *, peak: float, warm: float = 0.02) -> float:
    """Learning rate: linear rise over the first ``warm`` of the budget, then half a cosine to a hundredth of the peak."""
    if spent < warm:
        return peak * (spent / warm + 1e-3)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (spent - warm) / (1 - warm))))


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
    saved: Path,
    what: str,
    report: Report,
) -> dict[str, float]:
    """Minimise ``loss(step)`` over ``module``'s parameters; ``average`` (same architecture) ends as their moving average.

    Resumes from ``saved`` when it exists.  Returns the steps and seconds spent and the last mean loss.
    """
    parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
    shadow: list[Tensor] = [p for p in average.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=peak_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=parameters[0].is_cuda)
    tensors, step, before = checkpoint.load(saved)
    if tensors:
        checkpoint.restore_module("module", module, tensors)
        checkpoint.restore_module("average", average, tensors)
        checkpoint.restore_optimizer(optimizer, tensors)

    def keep(seconds: float) -> None:
        state = checkpoint.module_tensors("module", module) | checkpoint.module_tensors("average", average)
        checkpoint.save(saved, state | checkpoint.optimizer_tensors(optimizer), step=step, seconds=seconds)

    started = time.monotonic() - before
    last_saved = time.monotonic()
    running = torch.zeros((), device=parameters[0].device)
    while (spent := budget.spent(step, time.monotonic() - started)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate(spent, peak=peak_rate)
        value = loss(step)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _follow(shadow, parameters, min(ema_decay, (1 + step) / (10 + step)))
        running.lerp_(value.detach().float(), 0.02 if step else 1.0)
        step += 1
        if step % 50 == 0:
            if not math.isfinite(float(running)):
                raise FloatingPointError(f"{what}: the loss is not finite at step {step}; lower the learning rate")
            report(step, budget.steps, f"{what}, loss {float(running):.4f}")
        if time.monotonic() - last_saved > budget.checkpoint_seconds:
            keep(time.monotonic() - started)
            last_saved = time.monotonic()
    keep(time.monotonic() - started)
    return {"steps": step, "seconds": round(time.monotonic() - started, 1), "loss": float(running)}

"""From an image to the noise and the residuals that draw it again, exactly (Huberman-Spiegelglas et al. 2024, in residual form).

Every state x_t is noised by its own draw, which is what makes the residuals r_t = x_s - mean(x_t) editable.  They are kept as they are, not
divided by the step's spread, so that steps without spread are exact as well.  Each residual is taken from where the rounded path stands, so
that rounding errors do not add up over steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.editing.grid import TimeGrid
from engines.editing.predictor import Predictor
from engines.editing.steps import StepRule
from engines.noise import step_noise
from engines.precondition import rowwise

Latents = Float[Tensor, "n c h w"]
Steps = Float[Tensor, "n k c h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Inversion:
    """Everything from which images are drawn again, or otherwise, without another look at them; rows are images."""

    start: Latents
    """x_T, the state at the first timestep."""
    residuals: Steps
    """What the mean of each step missed."""
    predictions: Steps
    """The network's raw outputs on the way, so that an edit need not ask for them where it has not left it yet."""
    grid: TimeGrid
    rule: StepRule
    source: Conditioning
    """What the network was told, n rows."""
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.start)

    def __getitem__(self, rows: slice) -> "Inversion":
        """Some of the images."""
        return replace(
            self,
            start=self.start[rows],
            residuals=self.residuals[rows],
            predictions=self.predictions[rows],
            source=self.source[rows],
            seeds=self.seeds[rows],
        )

    def to(self, device: torch.device) -> "Inversion":
        """The same elsewhere."""
        return replace(
            self,
            start=self.start.to(device),
            residuals=self.residuals.to(device),
            predictions=self.predictions.to(device),
            source=self.source.to(device),
        )

    @classmethod
    def cat(cls, parts: Sequence["Inversion"]) -> "Inversion":
        """The images of all parts in order; every part has the same grid and rule."""
        first = parts[0]
        if any((part.grid, part.rule) != (first.grid, first.rule) for part in parts):
            raise ValueError("inversions by different grids or rules cannot be joined; invert all images by one operator")
        return replace(
            first,
            start=torch.cat([part.start for part in parts]),
            residuals=torch.cat([part.residuals for part in parts]),
            predictions=torch.cat([part.predictions for part in parts]),
            source=Conditioning.cat([part.source for part in parts]),
            seeds=tuple(seed for part in parts for seed in part.seeds),
        )


@torch.no_grad()
def invert(
    predictor: Predictor,
    x_0: Latents,
    seeds: Sequence[int],
    rule: StepRule,
    grid: TimeGrid,
    *,
    source: Conditioning,
    noised_at: Sequence[float] | None = None,
    max_norm: float | None = None,
) -> Inversion:
    """Invert images, in their own precision; ``source`` has one row, or one an image.  Costs one network row an image and step.

    Noise depends on the image's seed and the step alone.  After TurboEdit (Deutch et al. 2024): ``noised_at`` are other alpha bars to noise
    the states with than the grid's, since few-step networks see less noise than there is; ``max_norm`` limits the last residual of each
    image, which then is drawn again only up to what was cut off.
    """
    if len(seeds) != len(x_0):
        raise ValueError(f"need one seed per image, got {len(x_0)} images and {len(seeds)} seeds")
    told = source if len(source) == len(x_0) else source.expand(len(x_0))
    at = tuple(noised_at) if noised_at is not None else grid.alpha_bars[:-1]
    if len(at) != len(grid):
        raise ValueError(f"need one level to noise with for each of {len(grid)} steps, got {len(at)}")
    x = start = _noised(x_0, seeds, 0, at[0])
    residuals, predictions = [], []
    before: Tensor | None = None
    for k, t in enumerate(grid.times):
        predictions.append(predictor.output(x, t, told))
        now = predictor.estimate(x, predictions[-1], grid.alpha_bars[k])
        mean = rule.mean(grid, k, x, now, before)
        last = k + 1 == len(grid)
        residual = (x_0 if last else _noised(x_0, seeds, k + 1, at[k + 1])) - mean
        residuals.append(_limited(residual, max_norm) if last and max_norm is not None else residual)
        x, before = mean + residuals[-1], now.clean
    return Inversion(
        start=start,
        residuals=torch.stack(residuals, 1),
        predictions=torch.stack(predictions, 1),
        grid=grid,
        rule=rule,
        source=told,
        seeds=tuple(seeds),
    )


def _noised(x_0: Latents, seeds: Sequence[int], k: int, alpha_bar: float) -> Latents:
    noise = step_noise(seeds, k, x_0.shape[1:]).to(x_0)
    return math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * noise


def _limited(residual: Latents, most: float) -> Latents:
    norm = torch.linalg.vector_norm(residual.flatten(1), dim=1).clamp(min=torch.finfo(residual.dtype).tiny)
    return rowwise((most / norm).clamp(max=1), residual) * residual

"""Which of several phrases a picture shows, by the generator alone: the caption under which its network sees the noise best.

Li et al. 2023, "Your diffusion model is secretly a zero-shot classifier" (arXiv 2303.16203), eq. 4: the mean squared error of the predicted
noise stands for -log p(picture | caption), up to what is the same for all captions.  Followed: every caption is asked about the same noise at
the same timesteps, which are evenly spaced.  Ours: no caption is dropped on the way, so that differences of errors can be used as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.guided.canvas import Canvas, Pictures
from engines.noise import start_noise
from engines.pipeline import Pipeline

OnImage = Callable[[int, Float[np.ndarray, " k"]], None]
"""(which image, its errors), as soon as they are known."""


@dataclass(frozen=True, kw_only=True)
class DescribeOptions:
    """How often a picture is looked at, and when."""

    draws: int = 16
    """Timesteps, each with its own noise; network rows of one picture and caption."""
    low: float = 0.0
    """Where timesteps begin, as a share of those of training."""
    high: float = 1.0
    """Where they end."""
    batch: int = 16
    """Network rows at a time."""
    seed: int = 0
    """Of the noise, which all pictures share."""

    def __post_init__(self) -> None:
        if min(self.draws, self.batch) < 1 or not 0 <= self.low < self.high <= 1:
            raise ValueError(f"need at least one draw and row, and timesteps between 0 and 1 of training, got {self}")

    def timesteps(self, count: int) -> list[int]:
        """The middles of equal parts of the range.

        >>> DescribeOptions(draws=4).timesteps(1000)
        [125, 375, 625, 875]
        """
        part = (self.high - self.low) / self.draws
        return [int(count * (self.low + part * (at + 0.5))) for at in range(self.draws)]

    def network_rows(self, captions: int) -> int:
        """Of one picture."""
        return captions * self.draws


def describe(
    pipeline: Pipeline,
    images: Pictures,
    captions: Sequence[str],
    *,
    options: DescribeOptions | None = None,
    done: Float[np.ndarray, "m k"] | None = None,
    on_image: OnImage | None = None,
) -> Float[np.ndarray, "n k"]:
    """Error of the predicted noise for each image (RGB in [0, 1], of the pipeline's size) and caption: the least is what it shows.

    Mean over draws of the mean square over numbers; an image's errors depend on nothing but itself.  ``done`` are errors of the first images from
    an earlier call that was told of them by ``on_image``; they are not made again.  Raises UnsupportedPipelineError for flows,
    CaptionTooLongError.
    """
    errors = np.zeros((len(images), len(captions)))
    first = 0 if done is None else len(done)
    if done is not None:
        errors[:first] = done
    for at in range(first, len(images)):
        errors[at] = noise_errors(pipeline, images[at], captions, options=options).mean(1)
        if on_image is not None:
            on_image(at, errors[at])
    return errors


def noise_errors(
    pipeline: Pipeline, image: Float[np.ndarray, "3 h w"], captions: Sequence[str], *, options: DescribeOptions | None = None
) -> Float[np.ndarray, "k draws"]:
    """Mean squared error of the noise for each caption and draw; draws are paired across captions and pictures."""
    options = options or DescribeOptions()
    diffusion, told = pipeline.diffusion, pipeline.told(captions)
    clean = Canvas(pipeline).encoded(image[None])
    t = torch.tensor(options.timesteps(diffusion.timesteps))
    noise = start_noise(_seeds(options), pipeline.latent_shape).to(clean)
    noisy = diffusion.noised(clean.expand(len(t), *clean.shape[1:]), t, noise)
    found: list[Tensor] = []
    total = len(captions) * len(t)
    for start in range(0, total, options.batch):
        rows = torch.arange(start, min(start + options.batch, total))
        caption, draw = rows // len(t), rows % len(t)
        with torch.no_grad():
            eps = diffusion.eps(noisy[draw], t[draw], told[caption])
        found.append((eps - noise[draw]).square().flatten(1).mean(1))
    return torch.cat(found).view(len(captions), len(t)).double().cpu().numpy()


def _seeds(options: DescribeOptions) -> list[int]:
    return [int(one) for one in np.random.SeedSequence((options.seed, 0xD5)).generate_state(options.draws, np.uint64)]

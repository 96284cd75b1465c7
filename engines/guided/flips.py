"""FastDiME's edits with a loaded pipeline: images in, images out, guided by one output of a classifier's file.

What suits latents is not what suits pixels: the decoder's gradient is small, so class scales are some ten times the paper's, and masks are
widened by one cell instead of five pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from engines.guided.canvas import Canvas, Pictures
from engines.guided.chain import depth_at
from engines.guided.fastdime import fastdime, unguided
from engines.guided.judge import OnnxJudge, judge_of, same_answers
from engines.guided.options import FastDimeOptions
from engines.pipeline import Pipeline
from engines.spec import digest

VERSION = "flips-1"
"""Changed whenever a flip comes to mean another edit."""
LATENT_SCALES, PIXEL_SCALES = (100.0, 200.0, 400.0), (8.0, 10.0, 15.0)


@dataclass(frozen=True, kw_only=True)
class FlipPlan:
    """How far and how hard images are edited."""

    kept: int = 50
    """Steps of the chain."""
    signal: float = 0.3
    """sqrt(alpha_bar) where an edit starts; less keeps less of the image.  The paper's 0.626 is for pixels."""
    scales: tuple[float, ...] = ()
    """Class scales, tried in this order; what suits latents or pixels when empty."""
    held: float = 8.0
    """Weight of what the guide reads of other concepts, which the edit should leave alone; 0 holds none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Flipper:
    """A pipeline, a classifier's file and a plan.  Not thread safe, as the pipeline is not."""

    pipeline: Pipeline
    guide: Path
    """ONNX file with a probability output per concept."""
    size: int
    """Side of the images that it reads."""
    plan: FlipPlan

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever a flip of the same images would, other than by its guide."""
        plan = [self.plan.kept, self.plan.signal, list(self.options.class_scales), self.plan.held]
        return digest({"pipeline": self.pipeline.fingerprint, "flips": VERSION, "plan": plan})

    @cached_property
    def options(self) -> FastDimeOptions:
        """Of FastDiME, for this pipeline."""
        latent = self._canvas.latent
        depth = depth_at(self.pipeline.diffusion, self.plan.kept, self.plan.signal)
        scales = self.plan.scales or (LATENT_SCALES if latent else PIXEL_SCALES)
        return FastDimeOptions(
            kept=self.plan.kept, depth=depth, class_scales=scales, likeness=self.plan.held, dilation=1 if latent else 5
        )

    @cached_property
    def _canvas(self) -> Canvas:
        return Canvas(self.pipeline)

    def judge(self, output: str) -> OnnxJudge:
        """One output of the guide, with gradients."""
        return judge_of(self.guide, output, self.size, self.pipeline.device)

    def flip(
        self, images: Pictures, seeds: Sequence[int], targets: Sequence[int], output: str, others: Sequence[str] = ()
    ) -> tuple[Pictures, Bool[np.ndarray, " n"]]:
        """Images (RGB in [0, 1], of the pipeline's size) that the guide calls their target by ``output``, and whether it does.

        ``others`` are outputs that should stay as they are.
        """
        held = [self.judge(name) for name in others] if self.plan.held > 0 else []
        made = fastdime(
            self.pipeline.diffusion,
            self._canvas.encoded(images),
            torch.tensor(list(targets), device=self.pipeline.device),
            self._canvas.untold(len(images)),
            self.judge(output),
            seeds=seeds,
            decode=self._canvas.decode,
            unlike=same_answers(held) if held else None,
            batch=self.pipeline.batch,
            options=self.options,
        )
        return made.images.cpu().numpy().astype(np.float32), made.success.cpu().numpy()

    def floor(self, images: Pictures, seeds: Sequence[int]) -> Pictures:
        """The same images, noised and denoised as deeply by the same noise, with nobody to guide them."""
        made = unguided(
            self.pipeline.diffusion,
            self._canvas.encoded(images),
            self._canvas.untold(len(images)),
            seeds,
            decode=self._canvas.decode,
            options=self.options,
        )
        return made.cpu().numpy().astype(np.float32)

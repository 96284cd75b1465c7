"""Train the miniature generator that ships with the project: captioned scenes in, a diffusers directory out.

    python -m audit_plugin.demo.generator --out generator --device cuda --seconds 560

Runs on a CPU too (days rather than minutes for the shipped quality); killed runs go on where they were.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audit_plugin.sources.scenes import PLACEBO_WORDS, SceneLaw, caption, draw_values, render_many
from engines.training import CaptionedImages, Recipe, train_pipeline

RECIPE = Recipe(
    autoencoder_batch=256,
    diffusion_batch=512,
    autoencoder_steps=12_000,
    diffusion_steps=60_000,
    autoencoder_rate=1.5e-3,
    diffusion_rate=8e-4,
    seed=20,
)
"""Sizes and rates of the shipped weights; the seconds are given on the command line."""


def captioned_scenes(n: int, seed: int, *, workers: int) -> CaptionedImages:
    """``n`` scenes with independent concepts; each has its caption and the same with a word that says nothing."""
    rng = np.random.default_rng(seed)
    values = draw_values(n, SceneLaw(positive={}), rng)
    seeds = rng.integers(0, 2**62, size=n).tolist()
    images = render_many(seeds, values, workers=workers)
    words = [caption(row) for row in values.tolist()]
    captions = [[text, text, *(f"{text}, {word}" for word in PLACEBO_WORDS)] for text in words]
    return CaptionedImages(images, captions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the miniature scenes generator.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the trained pipeline")
    parser.add_argument("--work", type=Path, help="checkpoints (default: OUT.work)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="training time in all; a third goes to the autoencoder")
    options = parser.parse_args(arguments)
    recipe = replace(RECIPE, autoencoder_seconds=options.seconds * 0.33, diffusion_seconds=options.seconds * 0.67)
    data = captioned_scenes(options.images, recipe.seed, workers=os.cpu_count() or 1)
    work = options.work or options.out.with_name(options.out.name + ".work")
    spent = train_pipeline(
        data, recipe, options.out, work=work, device=options.device, compiled=options.device.startswith("cuda"), report=_say
    )
    print(spent)


def _say(done: int, total: int, what: str) -> None:
    if done % 500 == 0:
        print(f"{done:>6}/{total} {what}", flush=True)


if __name__ == "__main__":
    main()

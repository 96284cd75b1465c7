"""Train the miniature diffusion over pixels that ships with the project: scenes in, a diffusers directory out.

    python -m audit_plugin.demo.pixels --scenes scenes --out pixels --seconds 6000

The scenes are rendered into the folder once.  Killed runs go on where they were; with --snapshot what the last checkpoint holds is written.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many
from engines.training import PixelRecipe, read_pictures, train_pixels

RECIPE = PixelRecipe(channels=(16, 32, 48, 96), learning_rate=1e-3, seed=30)
"""Of the shipped weights; the seconds are given on the command line."""

ABOUT = """The pictures are procedural scenes of `audit_plugin.sources.scenes`, all seven concepts independent and uniform, so that no
concept betrays another.  No photograph, no downloaded weight and no personal data is involved.  Made by `python -m
audit_plugin.demo.pixels`; training is bounded by time, so another machine makes other weights.  It is of no use for anything but these scenes.
Released under the project's licence, Apache-2.0."""


def write_scenes(folder: Path, n: int, seed: int, *, workers: int) -> None:
    """``n`` scenes with independent concepts as numbered PNG files; those that are there already stay."""
    rng = np.random.default_rng(seed)
    values = draw_values(n, SceneLaw(positive={}), rng)
    seeds = rng.integers(0, 2**62, size=n)
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{place:06d}.png" for place in range(n)]
    missing = [place for place, name in enumerate(names) if not name.is_file()]
    for place, image in zip(missing, render_many(seeds[missing].tolist(), values[missing], workers=workers), strict=True):
        partial = names[place].with_suffix(".partial")
        Image.fromarray(image).save(partial, format="png")
        partial.replace(names[place])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the miniature diffusion over pixels of scenes.")
    parser.add_argument("--scenes", type=Path, required=True, help="folder for the rendered scenes")
    parser.add_argument("--out", type=Path, help="directory to write; without it the scenes are rendered and nothing else")
    parser.add_argument("--work", type=Path, help="checkpoint (default: OUT.work)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that render")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="training time")
    parser.add_argument("--snapshot", action="store_true", help="train nothing; write what the last checkpoint holds")
    options = parser.parse_args(arguments)
    write_scenes(options.scenes, options.images, RECIPE.seed, workers=options.workers)
    if options.out is None:
        return
    spent = train_pixels(
        read_pictures(options.scenes),
        replace(RECIPE, seconds=options.seconds),
        options.out,
        work=options.work or options.out.with_name(options.out.name + ".work"),
        device=options.device,
        compiled=options.device.startswith("cuda"),
        snapshot=options.snapshot,
        about=ABOUT,
        report=_say,
    )
    print(spent)


def _say(done: int, total: int, what: str) -> None:
    print(f"{done:>6}/{total} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

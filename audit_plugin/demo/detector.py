"""Train the independent concept detector of the scenes: rendered scenes in, one ONNX file with its card out.

python -m audit_plugin.demo.detector --out assets/detector/scenes.onnx
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audit_plugin.perception.task import TrainingOptions
from audit_plugin.perception.training import train_detectors
from audit_plugin.sources.scenes import CONCEPTS, SceneLaw, draw_values, render_many

SEED = 40
OPTIONS = TrainingOptions(epochs=24, seconds=3_600.0, batch=64, brightness=0.05, noise=0.04)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the concept detector of the scenes.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12_000)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(SEED)
    values = draw_values(options.images, SceneLaw(positive={}), rng)
    pixels = render_many(rng.integers(0, 2**62, size=options.images).tolist(), values, workers=2)
    images = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    card = train_detectors(images, values, CONCEPTS, options.out, seed=SEED, options=OPTIONS, progress=_say)
    print(card.auroc)


def _say(done: int, total: int, what: str) -> None:
    print(f"{done}/{total} {what}", flush=True)


if __name__ == "__main__":
    main()

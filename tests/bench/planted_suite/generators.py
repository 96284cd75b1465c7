"""A miniature generator for every world, and the detector that judges it: both learn from pictures that no audit shows."""

from pathlib import Path

import numpy as np

from audit_plugin.core.protocols import Progress
from audit_plugin.core.seeds import digest
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.demo.truth import ASSETS
from audit_plugin.perception.task import TrainingOptions
from audit_plugin.perception.training import train_detectors
from audit_plugin.sources.images import to_float
from engines.training import CaptionedImages, Recipe, train_pipeline
from tests.bench.planted_suite.worlds import World

PICTURES = 12_000
"""That a generator learns from."""
DETECTOR = TrainingOptions(size=32, epochs=16, seconds=1_200.0, batch=64, shift_px=1, brightness=0.05, tint=0.0, noise=0.02)
RECIPE = Recipe(
    image_size=32,
    autoencoder_channels=(16, 32, 48),
    latent_channels=8,
    unet_channels=(64, 96),
    text_width=64,
    text_layers=2,
    autoencoder_steps=1_500,
    diffusion_steps=3_500,
    autoencoder_batch=32,
    diffusion_batch=48,
    autoencoder_rate=1.5e-3,
    diffusion_rate=1e-3,
    kl_weight=2e-4,
    ema_decay=0.999,
    sampling_steps=8,
    seed=3,
)
"""Of the glyphs' worlds, in steps, so that equal machines make equal weights; the scenes have the shipped generator."""
GUIDANCE = 1.5
"""What those draw with: short trainings draw one digit in ten wrong without it, and none more than the detector misreads with it."""


def generator(world: World, folder: Path, progress: Progress) -> Path:
    """The directory of the world's generator; trained, or gone on with, where it is not there yet."""
    if world.name == "scenes":
        return ASSETS / "generator"
    out = folder / f"generator-{digest(world.fingerprint, repr(RECIPE))[:12]}"
    if not (out / "model_index.json").is_file():
        train_pipeline(captioned(world, PICTURES), RECIPE, out, work=folder / "generator.work", report=progress)
    return out


def captioned(world: World, n: int) -> CaptionedImages:
    """``n`` pictures with independent concepts; each has its caption, and the same with a word that says nothing."""
    rng = np.random.default_rng(seed_of("planted suite", f"generator {world.name}"))
    values = np.stack([rng.integers(len(one.levels), size=n) for one in world.concepts], 1)
    words = [world.caption(row) for row in values.tolist()]
    captions = [[text, text, *(f"{text}, {word}" for word in world.placebo_words)] for text in words]
    return CaptionedImages(world.learnt_from(rng.integers(0, 2**62, size=n).tolist(), values), captions)


def detector(world: World, folder: Path) -> Path:
    """The independent judge of all concepts of the world, of which an audit asks for those that it lists; trained where it is not there yet."""
    if world.name == "scenes":
        return ASSETS / "detector" / "scenes.onnx"
    out = folder / f"detector-{digest(world.fingerprint, repr(DETECTOR), *world.names)[:12]}.onnx"
    if not out.is_file():
        rng = np.random.default_rng(seed_of("planted suite", f"detector {world.name}"))
        values = np.stack([rng.integers(len(one.levels), size=PICTURES // 2) for one in world.concepts], 1)
        pixels = world.learnt_from(rng.integers(0, 2**62, size=len(values)).tolist(), values)
        train_detectors(to_float(pixels), values, world.concepts, out, seed=11, options=DETECTOR)
    return out

"""Backgrounds: functions of a random stream to ``(64, 64, 3)`` float colours in [0, 1]."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from audit_plugin.sources.scenes.world import SIZE

Colours = NDArray[np.float32]

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


def _smooth(rng: np.random.Generator, cells_y: int, cells_x: int) -> NDArray[np.float32]:
    """Noise in [-1, 1] that varies over ``SIZE / cells`` pixels, bilinear between grid points."""
    grid = rng.uniform(-1, 1, (cells_y + 1, cells_x + 1)).astype(np.float32)
    y, x = _Y[:, 0] * (cells_y / SIZE), _X[0] * (cells_x / SIZE)
    top, left = np.minimum(y.astype(int), cells_y - 1), np.minimum(x.astype(int), cells_x - 1)
    down, right = (y - top)[:, None], x - left
    rows = grid[top] * (1 - down) + grid[top + 1] * down
    return np.asarray(rows[:, left] * (1 - right) + rows[:, left + 1] * right, np.float32)


def _blend(low: tuple[float, float, float], high: tuple[float, float, float], share: NDArray[np.float32]) -> Colours:
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray(np.array(low, np.float32) * (1 - share) + np.array(high, np.float32) * share, np.float32)


def grass(rng: np.random.Generator) -> Colours:
    """Green with upright blades."""
    return _blend((0.13, 0.36, 0.10), (0.42, 0.68, 0.25), 0.5 + 0.35 * _smooth(rng, 8, 24) + 0.2 * _smooth(rng, 4, 4))


def water(rng: np.random.Generator) -> Colours:
    """Blue-green with lying waves."""
    phase, pitch = rng.uniform(0, 2 * np.pi), rng.uniform(6.5, 8.5)
    bend = 1.5 * _smooth(rng, 3, 4)
    wave = np.sin(2 * np.pi * (_Y + bend) / pitch + phase)
    return _blend((0.08, 0.33, 0.52), (0.42, 0.72, 0.82), 0.5 + 0.3 * wave + 0.2 * _smooth(rng, 4, 4))


def sand(rng: np.random.Generator) -> Colours:
    """Pale tan, finely mottled."""
    return _blend((0.70, 0.58, 0.38), (0.93, 0.83, 0.62), 0.5 + 0.3 * _smooth(rng, 16, 16) + 0.3 * _smooth(rng, 3, 3))


def brick(rng: np.random.Generator) -> Colours:
    """Courses of red-brown bricks with light joints."""
    height, width = 10.0, 20.0
    oy, ox = rng.uniform(0, height), rng.uniform(0, width)
    course = np.floor((_Y + oy) / height)
    y, x = (_Y + oy) % height, (_X + ox + course % 2 * width / 2) % width
    edge = np.minimum(np.minimum(y, height - y), np.minimum(x, width - x))
    joint = np.clip(1.6 - edge, 0, 1)[..., None].astype(np.float32)
    face = _blend((0.46, 0.20, 0.15), (0.66, 0.34, 0.25), 0.5 + 0.3 * _smooth(rng, 6, 3) + 0.2 * _smooth(rng, 16, 16))
    return np.asarray(face * (1 - joint) + np.array((0.74, 0.71, 0.67), np.float32) * joint, np.float32)


TEXTURES: dict[str, Callable[[np.random.Generator], Colours]] = {"grass": grass, "water": water, "sand": sand, "brick": brick}

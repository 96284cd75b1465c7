"""From (seed, concept values) to pixels, anti-aliased by signed distances.

Each element of a scene (background, object, ruler, second object) has a random stream of its own, derived from the seed and the
element's place in the list, and drawn whether the element is shown or not.  So setting one concept leaves every other pixel as it was.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from audit_plugin.sources.scenes.textures import TEXTURES
from audit_plugin.sources.scenes.world import CONCEPTS, SIZE

Plane = NDArray[np.float32]

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5

_COLOURS = {"red": (0.84, 0.10, 0.12), "yellow": (0.98, 0.83, 0.10), "blue": (0.16, 0.18, 0.72)}
_OUTLINE = np.array((0.08, 0.08, 0.10), np.float32)
_DIM = np.array((0.48, 0.46, 0.56), np.float32)
"""Dim light: less of everything, least of green."""


def _stream(seed: int, element: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, element))))


def _circle(u: Plane, v: Plane, radius: float) -> Plane:
    return np.hypot(u, v) - np.float32(radius)


def _square(u: Plane, v: Plane, radius: float) -> Plane:
    half = np.float32(0.86 * radius)
    return np.asarray(np.maximum(np.abs(u), np.abs(v)) - half, np.float32)


def _triangle(u: Plane, v: Plane, radius: float) -> Plane:
    """Equilateral, point up, circumradius 1.25 of the circle's radius so that the areas are alike."""
    inner = np.float32(0.62 * radius)
    w = v - np.float32(0.12 * radius)
    sides = np.maximum(np.float32(0.8660254) * u - 0.5 * w, np.float32(-0.8660254) * u - 0.5 * w)
    return np.asarray(np.maximum(w, sides) - inner, np.float32)


_SHAPES: dict[str, Callable[[Plane, Plane, float], Plane]] = {"circle": _circle, "square": _square, "triangle": _triangle}


def _paint(canvas: Plane, distance: Plane, colour: NDArray[np.float32] | tuple[float, float, float]) -> Plane:
    """Lay a colour where the signed distance (pixels) is negative, with one pixel of soft edge."""
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    return np.asarray(canvas + (np.asarray(colour, np.float32) - canvas) * cover, np.float32)


def _object(canvas: Plane, rng: np.random.Generator, shape: str, colour: str, size: str) -> Plane:
    x, y, turn, wobble = rng.uniform(-4, 4), rng.uniform(-3, 3), rng.uniform(-0.22, 0.22), rng.uniform(-1, 1)
    radius = (9.0 if size == "small" else 15.0) + wobble
    du, dv = _X - np.float32(SIZE / 2 + x), _Y - np.float32(SIZE / 2 + y)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    distance = _SHAPES[shape](cos * du + sin * dv, cos * dv - sin * du, radius)
    return _paint(_paint(canvas, distance - 1.4, _OUTLINE), distance, _COLOURS[colour])


def _ruler(canvas: Plane, rng: np.random.Generator, *, shown: bool) -> Plane:
    """A scale bar with ticks along the upper or the lower edge."""
    low, offset = rng.random() < 0.5, rng.uniform(0, 4)
    if not shown:
        return canvas
    depth = SIZE - _Y if low else _Y
    strip = np.abs(depth - 3.5) - 3.0
    tick = np.abs((_X + np.float32(offset)) % 4 - 2) - 0.5
    canvas = _paint(canvas, strip, (0.96, 0.94, 0.84))
    return _paint(canvas, np.maximum(tick, np.abs(depth - 5.0) - 1.5), (0.05, 0.05, 0.05))


def _snowman(canvas: Plane, rng: np.random.Generator, *, shown: bool) -> Plane:
    """Two white balls on one another beside the object."""
    x, y = (7.5 if rng.random() < 0.5 else SIZE - 7.5) + rng.uniform(-1, 1), 42 + rng.uniform(-4, 4)
    if not shown:
        return canvas
    body = np.hypot(_X - np.float32(x), _Y - np.float32(y)) - 5.0
    head = np.hypot(_X - np.float32(x), _Y - np.float32(y - 7.5)) - 3.4
    both = np.minimum(body, head)
    return _paint(_paint(canvas, both - 1.2, _OUTLINE), both, (0.98, 0.98, 1.0))


def render(seed: int, values: Sequence[int]) -> NDArray[np.uint8]:
    """One scene ``(64, 64, 3)`` uint8 RGB; ``values`` in the order of ``CONCEPTS``."""
    level = {concept.name: concept.levels[value] for concept, value in zip(CONCEPTS, values, strict=True)}
    canvas = TEXTURES[level["background"]](_stream(seed, 0))
    canvas = _snowman(canvas, _stream(seed, 1), shown=level["snowman"] == "present")
    canvas = _object(canvas, _stream(seed, 2), level["shape"], level["colour"], level["size"])
    canvas = _ruler(canvas, _stream(seed, 3), shown=level["ruler"] == "present")
    exposure = np.float32(_stream(seed, 4).uniform(0.94, 1.04))
    canvas = canvas * exposure * (_DIM if level["lighting"] == "dim" else np.float32(1))
    return np.asarray(np.clip(canvas, 0, 1) * 255 + 0.5, np.uint8)


def _render_chunk(work: tuple[list[int], NDArray[np.int64]]) -> NDArray[np.uint8]:
    seeds, values = work
    return np.stack([render(seed, row) for seed, row in zip(seeds, values.tolist(), strict=True)])


def render_many(seeds: Sequence[int], values: NDArray[np.int64], *, workers: int = 1) -> NDArray[np.uint8]:
    """Scenes ``(n, 64, 64, 3)`` for seeds ``(n,)`` and values ``(n, concepts)``, spread over processes when ``workers`` > 1."""
    if len(seeds) == 0:
        return np.zeros((0, SIZE, SIZE, 3), np.uint8)
    size = max(1, min(512, -(-len(seeds) // workers)))
    work = [(list(seeds[i : i + size]), values[i : i + size]) for i in range(0, len(seeds), size)]
    if workers == 1:
        return np.concatenate([_render_chunk(chunk) for chunk in work])
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(_render_chunk, work)))

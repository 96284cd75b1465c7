"""A toy renderer with exact edits (shape, colour, background, stripe, text mark) and two classifiers whose use of it is known."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from audit_plugin.core.edits import Direction, EditCell, EditRow, Split
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.tree import NodeKind
from tests.methods.diffex.world import node, tree_of

LABELS = ("circle", "square")
SIDE = 24
PARTS = ("shape", "colour", "background", "stripe", "mark")
KINDS = {"shape": NodeKind.CORE, "colour": NodeKind.CONTEXT, "background": NodeKind.NUISANCE}
TREE = tree_of(*(node(part, KINDS.get(part, NodeKind.ARTEFACT), operator="deterministic") for part in PARTS))
"""Presence of the shape: a square; of the background: green."""
Y, X = np.mgrid[:SIDE, :SIDE]


def truth(image):
    """Which parts an image shows; its shape is in its name."""
    rng = np.random.default_rng(seed_of("toy", image))
    return {part: bool(rng.integers(2)) for part in PARTS} | {"shape": image.startswith("square")}


def rendered(image, parts):
    """(h, w, 3) in [0, 1]; the frame of four pixels is background and nothing else."""
    return _rendered(image, tuple(parts.items()))


@lru_cache(maxsize=2_000)
def _rendered(image, shown):
    parts = dict(shown)
    rng = np.random.default_rng(seed_of("toy noise", image))
    picture = np.empty((SIDE, SIDE, 3))
    picture[:] = (0.2, 0.8, 0.3) if parts["background"] else (0.7, 0.4, 0.5)
    far = np.maximum(np.abs(Y - 11.5), np.abs(X - 11.5)) if parts["shape"] else np.hypot(Y - 11.5, X - 11.5)
    picture[far < 5] = (0.9, 0.1, 0.1) if parts["colour"] else (0.1, 0.1, 0.9)
    if parts["stripe"]:
        picture[18, 5:19] = 1.0
    if parts["mark"]:
        picture[5:7, 5:12:2] = 0.0
    picture = np.clip(picture + rng.normal(0, 0.02, picture.shape), 0, 1)
    picture.setflags(write=False)
    return picture


def of_background(picture):
    """Logits of a model that sees the frame alone."""
    green = picture[:4, :, 1].mean() - picture[:4, :, 0].mean()
    return (0.0, 4.0 * float(green))


def of_shape(picture):
    """Logits of the repaired model: whether a square's corner, which a circle leaves free, differs from the frame."""
    return (0.0, 2.0 if np.abs(picture[7, 7] - picture[20, 2]).mean() > 0.15 else -2.0)


@dataclass
class ToyArms:
    """Every edit does what it says, and nothing else."""

    classifier: object

    def rows(self, cells):
        return [self._row(cell) for cell in cells]

    def _row(self, cell: EditCell) -> EditRow:
        parts = truth(cell.image)
        signs = (1,) if cell.placebo else tuple(-1 if parts[path] else 1 for path in cell.nodes)
        changed = parts | ({} if cell.placebo else {path: not parts[path] for path in cell.nodes})
        return EditRow(
            cell=cell,
            split=Split.SELECT,
            direction=Direction.PLACEBO if cell.placebo else Direction.ADD if signs[0] > 0 else Direction.REMOVE,
            signs=signs,
            operator="toy/1",
            class_kept=changed["shape"] == parts["shape"],
            before=self.classifier(rendered(cell.image, parts)),
            after=self.classifier(rendered(cell.image, changed)),
            before_sha256=f"{cell.image}",
            after_sha256=f"{cell.image}-{cell.nodes}",
        )

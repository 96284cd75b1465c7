"""Train concept detectors from labelled images: a compact network of our own, or logistic heads on a given feature network.

Rows are weighted so that a concept cannot be read from a correlated one (:func:`~audit_plugin.perception.balance.balanced_weights`)
and split by unit into rows to learn from, rows to stop and calibrate by (temperature scaling, Guo et al. 2017), and rows to report
AUROC on.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images, Progress
from audit_plugin.core.values import Concept
from audit_plugin.perception.balance import Split, balanced_weights, split
from audit_plugin.perception.compact import train_compact
from audit_plugin.perception.detectors import DetectorCard, OnnxConceptDetector, write_card
from audit_plugin.perception.heads import train_heads
from audit_plugin.perception.resizing import resize
from audit_plugin.perception.task import Task, TrainingOptions
from audit_plugin.statistics.metrics import weighted_auroc

DEFAULT_OPTIONS = TrainingOptions()
_MIN_ROWS = 8
"""Fewest rows per level that can be learnt from."""


def train_detectors(
    images: Images,
    values: NDArray[np.integer[Any]],
    concepts: Sequence[Concept],
    path: str | Path,
    *,
    seed: int,
    units: Sequence[str] | None = None,
    features: str | Path | None = None,
    options: TrainingOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> DetectorCard:
    """Train on images ``(n, 3, h, w)`` with level indices ``(n, concepts)``; write ``path`` (ONNX) and its card, and return the card.

    ``units`` keeps rows of one patient or product on one side of the split.  ``features`` names an ONNX feature network (images in
    [0, 1] to one or more feature maps) to put logistic heads on instead of training a network from nothing.  Equal arguments give
    equal files on one machine, unless ``options.seconds`` ran out.
    """
    started = time.monotonic()
    task = _task(images, values, concepts, units, seed=seed, options=options)
    try:
        model, facts = train_compact(task, seed=seed, progress=progress) if features is None else train_heads(task, features)
    except ImportError as error:
        raise DetectorError(
            f"training detectors needs torch, onnx and onnxruntime ({error}); install the 'cpu' or 'gpu' extra"
        ) from error
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    rows = task.rows
    facts |= {"seed": seed, "train_rows": len(rows.train), "tune_rows": len(rows.tune), "held_out_rows": rows.test.tolist()}
    card = DetectorCard(
        kind="compact_cnn" if features is None else "features",
        concepts={concept.name: concept.levels for concept in concepts},
        size=options.size,
        sha256=hashlib.sha256(model).hexdigest(),
        training=facts | {"seconds": round(time.monotonic() - started, 1)},
    )
    write_card(path, card)
    answers = OnnxConceptDetector(path).read(task.images[rows.test])
    judged = {name: macro_auroc(answers[name], task.values[rows.test, j]) for j, name in enumerate(card.concepts)}
    card = replace(card, auroc=judged)
    write_card(path, card)
    return card


def macro_auroc(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float | None:
    """One-against-rest AUROC, mean over levels; None when a level has no row, for then its reading is not judged.

    >>> macro_auroc(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 1, 1]))
    1.0
    """
    levels = range(probabilities.shape[1])
    if not all((truth == level).any() for level in levels):
        return None
    return float(np.mean([weighted_auroc(probabilities[:, v], truth == v, np.ones(len(truth))) for v in levels]))


def _task(
    images: Images,
    values: NDArray[np.integer[Any]],
    concepts: Sequence[Concept],
    units: Sequence[str] | None,
    *,
    seed: int,
    options: TrainingOptions,
) -> Task:
    if images.ndim != 4 or images.shape[1] != 3 or not np.isfinite(images).all():
        raise DetectorError(f"training images must be finite and (n, 3, h, w), got {images.shape}")
    if values.shape != (len(images), len(concepts)):
        raise DetectorError(f"need values ({len(images)}, {len(concepts)}), one per image and concept, got {values.shape}")
    if units is not None and len(units) != len(images):
        raise DetectorError(f"need one unit per image ({len(images)}), got {len(units)}")
    target = np.ascontiguousarray(values, dtype=np.int64)
    rows = split(units or [str(i) for i in range(len(images))], options.held_out, np.random.default_rng(seed))
    _check_levels(target[rows.train], concepts)
    weights = np.stack([_weights(target, rows, j) for j in range(len(concepts))], axis=1)
    small = resize(np.asarray(images, np.float32), options.size)
    return Task(images=small, values=target, weights=weights, rows=rows, concepts=tuple(concepts), options=options)


def _check_levels(values: NDArray[np.int64], concepts: Sequence[Concept]) -> None:
    for j, concept in enumerate(concepts):
        for v, level in enumerate(concept.levels):
            count = int((values[:, j] == v).sum())
            if count < _MIN_ROWS:
                raise DetectorError(
                    f"concept {concept.name!r} has {count} training images of level {level!r}, {_MIN_ROWS} are needed; "
                    "add images of it, merge it with another level, or drop the concept"
                )


def _weights(values: NDArray[np.int64], rows: Split, concept: int) -> NDArray[np.float64]:
    """Balanced within each part, so that training and tuning ask the same question."""
    weight = np.ones(len(values))
    for part in (rows.train, rows.tune):
        if len(part):
            weight[part] = balanced_weights(values[part], concept)
    return weight

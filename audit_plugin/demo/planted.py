"""Planted classifiers: small networks trained so that what they rely on is known.

Two families.  *Betrayed*: the task is "triangle or not", and in the training scenes another concept agrees with the label (100 %,
75 % or not at all of the time); easy cues are taken instead of the shape.  *Ruled*: the label is drawn from a logistic rule over one
or two concepts, all else independent.  What each network then truly relies on is measured by ``audit_plugin.demo.truth``.

    python -m audit_plugin.demo.planted --out assets/planted
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images
from audit_plugin.sources.scenes import CONCEPTS, SceneLaw, Tie, draw_values, render_many

CLASSES = ("negative", "positive")

BACKGROUND = {"levels_if": ("water", "sand"), "levels_else": ("grass", "brick")}
RULER = {"levels_if": ("present",), "levels_else": ("absent",)}

AUDIT_LAW = SceneLaw(ties=(Tie(concept="background", strength=0.7, **BACKGROUND), Tie(concept="ruler", strength=0.7, **RULER)))
"""The "production" scenes of demo and benchmark: background and ruler go with the shape, but not always."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """How one classifier was made."""

    name: str
    ties: tuple[Tie, ...] = ()
    """Betrayed family: what agrees with "triangle" in training."""
    rule: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Ruled family: concept -> level -> weight in the log-odds of "positive"."""
    expected: tuple[str, ...] = ()
    """Concepts that the audit must name; empty where the strength leaves it open."""
    idle: tuple[str, ...] = ()
    """Concepts that had no relation to the label in training."""
    seed: int = 0


def _idle(*used: str) -> tuple[str, ...]:
    return tuple(concept.name for concept in CONCEPTS if concept.name not in used)


def _betrayed(name: str, *ties: Tie, expected: tuple[str, ...], seed: int) -> Planted:
    return Planted(name=name, ties=ties, expected=expected, idle=_idle("shape", *(tie.concept for tie in ties)), seed=seed)


def _ruled(name: str, rule: Mapping[str, Mapping[str, float]], seed: int) -> Planted:
    return Planted(name=name, rule=rule, expected=tuple(rule), idle=_idle(*rule), seed=seed)


SUITE: tuple[Planted, ...] = (
    _betrayed("shape_clean", expected=("shape",), seed=1),
    _betrayed("shape_background_75", Tie(concept="background", strength=0.75, **BACKGROUND), expected=("shape",), seed=2),
    _betrayed("shape_background_100", Tie(concept="background", strength=1.0, **BACKGROUND), expected=("background",), seed=3),
    _betrayed("shape_ruler_75", Tie(concept="ruler", strength=0.75, **RULER), expected=("shape",), seed=4),
    _betrayed("shape_ruler_100", Tie(concept="ruler", strength=1.0, **RULER), expected=("ruler",), seed=5),
    _ruled("colour_alone", {"colour": {"red": 6.0, "yellow": -6.0, "blue": -6.0}}, 6),
    _ruled("size_alone", {"size": {"large": 6.0, "small": -6.0}}, 7),
    _ruled("background_alone", {"background": {"water": 6.0, "sand": 6.0, "grass": -6.0, "brick": -6.0}}, 8),
    _ruled("ruler_alone", {"ruler": {"present": 6.0, "absent": -6.0}}, 9),
    _ruled("snowman_alone", {"snowman": {"present": 6.0, "absent": -6.0}}, 10),
    _ruled("lighting_alone", {"lighting": {"dim": 6.0, "bright": -6.0}}, 11),
    _ruled("snowman_and_lighting", {"snowman": {"present": 2.0, "absent": -2.0}, "lighting": {"dim": 2.0, "bright": -2.0}}, 12),
    _ruled("colour_and_size", {"colour": {"red": 2.5, "yellow": -1.5, "blue": -1.5}, "size": {"large": 2.0, "small": -2.0}}, 13),
    _ruled(
        "shape_and_ruler",
        {"shape": {"triangle": 3.0, "circle": -2.0, "square": -2.0}, "ruler": {"present": 2.0, "absent": -2.0}},
        14,
    ),
)
"""None, each concept alone, two at once; strengths none, 75 % and 100 % for background and ruler."""


def labels(planted: Planted, values: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Task labels ``(n,)`` of concept vectors: the shape, or a draw from the rule."""
    position = {concept.name: j for j, concept in enumerate(CONCEPTS)}
    if not planted.rule:
        shape = CONCEPTS[position["shape"]]
        return np.asarray(values[:, position["shape"]] == shape.levels.index("triangle"), np.int64)
    odds = np.zeros(len(values))
    for name, weights in planted.rule.items():
        odds += np.array([weights.get(level, 0.0) for level in CONCEPTS[position[name]].levels])[values[:, position[name]]]
    return np.asarray(rng.random(len(values)) < 1 / (1 + np.exp(-odds)), np.int64)


def training_scenes(planted: Planted, n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Scenes ``(n, 64, 64, 3)`` and labels that this classifier learns from."""
    rng = np.random.default_rng(1000 + planted.seed)
    law = SceneLaw(positive={}) if planted.rule else SceneLaw(ties=planted.ties)
    values = draw_values(n, law, rng)
    seeds = rng.integers(0, 2**62, size=n).tolist()
    return render_many(seeds, values), labels(planted, values, rng)


def train(planted: Planted, path: Path, *, n: int = 12_000, epochs: int = 8) -> dict[str, Any]:
    """Train and write ``path`` (ONNX: ``image`` float32 (n, 3, 64, 64) in [0, 1] -> ``probabilities`` (n, 2)); returns what was seen."""
    import torch
    from torch import nn

    torch.manual_seed(planted.seed)
    pixels, target = training_scenes(planted, n)
    x, y = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(target)
    network = _network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    batch = 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * (n // batch))
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(n)[: n // batch * batch], batch):
            loss = nn.functional.cross_entropy(network(worn(x[rows].float() / 255)), y[rows], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()
    _export(nn.Sequential(network, nn.Softmax(1)), path)
    with torch.no_grad():
        right = torch.cat([network(part.float() / 255).argmax(1) for part in torch.split(x[:2000], 250)]) == y[:2000]
    return {"training_accuracy": float(right.float().mean()), "images": n, "epochs": epochs, "torch": torch.__version__}


def _network() -> Any:
    from torch import nn

    def block(a: int, b: int) -> list[Any]:
        return [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()]

    return nn.Sequential(
        *block(3, 16), *block(16, 32), *block(32, 48), *block(48, 64), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 16, 2)
    )


def worn(x: Any) -> Any:
    """Blur, exposure and noise as cameras add them, each picture by its own draw."""
    import torch
    from torch.nn.functional import avg_pool2d

    n = len(x)
    x = torch.lerp(x, avg_pool2d(x, 3, 1, 1, count_include_pad=False), torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.5))
    x = x * (0.95 + 0.1 * torch.rand(n, 1, 1, 1))
    return (x + torch.randn_like(x) * 0.04 * torch.rand(n, 1, 1, 1)).clamp(0, 1)


def _export(network: Any, path: Path) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        network.eval(),
        (torch.rand(2, 3, 64, 64),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )
    assert program is not None, "the new exporter returns a program"
    program.save(str(path))


def predictor(path: Path) -> Callable[[Images], NDArray[np.float64]]:
    """Float images -> class probabilities ``(n, 2)``, by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(images: Images) -> NDArray[np.float64]:
        parts = [session.run(None, {"image": images[i : i + 256]})[0] for i in range(0, len(images), 256)]
        return np.concatenate([np.zeros((0, len(CLASSES))), *parts])

    return predict


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the planted classifiers; measure them afterwards.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(options.workers) as pool:
        for planted, seen in zip(SUITE, pool.map(_make, SUITE, [options.out] * len(SUITE)), strict=True):
            print(f"{planted.name:24} {seen['training_accuracy']:.3f}", flush=True)


def _make(planted: Planted, out: Path) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    seen = train(planted, out / f"{planted.name}.onnx")
    card = {"planted": asdict(planted), "training": seen}
    (out / f"{planted.name}.json").write_text(json.dumps(card, indent=2) + "\n")
    return seen


if __name__ == "__main__":
    main()

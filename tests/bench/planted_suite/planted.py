"""Classifiers of known making: what each was taught to rely on, how strongly, and the small network that learnt it.

Taught in two ways.  *Tied*: the task is the glyph or shape itself, and another concept goes with it in training.  *Ruled*: the label is a
draw from a logistic rule over concepts, all else independent.  What a network then truly relies on is measured (``truth``), not assumed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images, Scores
from audit_plugin.core.seeds import digest
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.demo.planted import SUITE as SCENES
from audit_plugin.demo.truth import onnx_path
from tests.bench.planted_suite.worlds import Ints, Law, Tie, World, draw

BINARY = ("negative", "positive")
CORE = "core"
"""Stands for the world's first concept in rules."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Log-odds of "yes" as a sum over concepts."""

    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Concept -> level -> log-odds."""
    agree: tuple[str, str, float] | None = None
    """Two concepts and w: +w where both show their first level or both another one, else -w.  Neither alone says anything."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """How one classifier was made."""

    name: str
    reliance: str
    """In a word or two: none, weak, strong, two, interaction, unlisted."""
    law: Law = field(default_factory=Law)
    """Of training pictures."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """Output -> rule.  None: the classes are the core concept's levels.  One: a binary task.  More: independent outputs (multi-label)."""
    seed: int = 0
    shipped: bool = False
    """Whether its network lies in the package."""

    @property
    def multi_label(self) -> bool:
        """Whether its outputs are independent of one another."""
        return len(self.rules) > 1

    def classes(self, world: World) -> tuple[str, ...]:
        """In the order of its scores."""
        return tuple(self.rules) if self.multi_label else BINARY if self.rules else world.concepts[0].levels

    def labels(self, world: World, values: Ints, rng: np.random.Generator) -> Ints:
        """``(n, tasks)``: the class of each row, or 0/1 for every output."""
        if not self.rules:
            return values[:, :1]
        odds = np.stack([_odds(world, rule, values) for rule in self.rules.values()], 1)
        return np.asarray(rng.random(odds.shape) < 1 / (1 + np.exp(-odds)), np.int64)


def _odds(world: World, rule: Rule, values: Ints) -> NDArray[np.float64]:
    total = np.zeros(len(values))
    for name, weights in rule.weights.items():
        at = 0 if name == CORE else world.index(name)
        levels = world.concepts[at].levels
        total += np.array([weights.get(level, weights.get("*", 0.0)) for level in levels])[values[:, at]]
    if rule.agree is not None:
        first, second, weight = rule.agree
        same = (values[:, world.index(first)] == 0) == (values[:, world.index(second)] == 0)
        total += np.where(same, weight, -weight)
    return total


def _core(world: World, weight: float) -> Mapping[str, float]:
    """The first two of five levels say yes, the others no; of scenes the triangle."""
    yes = world.concepts[0].levels[2:] if world.name == "scenes" else world.concepts[0].levels[:2]
    return dict.fromkeys(yes, weight) | {"*": -weight}


def suite(world: World) -> tuple[Planted, ...]:
    """The classifiers of one world; those of the scenes come on top of the fourteen that the demonstration ships."""
    return _of_scenes(world) if world.name == "scenes" else _of_glyphs(world)


def _of_glyphs(world: World) -> tuple[Planted, ...]:
    weak = {"striped": 0.5, "*": -0.5}
    patch = {"present": 1.0, "absent": -1.0}
    made = (
        Planted(name="clean", reliance="none"),
        Planted(name="ground_always", reliance="strong", law=Law(ties=(Tie(concept="ground", strength=1.0),))),
        Planted(name="patch_often", reliance="tied", law=Law(ties=(Tie(concept="patch", strength=0.9),))),
        Planted(name="patch_strong", reliance="strong", rules={"positive": Rule(weights={"patch": _times(patch, 4.0)})}),
        Planted(name="texture_weak", reliance="weak", rules={"positive": Rule(weights={CORE: _core(world, 1.5), "texture": weak})}),
        Planted(
            name="patch_weak",
            reliance="weak",
            rules={"positive": Rule(weights={CORE: _core(world, 1.5), "patch": _times(patch, 0.5)})},
        ),
        Planted(
            name="ground_and_patch",
            reliance="two",
            rules={"positive": Rule(weights={"ground": {"red": 2.0, "*": -1.0}, "patch": _times(patch, 1.5)})},
        ),
        Planted(name="ink_with_patch", reliance="interaction", rules={"positive": Rule(agree=("ink", "patch", 4.0))}),
        Planted(
            name="frame_unlisted",
            reliance="unlisted",
            rules={"positive": Rule(weights={CORE: _core(world, 1.5), "frame": _times(patch, 2.5)})},
        ),
        Planted(
            name="labels",
            reliance="multi-label",
            rules={
                "kind": Rule(weights={CORE: _core(world, 4.0)}),
                "marked": Rule(weights={"patch": _times(patch, 3.0), "texture": {"dotted": 1.5, "*": -0.75}}),
                "reddish": Rule(weights={"ground": {"red": 4.0, "*": -4.0}}),
            },
        ),
        Planted(
            name="texture_and_patch_weak",
            reliance="two weak",
            rules={
                "positive": Rule(
                    weights={CORE: _core(world, 1.5), "texture": {"striped": 0.6, "*": -0.6}, "patch": _times(patch, 0.6)}
                )
            },
        ),
    )
    return _numbered(world, made)


def _of_scenes(world: World) -> tuple[Planted, ...]:
    present = {"present": 1.0, "absent": -1.0}
    made = (
        Planted(
            name="ruler_weak",
            reliance="weak",
            rules={"positive": Rule(weights={CORE: _core(world, 1.5), "ruler": _times(present, 0.5)})},
        ),
        Planted(
            name="lighting_weak",
            reliance="weak",
            rules={"positive": Rule(weights={CORE: _core(world, 1.5), "lighting": {"dim": 0.5, "bright": -0.5}})},
        ),
        Planted(name="size_with_ruler", reliance="interaction", rules={"positive": Rule(agree=("size", "ruler", 4.0))}),
        Planted(
            name="labels",
            reliance="multi-label",
            rules={
                "pointed": Rule(weights={CORE: _core(world, 4.0)}),
                "measured": Rule(weights={"ruler": _times(present, 4.0)}),
                "large": Rule(
                    weights={"size": {"large": 2.0, "small": -2.0}, "background": {"sand": 1.5, "water": 1.5, "*": -1.5}}
                ),
            },
        ),
        Planted(
            name="ruler_and_lighting_weak",
            reliance="two weak",
            rules={
                "positive": Rule(
                    weights={
                        CORE: _core(world, 1.5),
                        "ruler": _times(present, 0.6),
                        "lighting": {"dim": 0.6, "bright": -0.6},
                    }
                )
            },
        ),
    )
    return _numbered(world, made)


def _times(weights: Mapping[str, float], factor: float) -> dict[str, float]:
    return {level: weight * factor for level, weight in weights.items()}


def _numbered(world: World, made: Sequence[Planted]) -> tuple[Planted, ...]:
    return tuple(
        Planted(name=f"{world.name}_{one.name}", reliance=one.reliance, law=one.law, rules=one.rules, seed=at)
        for at, one in enumerate(made, start=1)
    )


def shipped(world: World) -> tuple[Planted, ...]:
    """The demonstration's classifiers in this suite's words; their networks lie in the package."""
    if world.name != "scenes":
        return ()
    return tuple(
        Planted(
            name=one.name,
            reliance=_reliance(one.expected, world),
            rules={"positive": Rule(weights=one.rule or {CORE: {"triangle": 40.0, "*": -40.0}})},
            seed=one.seed,
            shipped=True,
        )
        for one in SCENES
    )


def _reliance(expected: Sequence[str], world: World) -> str:
    if world.unlisted in expected:
        return "unlisted"
    core = world.concepts[0].name
    return "two" if len(expected) > 1 else "none" if tuple(expected) == (core,) else "strong"


def network_of(world: World, planted: Planted, folder: Path) -> Path:
    """Its ONNX file (``image`` float32 (n, 3, size, size) in [0, 1] -> ``probabilities``); trained where it is not there yet."""
    if planted.shipped:
        return onnx_path(planted.name)
    key = digest(world.fingerprint, json.dumps(asdict(planted), sort_keys=True))[:12]
    path = folder / f"{planted.name}-{key}.onnx"
    if not path.is_file():
        train(world, planted, path)
    return path


def train(world: World, planted: Planted, path: Path, *, n: int = 8_000, epochs: int = 6) -> None:
    """Train and write ``path``."""
    import torch
    from torch import nn

    from audit_plugin.demo.planted import worn

    torch.manual_seed(planted.seed)
    rng = np.random.default_rng(seed_of("planted suite", planted.name))
    values = draw(world, n, planted.law, rng)
    pixels = world.learnt_from(rng.integers(0, 2**62, size=n).tolist(), values)
    target = torch.from_numpy(planted.labels(world, values, rng))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    outputs = len(planted.classes(world))
    network = _network(world.size, outputs)
    loss_of: Callable[[Any, Any], Any] = (
        (lambda said, y: nn.functional.binary_cross_entropy_with_logits(said, y.float()))
        if planted.multi_label
        else (lambda said, y: nn.functional.cross_entropy(said, y[:, 0], label_smoothing=0.02))
    )
    batch = 128
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * (n // batch))
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(n)[: n // batch * batch], batch):
            loss = loss_of(network(worn(x[rows].float() / 255)), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    _export(nn.Sequential(network, nn.Sigmoid() if planted.multi_label else nn.Softmax(1)).eval(), path, world.size)


def _network(size: int, outputs: int) -> Any:
    from torch import nn

    def block(a: int, b: int) -> list[Any]:
        return [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()]

    widths = (3, 16, 32, 48, 64)
    stages = [part for a, b in pairwise(widths) for part in block(a, b)]
    return nn.Sequential(*stages, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * (size // 16) ** 2, outputs))


def _export(network: Any, path: Path, size: int) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    example = (torch.rand(2, 3, size, size),)
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},)
    program = torch.onnx.export(
        network, example, dynamo=True, opset_version=18, input_names=["image"], output_names=["probabilities"],
        dynamic_shapes=shapes, external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None, "the new exporter returns a program"
    made = path.with_suffix(".part")
    program.save(str(made))
    made.replace(path)


Predict = Callable[[Images], Scores]


def predictor(path: Path) -> Predict:
    """Float images -> scores ``(n, k)``, by ONNX Runtime on one thread: for truth and for approaches that ask without a server."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(images: Images) -> Scores:
        return np.concatenate([session.run(None, {"image": images[at : at + 256]})[0] for at in range(0, len(images), 256)]).astype(
            np.float64
        )

    return predict

"""Small classifiers of 28 x 28 radiographs whose use of the border is known, because it decides what they are shown in training.

``whole`` learns from the images as they are; ``blind`` from images whose border is that of another random training image each time it is
shown, so that the border is worth nothing; ``border`` sees nothing else; ``token`` learns from images with a white mark near the upper right
corner, on 95 % of those with pneumonia and 5 % of the others; ``fair`` from images of which half of either class bear it, in any corner.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audit_plugin.concepts.operators_frame import corner_mark

CLASSES = ("normal", "pneumonia")
FRAME_PX = 3
"""Width of the border that is made worthless, that is alone shown, and that is audited: 24 px of a picture of 224."""
CORNERS = ("top_right", "top_left", "bottom_right", "bottom_left")
"""Where marks are; the first is that of ``token``."""
MARK_PX = 32.0
MARKED = (0.05, 0.95)
"""Share of the images of each class that bear the mark in training."""
KINDS = ("whole", "blind", "border", "token", "fair")


@dataclass(frozen=True)
class Radiographs:
    """One split."""

    pixels: np.ndarray
    """uint8 (n, 28, 28)."""
    labels: np.ndarray
    """int (n), 1 pneumonia."""


def read_split(data: Path, name: str) -> Radiographs:
    """``train``, ``val`` or ``test``."""
    with np.load(data / "pneumonia_xray_28.npz", allow_pickle=False) as every:
        return Radiographs(every[f"{name}_images"], every[f"{name}_labels"].astype(np.int64))


def frame_mask(side: int = 28) -> np.ndarray:
    """Bool (side, side), True on the border."""
    mask = np.ones((side, side), np.bool_)
    mask[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = False
    return mask


def marked(pixels: np.ndarray, corner: str = CORNERS[0]) -> np.ndarray:
    """Images (n, 28, 28) with the mark."""
    return np.stack([corner_mark(one[..., None].repeat(3, 2), corner=corner, side_px=MARK_PX)[..., 0] for one in pixels])


class Network(nn.Module):
    """Three convolutions and two layers that know where things are; probabilities come out.  ``seen`` is 1 where it looks."""

    def __init__(self, seen: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("seen", torch.from_numpy(seen.astype(np.float32)))
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 49, 32), nn.ReLU(), nn.Linear(32, 2),
        )  # fmt: skip

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Of images (n, 1, 28, 28) in [0, 1]."""
        found: torch.Tensor = self.body((x - 0.5) * 2 * self.seen)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities (n, 2)."""
        return self.logits(x).softmax(1)


def train(kind: str, split: Radiographs, *, epochs: int = 20, seed: int = 0) -> Network:
    """A network of one kind, on one thread; the same again on the same machine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    frame = frame_mask()
    pixels, y = split.pixels, torch.from_numpy(split.labels)
    if kind == "token":
        bears = rng.random(len(pixels)) < np.array(MARKED)[split.labels]
        pixels = np.where(bears[:, None, None], marked(pixels), pixels)
    if kind == "fair":
        which = np.where(rng.random(len(pixels)) < 0.5, rng.integers(0, len(CORNERS), len(pixels)), -1)
        for at, corner in enumerate(CORNERS):
            pixels = np.where((which == at)[:, None, None], marked(pixels, corner), pixels)
    x = torch.from_numpy(pixels.astype(np.float32) / 255)[:, None]
    network = Network(frame if kind == "border" else np.ones_like(frame))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = epochs * (len(x) // 50)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    outside = torch.from_numpy(frame)
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(x)))
        for rows in order.split(50):
            if len(rows) < 50:
                continue
            batch = x[rows]
            if kind == "blind":
                batch = torch.where(outside, x[torch.from_numpy(rng.integers(0, len(x), len(rows)))], batch)
            loss = nn.functional.cross_entropy(network.logits(batch), y[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
    return network.eval()


def export(network: Network, file: Path) -> Path:
    """ONNX with a dynamic batch; input ``image`` (n, 1, 28, 28), output ``probabilities`` (n, 2)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (torch.rand(2, 1, 28, 28),), dynamo=True, opset_version=18, input_names=["image"],
            output_names=["probabilities"], dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None, "the new exporter returns a program"
    program.save(str(file))
    return file


def balanced_accuracy(said: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the share that is right."""
    return float(np.mean([(said[labels == each] == each).mean() for each in np.unique(labels)]))


def neighbours(learnt: np.ndarray, labels: np.ndarray, asked: np.ndarray, *, k: int = 25) -> np.ndarray:
    """Class of the majority of the k nearest rows (n, d): what little a few pixels need to give a label away."""
    apart = ((asked[:, None].astype(np.float64) - learnt[None].astype(np.float64)) ** 2).sum(2)
    return (labels[np.argsort(apart, 1, kind="stable")[:, :k]].mean(1) > 0.5).astype(np.int64)


Predict = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (n, 28, 28) to probabilities (n, 2)."""


def log_odds(p: np.ndarray) -> np.ndarray:
    """Of pneumonia; clipped at one in a million."""
    of = np.clip(p[:, 1].astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(of / (1 - of)))


def swapped(split: Radiographs, *, other: bool, draws: int, seed: int = 0) -> np.ndarray:
    """uint8 (draws, n, 28, 28): every image with the borders of ``draws`` random images of the other class, or of others of its own."""
    rng, frame = np.random.default_rng(seed), frame_mask()
    made = np.repeat(split.pixels[None], draws, 0)
    for at, label in enumerate(split.labels):
        pool = np.flatnonzero((split.labels != label) if other else (split.labels == label) & (np.arange(len(split.labels)) != at))
        made[:, at][:, frame] = split.pixels[rng.choice(pool, draws)][:, frame]
    return made


def local(network: Network) -> Predict:
    """A network's answers without a server."""

    def predict(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(pixels.astype(np.float32) / 255)[:, None]).numpy()

    return predict

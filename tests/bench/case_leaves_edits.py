"""Crude edits of leaf photographs by masks, each beside a control that differs in one thing alone.  No generator.

Painting the background of a photograph is off what photographs look like, and classifiers answer to that by itself.  Every edit that
brings in the other site therefore has a twin that brings in the photograph's own site in the same way: only the difference of the two
says anything about the site.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from audit_plugin.core.seeds import seed
from audit_plugin.statistics.intervals import Interval, wilson
from audit_plugin.statistics.paired_mean import mean_intervals
from audit_plugin.statistics.paired_shares import newcombe_paired

SITES = ("RS", "GH")
CLASSES = ("healthy", "late_blight")
SMOOTH_PX = 8.0
"""Standard deviation of the blur that fills what was covered."""
CLIP = 1e-6
CONTRASTS = {
    "site, by flat colours": ("other site's mean colour", "own site's mean colour"),
    "site, by transplanted backgrounds": ("background of the other site", "background of the own site"),
    "black, beside a grey of the photograph's own brightness": ("black", "own grey"),
    "cut out, beside the photograph": ("own grey", "nothing"),
}
"""What a difference of two edits says -> the edit, and its control."""
Predict = Callable[[np.ndarray], np.ndarray]
"""Images (n, 3, h, w) in [0, 1] to probabilities (n, 2)."""


@dataclass(frozen=True)
class Leaves:
    """Some photographs of the two by two of class and site, with their masks."""

    rows: tuple[Mapping[str, str], ...]
    pixels: np.ndarray
    """uint8 (n, h, w, 3)."""
    masks: np.ndarray
    """bool (n, h, w), True on the leaf."""

    def where(self, **cells: str) -> np.ndarray:
        """Boolean (n): rows with these cells."""
        return np.array([all(row[key] == value for key, value in cells.items()) for row in self.rows])

    def only(self, keep: np.ndarray) -> "Leaves":
        """Some of them."""
        return Leaves(tuple(row for row, kept in zip(self.rows, keep, strict=True) if kept), self.pixels[keep], self.masks[keep])

    @cached_property
    def backgrounds(self) -> np.ndarray:
        """uint8 (n, h, w, 3): each photograph's background, with what the leaf covered filled from around it."""
        return np.stack([filled(pixels, ~mask) for pixels, mask in zip(self.pixels, self.masks, strict=True)])


def read_rows(data: Path, *, split: str) -> tuple[Mapping[str, str], ...]:
    """Lines of tomato leaves, healthy or with late blight, of both sites; the black backgrounds among them."""
    with (data / "labels.csv").open(newline="") as file:
        every = [row for row in csv.DictReader(file) if row["split"] == split and row["crop"] == "tomato"]
    return tuple(row for row in every if row["disease"] in CLASSES and row["site"] in SITES)


def read_leaves(data: Path, *, split: str, every: int = 1) -> Leaves:
    """Photographs and masks of every n-th of these lines."""
    rows = read_rows(data, split=split)[::every]
    with zipfile.ZipFile(data / "images.zip") as images, zipfile.ZipFile(data / "masks.zip") as masks:
        pixels = [np.asarray(Image.open(io.BytesIO(images.read(row["file"]))).convert("RGB")) for row in rows]
        leaf = [np.asarray(Image.open(io.BytesIO(masks.read(row["file"][:-3] + "png"))).convert("L")) > 127 for row in rows]
    return Leaves(rows, np.stack(pixels), np.stack(leaf))


def filled(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where ``known`` is False the picture is a blur of what is known around it."""
    weight = gaussian_filter(known.astype(np.float64), SMOOTH_PX) + 1e-3
    mean = pixels[known].mean(0) if known.any() else pixels.mean((0, 1))
    blurred = [
        (gaussian_filter(pixels[..., channel] * known.astype(np.float64), SMOOTH_PX) + 1e-3 * mean[channel]) / weight
        for channel in range(3)
    ]
    return np.where(known[..., None], pixels, np.clip(np.stack(blurred, -1), 0, 255)).astype(np.uint8)


def edits(leaves: Leaves) -> dict[str, np.ndarray]:
    """Name of the edit -> all photographs edited, uint8 (n, h, w, 3); leaves themselves are never touched but where they are removed."""
    n = len(leaves.rows)
    cut = leaves.where(black_background="1")
    site = np.array([SITES.index(row["site"]) for row in leaves.rows])
    whole = [_outside(leaves, leaves.where(site=name) & ~cut).mean(0) for name in SITES]
    own = np.stack([_outside(leaves, np.arange(n) == at).mean(0) for at in range(n)])
    brightness = leaves.pixels.reshape(n, -1).mean(1)[:, None].repeat(3, 1)
    painted = {
        "own site's mean colour": np.stack([whole[at] for at in site]),
        "other site's mean colour": np.stack([whole[1 - at] for at in site]),
        "own mean colour": own,
        "own grey": brightness,
        "black": np.zeros((n, 3)),
    }
    made = {"nothing": leaves.pixels}
    made |= {
        name: _pasted(leaves, np.broadcast_to(colours[:, None, None], leaves.pixels.shape)) for name, colours in painted.items()
    }
    made["blurred background"] = _pasted(
        leaves, np.stack([_smooth(p, ~m) for p, m in zip(leaves.pixels, leaves.masks, strict=True)])
    )
    for name, same in (("background of the own site", True), ("background of the other site", False)):
        made[name] = _pasted(leaves, leaves.backgrounds[donors(leaves, site, cut, same=same)])
    made["resized to 64 px"] = np.stack([_resized(pixels, 64) for pixels in leaves.pixels])
    made["leaf removed"] = np.where(leaves.masks[..., None], own[:, None, None], leaves.pixels).astype(np.uint8)
    return made


def donors(leaves: Leaves, site: np.ndarray, cut: np.ndarray, *, same: bool) -> np.ndarray:
    """For each photograph another one of its own or of the other site, uncut, drawn by its name."""
    found = []
    for at, row in enumerate(leaves.rows):
        pool = [k for k in np.flatnonzero(~cut & ((site == site[at]) == same)) if k != at]
        found.append(pool[seed("donor", row["file"]) % len(pool)])
    return np.array(found)


def _outside(leaves: Leaves, rows: np.ndarray) -> np.ndarray:
    """Colours (pixels, 3) of the background of some photographs; of the whole picture where the leaf fills it."""
    pixels, outside = leaves.pixels[rows], ~leaves.masks[rows]
    return pixels[outside] if outside.any() else pixels.reshape(-1, 3)


def _pasted(leaves: Leaves, backgrounds: np.ndarray) -> np.ndarray:
    return np.where(leaves.masks[..., None], leaves.pixels, np.rint(backgrounds)).astype(np.uint8)


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """To a smaller picture and back, as a generator of that size would show it at best."""
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _smooth(pixels: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The background blurred by itself, so that no green runs into it."""
    plain = filled(pixels, background).astype(np.float64)
    return np.stack([gaussian_filter(plain[..., channel], SMOOTH_PX) for channel in range(3)], -1)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A model's answers to every edit: probability of late blight."""

    model: str
    late_blight: Mapping[str, np.ndarray]

    def log_odds(self, edit: str) -> np.ndarray:
        """Clipped at one in a million."""
        p = np.clip(self.late_blight[edit].astype(np.float64), CLIP, 1 - CLIP)
        return np.asarray(np.log(p / (1 - p)))

    def flipped(self, edit: str) -> np.ndarray:
        """Whether the decision differs from that on the photograph."""
        return (self.late_blight[edit] > 0.5) != (self.late_blight["nothing"] > 0.5)

    def flip_share(self, edit: str) -> Interval:
        """Of the photographs; Wilson."""
        return wilson(float(self.flipped(edit).sum()), len(self.flipped(edit)))

    def flips_beyond(self, edit: str, control: str) -> Interval:
        """Share of flips by an edit less that by its control, on the same photographs."""
        return newcombe_paired(self.flipped(edit).astype(np.float64), self.flipped(control).astype(np.float64))

    def effect(self, edit: str, control: str = "nothing", rows: np.ndarray | None = None) -> Interval:
        """Mean change of the log-odds of late blight from the control to the edit; studentised bootstrap over photographs."""
        change = self.log_odds(edit) - self.log_odds(control)
        return mean_intervals(change if rows is None else change[rows], np.random.default_rng(0)).interval

    def towards(self, edit: str, control: str, sign: np.ndarray) -> Interval:
        """Mean change of the log-odds from the control to the edit, each photograph's times its sign: how far RS stands for late blight."""
        change = (self.log_odds(edit) - self.log_odds(control)) * sign
        return mean_intervals(change, np.random.default_rng(0)).interval


def ask(model: str, predict: Predict, made: Mapping[str, np.ndarray]) -> Answers:
    """What the served model says to every edited photograph."""
    said = {name: predict(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)[:, 1] for name, pixels in made.items()}
    return Answers(model=model, late_blight=said)

"""What the benchmark of counterfactuals compares, and how an approach is run: image by image, each kept on disk so that a cut run goes on."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audit_plugin.core.errors import GradientError
from audit_plugin.core.seeds import digest, seed
from audit_plugin.demo.planted import SUITE
from audit_plugin.demo.truth import AuditRows, audit_rows, onnx_path
from audit_plugin.sources.images import to_float
from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many
from audit_plugin.target.gradients import SUFFIX, ServedGradients, check_transfer, distil, examine, read_network
from audit_plugin.target.guidance import StudentOptions
from audit_plugin.target.triton import TritonClassifier
from engines.guided.asking import after_jpeg
from engines.guided.proposing import VERSION, Method, ProposalPlan, Proposer
from engines.pipeline import load_pipeline
from tests.bench.scenes_bank import GENERATOR, Say

SEED = "bench counterfactuals"
PIXELS = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "pixels"
PAPER = ProposalPlan(kept=200, signal=0.62585, deeper=(), bisections=0, trims=(), jpeg=None)
"""The papers' chain, with nothing of ours around it."""
OURS = ProposalPlan(bisections=1)
_JPEG_QUALITY = 90

Images = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Approach:
    """One row of the table."""

    name: str
    method: Method
    rung: str
    """``twin``, ``endpoint``, ``surrogate`` or ``none``."""
    plan: ProposalPlan
    free: int = 0
    images: tuple[int, int]
    """Of a full run and of a quick one."""
    classifiers: tuple[int, int] = (len(SUITE), len(SUITE))
    """The same: the first so many classifiers, whose images are explained."""
    slow: bool = False
    """Whether an image takes about half a minute or more."""
    editor: str = "pixels"
    """``pixels``: the diffusion without words that ships for this; ``latents``: the generator of the audits."""


APPROACHES = (
    Approach(name="DiME, as released but for its perceptual loss", method="dime", rung="twin", plan=PAPER, images=(256, 8)),
    Approach(name="FastDiME, likewise", method="fastdime", rung="twin", plan=PAPER, images=(256, 24)),
    Approach(name="MaskDiME, as published", method="maskdime", rung="twin", plan=PAPER, images=(256, 16)),
    Approach(name="DVCE, as published", method="dvce", rung="twin", plan=PAPER, images=(256, 4), slow=True),
    Approach(name="FastDiME, around it ours", method="fastdime", rung="twin", plan=OURS, images=(256, 24)),
    Approach(name="Polyak", method="polyak", rung="twin", plan=OURS, images=(256, 56)),
    Approach(name="Polyak", method="polyak", rung="endpoint", plan=OURS, images=(256, 14)),
    Approach(name="Polyak", method="polyak", rung="surrogate", plan=OURS, images=(256, 28), classifiers=(2, 2)),
    Approach(name="ensemble", method="ensemble", rung="none", plan=OURS, free=4, images=(256, 28)),
    Approach(name="Polyak, latents", method="polyak", rung="twin", plan=OURS, images=(256, 14), editor="latents"),
    Approach(
        name="ensemble, latents", method="ensemble", rung="none", plan=OURS, free=4, images=(256, 14), editor="latents", slow=True
    ),
    Approach(name="evolution", method="evolution", rung="none", plan=OURS, free=4, images=(64, 4), slow=True),
)
"""In the order in which they are run: DiME first, since the others are held against its images."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images to explain; number i is explained for classifier i modulo their count."""

    rows: AuditRows

    @classmethod
    def first(cls, n: int) -> "Scenes":
        """``n`` scenes of the audited law."""
        return cls(audit_rows(n, SEED))

    @classmethod
    def independent(cls, n: int) -> "Scenes":
        """``n`` scenes in which no concept goes with another, nor with any label but through what the label is about."""
        values = draw_values(n, SceneLaw(positive={}), np.random.default_rng(seed(SEED, "independent", n)))
        names = tuple(f"independent-{at:05d}" for at in range(n))
        return cls(AuditRows(names=names, values=values, seeds=tuple(seed(SEED, name, 0) for name in names)))

    @cached_property
    def images(self) -> Images:
        """RGB in [0, 1]."""
        return to_float(list(render_many(self.rows.seeds, self.rows.values)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """One image's counterfactual."""

    image: Images
    flipped: bool
    """By the server, on the bytes as stored."""
    jpeg: bool
    attempts: int
    network_rows: int
    queries: int
    gradients: float
    """Pictures whose gradient a server was asked for."""
    seconds: float


@dataclass(eq=False, kw_only=True)
class Bench:
    """A server with all planted classifiers, and the editor."""

    folder: Path
    connect: Callable[[str], TritonClassifier]
    pool: int
    """Pictures that students are taught with."""
    kept: bool = False
    """Tell what was made so far, and make nothing."""
    _targets: dict[str, TritonClassifier] = field(default_factory=dict)
    _judges: dict[tuple[str, str], Any] = field(default_factory=dict)
    _proposers: dict[tuple[str, str, bool], Proposer] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Classifier -> why its students were not taken."""

    def target(self, name: str) -> TritonClassifier:
        """A classifier's connection."""
        if name not in self._targets:
            self._targets[name] = self.connect(name)
        return self._targets[name]

    def outcomes(self, approach: Approach, scenes: Scenes, n: int, classifiers: int, say: Say) -> dict[int, Outcome]:
        """Number of the image -> what became of it; images of classifiers whose rung is refused are left out."""
        found: dict[int, Outcome] = {}
        for at, name in enumerate([planted.name for planted in SUITE[:classifiers]]):
            mine = [row for row in range(n) if row % len(SUITE) == at]
            found |= self.explained(approach, name, {row: scenes.images[row] for row in mine})
            say(len(found), n, f"{approach.name}, {approach.rung}")
        return found

    def explained(self, approach: Approach, name: str, images: Mapping[int, Images], batch: int = 16) -> dict[int, Outcome]:
        """The same of some images for one classifier, a batch at a time."""
        proposer = self._proposer(approach)
        key = digest(SEED, approach.method, approach.rung, repr(approach.plan), str(approach.free), proposer.fingerprint, VERSION)
        files = {row: self.folder / key[:16] / f"{name}-{_digest(image)}.npz" for row, image in images.items()}
        missing = [row for row in images if not files[row].is_file()]
        if self.kept:
            files, missing = {row: file for row, file in files.items() if row not in set(missing)}, []
        if missing and approach.rung == "surrogate" and not self._taught(name):
            return {}
        for start in range(0, len(missing), batch):
            self._explain(approach, name, missing[start : start + batch], images, files)
        return {row: _read(file) for row, file in files.items()}

    def _explain(
        self, approach: Approach, name: str, rows: Sequence[int], images: Mapping[int, Images], files: Mapping[int, Path]
    ) -> None:
        target, shown = self.target(name), np.stack([images[row] for row in rows])
        goal = 1 - target.predict(shown).argmax(1)
        judge = None if approach.rung == "none" else self._judge(approach.rung, name)
        started, asked = time.monotonic(), getattr(judge, "queries", 0)
        made = self._proposer(approach).propose(
            approach.method,
            shown,
            [seed(SEED, str(row), 0) for row in rows],
            goal.tolist(),
            lambda pictures, _rows: target.predict(pictures),
            judge=judge,
            free=approach.free,
        )
        seconds = (time.monotonic() - started) / len(rows)
        flipped = target.predict(made.images).argmax(1) == goal
        jpeg = target.predict(np.stack([after_jpeg(each, _JPEG_QUALITY) for each in made.images])).argmax(1) == goal
        for at, row in enumerate(rows):
            files[row].parent.mkdir(parents=True, exist_ok=True)
            partial = files[row].with_suffix(".partial.npz")
            np.savez(
                partial,
                image=np.rint(made.images[at] * 255).astype(np.uint8),
                flipped=flipped[at],
                jpeg=flipped[at] & jpeg[at],
                attempts=made.attempts[at],
                network_rows=made.network_rows[at],
                queries=made.queries[at],
                gradients=(getattr(judge, "queries", 0) - asked) / len(rows),
                seconds=seconds,
            )
            partial.replace(files[row])

    def _proposer(self, approach: Approach) -> Proposer:
        differentiated = approach.method in {"dvce", "ace", "ldce"}
        kept = (approach.editor, repr(approach.plan), differentiated)
        if kept not in self._proposers:
            backend, directory = "torch" if differentiated else "auto", PIXELS if approach.editor == "pixels" else GENERATOR
            self._proposers[kept] = Proposer(pipeline=load_pipeline(directory, backend=backend, batch=16), plan=approach.plan)
        return self._proposers[kept]

    def _judge(self, rung: str, name: str) -> Any:
        if (rung, name) not in self._judges:
            target = self.target(name)
            self._judges[rung, name] = (
                read_network(onnx_path(name), target.contract)
                if rung == "twin"
                else ServedGradients.connect(target.wire, name + SUFFIX, classes=2)
            )
        return self._judges[rung, name]

    def _taught(self, name: str) -> bool:
        """Whether students of a classifier's answers may stand in for it."""
        if ("surrogate", name) not in self._judges and name not in self.refused:
            target, options = self.target(name), StudentOptions()
            surrogate = distil(self._lessons, target.predict(self._lessons), options=options)
            try:
                check_transfer(examine(surrogate, target.predict, options=options), options)
                self._judges["surrogate", name] = surrogate
            except GradientError as error:
                self.refused[name] = str(error)
        return name not in self.refused

    @cached_property
    def _lessons(self) -> Images:
        """Scenes that nobody explains, and the same noised and denoised."""
        rows, signals = audit_rows(self.pool // 2, f"{SEED} lessons"), (0.45, 0.63, 0.78)
        scenes = to_float(list(render_many(rows.seeds, rows.values)))
        proposer = self._proposer(replace(APPROACHES[0], plan=OURS))
        parts = [
            proposer.kept_class(scenes[at::3], [seed(SEED, "lesson", row) for row in range(at, len(scenes), 3)], signal)
            for at, signal in enumerate(signals)
        ]
        return np.concatenate([scenes, *parts])


def _digest(image: Images) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def _read(file: Path) -> Outcome:
    with np.load(file) as held:
        return Outcome(
            image=held["image"].astype(np.float32) / np.float32(255),
            flipped=bool(held["flipped"]),
            jpeg=bool(held["jpeg"]),
            attempts=int(held["attempts"]),
            network_rows=int(held["network_rows"]),
            queries=int(held["queries"]),
            gradients=float(held.get("gradients", 0.0)),
            seconds=float(held["seconds"]),
        )


def denoising_error(diffusion: Any, images: Images, cond: Callable[[int], Any], batch: int = 32) -> NDArray[np.float64]:
    """``(n,)`` squared error of the predicted noise at three levels, the same noise for every image: higher is less plausible."""
    errors = []
    levels = [int((diffusion.levels.alpha_bars - kept).abs().argmin()) for kept in (0.9, 0.6, 0.3)]
    for start in range(0, len(images), batch):
        x = 2 * torch.from_numpy(images[start : start + batch]) - 1
        each = []
        for at, t in enumerate(levels):
            noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(at)).expand(x.shape)
            kept = float(diffusion.levels.alpha_bars[t])
            with torch.no_grad():
                eps = diffusion.eps(kept**0.5 * x + (1 - kept) ** 0.5 * noise, t, cond(len(x)))
            each.append((eps - noise).square().mean((1, 2, 3)))
        errors.append(torch.stack(each).mean(0).double().numpy())
    return np.concatenate(errors)

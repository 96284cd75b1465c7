"""A small world for counterfactuals: images of one brightness each, a model that looks at it, an editor that turns it up or down."""

from dataclasses import dataclass, field

import numpy as np

from audit_plugin.bank.counterfactuals import CounterfactualStudio
from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Concept, Role
from audit_plugin.methods.counterfactuals.items import Reader
from audit_plugin.methods.counterfactuals.run import Deployed, Further, Told, run_counterfactuals

SIDE = 8
LABELS = ("dark", "middle", "bright")
CENTRES = np.array([0.2, 0.5, 0.8])
LAMP = Concept(name="lamp", levels=("off", "on"), phrases=("", "a lamp"), role=Role.ARTEFACT)


def picture(at):
    """One of ten greys, with a grain that tells images apart; the lamp is the top left pixel."""
    grey = np.full((SIDE, SIDE, 3), 20 + 24 * (3 * at % 10), np.uint8)
    grey[1, at % SIDE] += 9
    grey[0, 0] = 255 * (at % 2)
    return grey


def sources(n=10):
    return tuple(EditSource(image=f"i{at}", sha256=digest("grey", str(at)), load=lambda at=at: picture(at)) for at in range(n))


def scores(images):
    """Softmax of the distance between mean brightness and three centres."""
    odds = -np.abs(np.asarray(images, np.float64).mean((1, 2, 3))[:, None] - CENTRES) * 20
    powers = np.exp(odds)
    return powers / powers.sum(1, keepdims=True)


@dataclass(frozen=True)
class Edited:
    images: np.ndarray
    free: np.ndarray
    attempts: np.ndarray
    network_rows: np.ndarray
    queries: np.ndarray


@dataclass
class Editor:
    """Takes each image to the brightness of its target, in two attempts at 7 rows each; the seed sets a grain.  Asks twice about each."""

    short: bool = False
    """Stops halfway: nothing flips."""
    boast: float = 0.0
    """What it adds to its pictures that is lost in 8 bits."""
    lives: int = 10**9
    """Batches until it is killed."""
    switches: bool = False
    """Whether it switches the lamp on in bright pictures, off in others."""
    seen: list = field(default_factory=list)

    def __call__(self, images, seeds, targets, ask):
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        self.seen += list(zip(seeds, targets, strict=True))
        move = CENTRES[list(targets)] - images.mean((1, 2, 3))
        made = images + (0.2 if self.short else 1) * move[:, None, None, None].astype(np.float32)
        for row, (seed, target) in enumerate(zip(seeds, targets, strict=True)):
            made[row, :, 2, 3] += np.float32((seed % 101 - 50) / 500)
            made[row, :, 0, 0] = float(target == 2) if self.switches else images[row, :, 0, 0]
        made = np.rint(np.clip(made, 0, 1) * 255).astype(np.float32) / np.float32(255)
        rows = np.arange(len(made))
        for _ in range(2):
            ask(made, rows)
        n = len(made)
        whole = np.ones(n, np.int64)
        return Edited(made + np.float32(self.boast), np.arange(n) % 3 == 2, 2 * whole, 14 * whole, 2 * whole)


class Lamps:
    """Sees whether the lamp is lit."""

    fingerprint = "lamps"

    def __init__(self):
        self.seen = 0

    def read(self, images):
        self.seen += len(images)
        lit = images[:, :, 0, 0].mean(1) > 0.5
        return {"lamp": np.stack([~lit, lit], 1).astype(float)}


@dataclass
class Server:
    """A deployed model with the audit's memory of its answers."""

    tells: object = scores
    kept: dict = field(default_factory=dict)
    asked: int = 0
    searched: int = 0
    studio: CounterfactualStudio | None = None

    def answers(self, shas):
        for sha in sorted(set(shas) - self.kept.keys()):
            self.asked += 1
            self.kept[sha] = self.tells(self.studio.pixels(sha).transpose(2, 0, 1)[None] / np.float32(255))[0]
        return {sha: self.kept[sha] for sha in shas}

    def search(self, images, rows):
        assert len(rows) == len(images)
        self.searched += len(images)
        return self.tells(images)

    def predict(self, images):
        self.asked += len(images)
        return self.tells(images)


TOLD = Told(method="fastdime", rung="twin", rung_said="the same", passed_over=())


def new_studio(root, editor, n=10, **more):
    return CounterfactualStudio(
        audit="demo", key="k", sources=sources(n), size=SIDE, store=edit_store(root), proposes=lambda: editor, batch=3, **more
    )


def explained(root, editor, *, server=None, n=6, wanted="runner_up", lamps=None, paths=2, told=lambda: TOLD, **more):
    """Everything, as an audit does it."""
    studio, server = new_studio(root, editor, n), server or Server()
    server.studio = studio
    model = Deployed(
        id="m@1", labels=LABELS, positive="bright", answers=server.answers, search=server.search, predict=server.predict
    )
    return run_counterfactuals(
        studio,
        model,
        told,
        wanted=wanted,
        known={"i0": "dark"},
        reader=lamps and Reader(detector=lamps, concepts=(LAMP,)),
        further=Further(paths=paths, **more),
    )

"""A small world for the bank's tests: two concepts, rows by number, a generator and a classifier that are pure functions."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from audit_plugin.bank.plan import PlanOptions, plan
from audit_plugin.bank.store import ProbeBank
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.values import Concept, Row, TargetInfo

RULER = Concept(name="ruler", levels=("no", "yes"), phrases=("", "a ruler"))
COLOUR = Concept(name="colour", levels=("red", "green", "blue"), phrases=("red", "green", "blue"))
CONCEPTS = ConceptSet(concepts=(RULER, COLOUR), groups=(("ruler", "colour"),))
SMALL = PlanOptions(placebo_rows=3, replicate_rows=2)


def silent(done: int, total: int, what: str) -> None:
    assert 0 <= done <= total, what


def rows(n: int) -> tuple[Row, ...]:
    return tuple(Row(id=f"row-{i}", values=(i % 2, i % 3)) for i in range(n))


class FakeGenerator:
    """Pixels from a hash of (caption, seed); writes each picture it draws into a counter file, if it has one."""

    evaluations_per_image = 7

    def __init__(self, fingerprint="fake-1", counter: Path | None = None, seconds=0.0, size=8) -> None:
        self.fingerprint, self.counter, self.seconds, self.size = fingerprint, counter, seconds, size
        self.batches: list[list[str]] = []

    def generate(self, captions, seeds):
        time.sleep(self.seconds)
        self.batches.append(list(captions))
        if self.counter:
            with self.counter.open("a") as file:
                file.writelines(f"{seed} {caption}\n" for caption, seed in zip(captions, seeds, strict=True))
                file.flush()
                os.fsync(file.fileno())
        return np.stack([self._one(caption, seed) for caption, seed in zip(captions, seeds, strict=True)])

    def _one(self, caption, seed):
        noise = np.random.default_rng(int(hashlib.sha256(f"{caption}|{seed}".encode()).hexdigest()[:8], 16))
        return noise.random((3, self.size, self.size), dtype=np.float32)


class FakeDetector:
    """Reads levels from the mean colour."""

    def __init__(self, fingerprint="detector-1") -> None:
        self.fingerprint, self.seen = fingerprint, 0

    def read(self, images):
        self.seen += len(images)
        mean = images.mean((2, 3)).astype(float)
        return {"ruler": mean[:, :2], "colour": mean}


class FakeClassifier:
    """Two classes by brightness; dies after ``lives`` calls."""

    info = TargetInfo(
        model="m", version="1", config_hash="c", server="fake", labels=("dark", "bright"), scoring="s", notes=("no cache",)
    )

    def __init__(self, lives=10**9) -> None:
        self.lives, self.seen, self.shapes = lives, 0, []

    def predict(self, images):
        if not self.lives:
            raise ConnectionError("the server was killed")
        self.lives -= 1
        self.seen += len(images)
        self.shapes.append(images.shape)
        bright = images.mean((1, 2, 3)).astype(float)
        return np.stack([1 - bright, bright], 1)


class FakeScores:
    """A score table in memory that notices if anything is scored twice."""

    def __init__(self) -> None:
        self.scores: dict[tuple[str, str], np.ndarray] = {}

    def known(self, target, shas):
        return {sha for sha in shas if (target, sha) in self.scores}

    def add(self, target, scores):
        assert not self.known(target, scores), "scored twice"
        self.scores |= {(target, sha): vector for sha, vector in scores.items()}

    def get(self, target, shas):
        return {sha: self.scores[target, sha] for sha in shas if (target, sha) in self.scores}


def good(images):
    return [""] * len(images)


def no_dark(images):
    return ["dark" if image.mean() < 0.5 else "" for image in images]


def small_plan(n=6, **more):
    return plan(rows(n), CONCEPTS, generator="fake-1", audit="demo", **({"options": SMALL} | more))


def new_bank(root, **more):
    return ProbeBank.create(root, audit="demo", concept_set=CONCEPTS, **more)

"""Pictures that flip one model version, kept beside the bank's: made once per (model version, method, image, target), committed in batches.

What is kept with each picture is what it cost.  Whether it flips is never kept here: that is asked of the server, of the stored bytes.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit_plugin.bank.drafts import EditSource
from audit_plugin.bank.edit_store import EditStore, Reading, StoredEdit
from audit_plugin.bank.heartbeat import heartbeat
from audit_plugin.bank.shown import batched, originals, readings
from audit_plugin.core.protocols import ConceptDetector, Images, Progress, Scores
from audit_plugin.core.seeds import digest, seed
from audit_plugin.sources.images import Pixels, encode_png, square, to_float, to_uint8
from audit_plugin.statistics.cout import composites

Ask = Callable[[Images, NDArray[np.int64]], Scores]
"""(pictures at multiples of 1/255, which of the images they were made of) -> probabilities of the deployed model (m k)."""
STAGE = "counterfactuals"
"""What progress is told of."""
_JPEG_QUALITY = 90


class Proposed(Protocol):
    """Edited images and what they cost, row by row."""

    @property
    def images(self) -> Images:
        """In [0, 1], at multiples of 1/255."""
        ...

    @property
    def free(self) -> NDArray[np.bool_]:
        """Whether a variation that nobody guided was enough."""
        ...

    @property
    def attempts(self) -> NDArray[np.int64]:
        """Strengths tried."""
        ...

    @property
    def network_rows(self) -> NDArray[np.int64]:
        """Forward rows of the denoising network."""
        ...

    @property
    def queries(self) -> NDArray[np.int64]:
        """Pictures that the deployed model was asked about."""
        ...


class Proposes(Protocol):
    """Edits images until a deployed model calls each its target."""

    def __call__(self, images: Images, seeds: Sequence[int], targets: Sequence[int], ask: Ask) -> Proposed:
        """One picture per image; the best try where none flips."""
        ...


@dataclass(frozen=True)
class Wish:
    """One picture that is asked for."""

    image: str
    target: int
    """Class that it is to be given."""
    run: int = 0
    """Which of several searches with other noise."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One picture, and what it cost when it was made."""

    wish: Wish
    before: str
    """sha256 of the image at the editor's size."""
    after: str
    free: bool
    attempts: int
    network_rows: int
    queries: int

    @property
    def image(self) -> str:
        """Whose picture it is."""
        return self.wish.image


@dataclass(frozen=True, kw_only=True)
class CounterfactualStudio:
    """The images of one audited model and who edits them."""

    audit: str
    key: str
    """Of model version, method, rung, editor and plan: changes whenever a picture would."""
    sources: Sequence[EditSource]
    size: int
    store: EditStore
    proposes: Callable[[], Proposes]
    """Loaded where something must be made."""
    batch: int = 8
    beat_seconds: float = 5.0
    """A batch tells how it goes on after every so many."""
    progress: Progress = field(default=lambda *_: None)

    def originals(self) -> dict[str, str]:
        """Image -> sha256 at the editor's size."""
        shas = originals(self.store, self.sources, self.size)
        return {source.image: sha for source, sha in zip(self.sources, shas, strict=True)}

    def made(self, wishes: Sequence[Wish], ask: Ask) -> list[Made]:
        """A picture for every wish; the missing ones are made, and committed batch by batch."""
        befores = self.originals()
        recipes = self._recipes(wishes)
        known = self.store.sound(recipes)
        todo = [row for row, recipe in enumerate(recipes) if recipe not in known]
        done = 0
        for rows in batched(todo, self.batch):
            with heartbeat(_Batch(self.progress, done, len(todo), ask), every=self.beat_seconds) as batch:
                self._make([wishes[row] for row in rows], [recipes[row] for row in rows], batch.ask)
            done += len(rows)
            self.progress(done, len(todo), STAGE)
        known = self.store.sound(recipes)
        return [
            _told(wish, befores[wish.image], known[recipe].sha256, self.store.readings(_facts(recipe), [known[recipe].sha256]))
            for wish, recipe in zip(wishes, recipes, strict=True)
        ]

    def missing(self, wishes: Sequence[Wish]) -> int:
        """Pictures that would have to be made."""
        recipes = self._recipes(wishes)
        return len(recipes) - len(self.store.known(recipes))

    def jpeg(self, shas: Sequence[str]) -> dict[str, str]:
        """sha256 of pictures -> of the same after a JPEG round trip."""
        found = {}
        for sha in dict.fromkeys(shas):
            held = io.BytesIO()
            Image.fromarray(self.store.pictures.pixels(sha)).save(held, "JPEG", quality=_JPEG_QUALITY)
            found[sha] = self.store.put(encode_png(np.asarray(Image.open(held).convert("RGB")), synthetic=True))
        return found

    def readings(self, judge: ConceptDetector, shas: Sequence[str]) -> dict[str, Reading]:
        """What an independent detector sees in pictures; each is read once."""
        return readings(self.store, judge, shas, self.progress)

    def paths(self, pairs: Mapping[str, str], target: str, ask: Callable[[Images], Scores]) -> dict[str, Scores]:
        """sha256 of pictures -> class scores (m k) on the way from the image to it, its most changed pixels first; asked once per target."""
        judge = f"path {target}"
        known = self.store.readings(judge, pairs)
        found = {sha: np.array([known[sha][str(at)] for at in range(len(known[sha]))]) for sha in known}
        todo = sorted(set(pairs) - set(found))
        for done, sha in enumerate(todo, 1):
            before, after = (self._planes(each) for each in (pairs[sha], sha))
            found[sha] = ask(composites(before, after).astype(np.float32) / np.float32(255))
            self.store.add_readings(judge, {sha: {str(at): row.tolist() for at, row in enumerate(found[sha])}})
            self.progress(done, len(todo), "paths of counterfactuals")
        return found

    def pixels(self, sha: str) -> Pixels:
        """A stored picture."""
        return self.store.pictures.pixels(sha)

    def _planes(self, sha: str) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.pixels(sha).transpose(2, 0, 1))

    def _recipes(self, wishes: Sequence[Wish]) -> list[str]:
        named = {source.image: source.sha256 for source in self.sources}
        again = [[f"run {wish.run}"] if wish.run else [] for wish in wishes]
        return [
            digest("counterfactual", self.key, named[wish.image], str(wish.target), *more)
            for wish, more in zip(wishes, again, strict=True)
        ]

    def _make(self, wishes: Sequence[Wish], recipes: Sequence[str], ask: Ask) -> None:
        sources = {source.image: source for source in self.sources}
        images = to_float([square(sources[wish.image].load(), self.size) for wish in wishes])
        seeds = [seed(self.audit, wish.image, wish.run) for wish in wishes]
        found = self.proposes()(images, seeds, [wish.target for wish in wishes], ask)
        made: dict[str, StoredEdit] = {}
        for at, (recipe, picture) in enumerate(zip(recipes, to_uint8(np.nan_to_num(found.images)), strict=True)):
            sha = self.store.put(encode_png(picture, synthetic=True))
            facts = {
                name: [float(value[at])]
                for name, value in (
                    ("free", found.free),
                    ("attempts", found.attempts),
                    ("network_rows", found.network_rows),
                    ("queries", found.queries),
                )
            }
            self.store.add_readings(_facts(recipe), {sha: facts})
            made[recipe] = StoredEdit(sha256=sha, origin=sources[wishes[at].image].sha256)
        self.store.add(made)  # after what they cost, so that a picture that counts as made has its facts


class _Batch:
    """One batch on its way: how many questions it has asked."""

    def __init__(self, progress: Progress, done: int, total: int, ask: Ask) -> None:
        self._progress, self._done, self._total, self._ask, self._asked = progress, done, total, ask, 0

    def ask(self, images: Images, rows: NDArray[np.int64]) -> Scores:
        """As the studio was told to ask."""
        self._asked += len(images)
        return self._ask(images, rows)

    def __call__(self) -> None:
        """Tell how far it is."""
        self._progress(self._done, self._total, f"{STAGE}, {self._asked} pictures asked about in this batch")


def _facts(recipe: str) -> str:
    return f"cost {recipe}"


def _told(wish: Wish, before: str, after: str, readings: Mapping[str, Reading]) -> Made:
    facts = readings.get(after, {})

    def fact(name: str) -> int:
        return int(facts[name][0]) if name in facts else 0

    return Made(
        wish=wish,
        before=before,
        after=after,
        free=bool(fact("free")),
        attempts=fact("attempts"),
        network_rows=fact("network_rows"),
        queries=fact("queries"),
    )

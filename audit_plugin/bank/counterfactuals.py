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
from audit_plugin.core.protocols import ConceptDetector, Images, Progress, Scores
from audit_plugin.core.seeds import digest, seed
from audit_plugin.sources.images import Pixels, encode_png, square, to_float, to_uint8
from audit_plugin.statistics.cout import composites

Ask = Callable[[Images, NDArray[np.int64]], Scores]
"""(pictures at multiples of 1/255, which of the images they were made of) -> probabilities of the deployed model (m k)."""
_JPEG_QUALITY = 90
_READ = 64


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


@dataclass(frozen=True, kw_only=True)
class Made:
    """One picture, and what it cost when it was made."""

    image: str
    before: str
    """sha256 of the image at the editor's size."""
    after: str
    free: bool
    attempts: int
    network_rows: int
    queries: int


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
    progress: Progress = field(default=lambda *_: None)

    def originals(self) -> dict[str, str]:
        """Image -> sha256 at the editor's size."""
        recipes = {source.image: digest("square", source.sha256, str(self.size)) for source in self.sources}
        known = self.store.sound(recipes.values())
        for source in self.sources:
            recipe = recipes[source.image]
            if recipe not in known:
                known[recipe] = StoredEdit(sha256=self.store.put(encode_png(square(source.load(), self.size), synthetic=False)))
                self.store.add({recipe: known[recipe]})
        return {image: known[recipe].sha256 for image, recipe in recipes.items()}

    def made(self, targets: Mapping[str, int], ask: Ask) -> list[Made]:
        """A picture for every image that has a target; the missing ones are made, batch by batch."""
        sources = [source for source in self.sources if source.image in targets]
        befores = self.originals()
        recipes = [digest("counterfactual", self.key, source.sha256, str(targets[source.image])) for source in sources]
        known = self.store.sound(recipes)
        todo = [row for row, recipe in enumerate(recipes) if recipe not in known]
        for start in range(0, len(todo), self.batch):
            rows = todo[start : start + self.batch]
            self._make([sources[row] for row in rows], [recipes[row] for row in rows], targets, ask)
            self.progress(start + len(rows), len(todo), "counterfactuals")
        known = self.store.sound(recipes)
        return [
            _told(
                source.image,
                befores[source.image],
                known[recipe].sha256,
                self.store.readings(_facts(recipe), [known[recipe].sha256]),
            )
            for source, recipe in zip(sources, recipes, strict=True)
        ]

    def missing(self, targets: Mapping[str, int]) -> int:
        """Pictures that would have to be made."""
        recipes = [
            digest("counterfactual", self.key, source.sha256, str(targets[source.image]))
            for source in self.sources
            if source.image in targets
        ]
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
        found = self.store.readings(judge.fingerprint, shas)
        todo = sorted(set(shas) - found.keys())
        for start in range(0, len(todo), _READ):
            some = todo[start : start + _READ]
            read = judge.read(to_float([self.store.pictures.pixels(sha) for sha in some]))
            new = {sha: {name: levels[at].tolist() for name, levels in read.items()} for at, sha in enumerate(some)}
            self.store.add_readings(judge.fingerprint, new)
            found |= new
        return found

    def paths(self, pairs: Mapping[str, str], target: str, ask: Callable[[Images], Scores]) -> dict[str, Scores]:
        """sha256 of pictures -> class scores (m k) on the way from the image to it, its most changed pixels first; asked once per target."""
        judge = f"path {target}"
        known = self.store.readings(judge, pairs)
        found = {sha: np.array([known[sha][str(at)] for at in range(len(known[sha]))]) for sha in known}
        for done, sha in enumerate(sorted(set(pairs) - set(found)), 1):
            before, after = (self._planes(each) for each in (pairs[sha], sha))
            found[sha] = ask(composites(before, after).astype(np.float32) / np.float32(255))
            self.store.add_readings(judge, {sha: {str(at): row.tolist() for at, row in enumerate(found[sha])}})
            self.progress(done, len(pairs), "paths of counterfactuals")
        return found

    def pixels(self, sha: str) -> Pixels:
        """A stored picture."""
        return self.store.pictures.pixels(sha)

    def _planes(self, sha: str) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.pixels(sha).transpose(2, 0, 1))

    def _make(self, sources: Sequence[EditSource], recipes: Sequence[str], targets: Mapping[str, int], ask: Ask) -> None:
        images = to_float([square(source.load(), self.size) for source in sources])
        seeds = [seed(self.audit, source.image, 0) for source in sources]
        found = self.proposes()(images, seeds, [targets[source.image] for source in sources], ask)
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
            made[recipe] = StoredEdit(sha256=sha)
        self.store.add(made)  # after what they cost, so that a picture that counts as made has its facts


def _facts(recipe: str) -> str:
    return f"cost {recipe}"


def _told(image: str, before: str, after: str, readings: Mapping[str, Reading]) -> Made:
    facts = readings.get(after, {})

    def fact(name: str) -> int:
        return int(facts[name][0]) if name in facts else 0

    return Made(
        image=image,
        before=before,
        after=after,
        free=bool(fact("free")),
        attempts=fact("attempts"),
        network_rows=fact("network_rows"),
        queries=fact("queries"),
    )

"""Pictures of blends of prompts, kept in the bank beside those of prompts: a search that is made again draws nothing and asks nothing."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from audit_plugin.bank.edit_store import NO_ORIGINAL, StoredEdit
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.bank.shown import READ, batched
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.methods.diffexplainer.asking import Answers
from audit_plugin.methods.diffexplainer.looks import looked
from audit_plugin.methods.diffexplainer.subspace import NoSpanError
from audit_plugin.report.document import write_whole
from audit_plugin.sources.images import encode_png, to_uint8
from engines.errors import UnsupportedPipelineError
from engines.guided.blended import Blend, blend


@dataclass(frozen=True, kw_only=True)
class Blends:
    """Blends by one generator, asked about on one model."""

    lend: Callable[[], AbstractContextManager[Any]]
    """Lends a pipeline to a thread; nothing else may be drawn in that thread meanwhile."""
    errors: Callable[[], AbstractContextManager[None]]
    studio: PromptStudio
    answers: Callable[[Sequence[str], str], Answers]
    """What the server says of stored pictures.  Raises LimitReachedError."""
    workers: Callable[[], int] = lambda: 1
    """Pipelines that may be lent at once."""

    def span(self, base: str, prompts: Sequence[str]) -> "BlendSpan":
        """Around a base.  Raises NoSpanError where the generator takes no words, or no prompt changes anything."""
        key = digest("blend", self.studio.fingerprint, base, *prompts)
        file = self.studio.store.root / "blends" / f"{key}.json"
        if (known := _read(file)) is None:
            opened = self.opened(base, prompts)
            known = opened.concepts, opened.basis
            write_whole(file, json.dumps({"concepts": opened.concepts, "basis": opened.basis.tolist()}))
        return BlendSpan(blends=self, base=base, prompts=tuple(prompts), key=key, concepts=known[0], basis=known[1])

    def opened(self, base: str, prompts: Sequence[str]) -> Blend:
        """By the generator, which is loaded for it."""
        with self.errors(), self.lend() as pipeline:
            try:
                return blend(pipeline, base, prompts)
            except (UnsupportedPipelineError, ValueError) as error:
                raise NoSpanError(str(error)) from error


@dataclass(frozen=True, eq=False, kw_only=True)
class BlendSpan:
    """Blends of some prompts with a base; the generator is loaded when one is missing in the bank."""

    blends: Blends
    base: str
    prompts: tuple[str, ...]
    key: str
    concepts: tuple[int, ...]
    basis: Float[np.ndarray, "d d"]

    def ask(self, vectors: Float[np.ndarray, "n d"], seeds: Sequence[int], looks: Sequence[int], what: str) -> Answers:
        """What the model says of blend, seed and look, row by row.  Raises LimitReachedError."""
        places = vectors + 0.0  # no -0, which has other bytes
        recipes = [digest(self.key, place.tobytes().hex(), str(one)) for place, one in zip(places, seeds, strict=True)]

        def draw(rows: Sequence[int]) -> Images:
            return self._drawn(vectors[list(rows)] @ self.basis.T, [seeds[at] for at in rows])

        return self.blends.answers(self._looked(self.blends.studio.made(recipes, draw, what), looks), what)

    @cached_property
    def _blend(self) -> Blend:
        return self.blends.opened(self.base, self.prompts)

    def _drawn(self, weights: Float[np.ndarray, "n d"], seeds: Sequence[int]) -> Images:
        """As many threads draw as pipelines can be lent."""
        opened, blends = self._blend, self.blends
        ends = np.linspace(0, len(seeds), min(blends.workers(), len(seeds)) + 1).astype(int).tolist()
        parts = [slice(a, b) for a, b in pairwise(ends)]

        def some(rows: slice) -> Images:
            with blends.errors(), blends.lend() as pipeline:
                return opened.draw(pipeline, weights[rows], seeds[rows])

        with ThreadPoolExecutor(len(parts)) as pool:
            return np.concatenate(list(pool.map(some, parts)))

    def _looked(self, shas: Sequence[str], looks: Sequence[int]) -> list[str]:
        """The pictures under their looks; those from 1 on are kept too, and cost no network rows."""
        studio, found = self.blends.studio, list(shas)
        recipes = {at: digest("look", shas[at], str(look)) for at, look in enumerate(looks) if look}
        known = studio.store.sound(recipes.values())
        for some in batched((at for at, recipe in recipes.items() if recipe not in known), READ):
            images = studio.images([shas[at] for at in some])
            pngs = [
                encode_png(to_uint8(looked(image, looks[at])[None])[0], synthetic=True)
                for at, image in zip(some, images, strict=True)
            ]
            made = {
                recipes[at]: StoredEdit(sha256=studio.store.put(png), origin=NO_ORIGINAL)
                for at, png in zip(some, pngs, strict=True)
            }
            studio.store.add(made)
            known |= made
        for at, recipe in recipes.items():
            found[at] = known[recipe].sha256
        return found


def _read(file: Path) -> tuple[tuple[int, ...], Float[np.ndarray, "d d"]] | None:
    """Concepts and basis as they were when the span was first opened, so that the same place is the same blend on every machine."""
    if not file.is_file():
        return None
    told = json.loads(file.read_text())
    return tuple(told["concepts"]), np.array(told["basis"], np.float64)

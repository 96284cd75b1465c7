"""Pictures of prompts beside the bank's: drawn once per generator, whatever model is asked about them afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit_plugin.bank.edit_store import NO_ORIGINAL, EditStore, StoredEdit
from audit_plugin.bank.shown import batched
from audit_plugin.core.protocols import Images, Progress
from audit_plugin.core.seeds import digest
from audit_plugin.sources.images import encode_png, to_float, to_uint8

Draw = Callable[[Sequence[str], Sequence[int]], Images]
"""One picture per (prompt, seed), equal for equal arguments."""


@dataclass(frozen=True, kw_only=True)
class PromptStudio:
    """Draws what is missing and keeps it; killed, it goes on from the last batch."""

    fingerprint: str
    """Of the generator and its settings."""
    draw: Callable[[], Draw]
    """Made when something must be drawn: loading a generator takes a while."""
    store: EditStore
    batch: int
    progress: Progress
    drawn: list[int] = field(default_factory=lambda: [0])
    """Pictures drawn so far."""
    allow: Callable[[int], None] = lambda _pictures: None
    """Told how many pictures are about to be drawn; raises where a budget does not pay for them."""

    def shas(self, prompts: Sequence[str], seeds: Sequence[int], what: str) -> list[str]:
        """sha256 of the picture of each (prompt, seed)."""
        recipes = [self.recipe(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

        def draw(rows: Sequence[int]) -> Images:
            return self.draw()([prompts[at] for at in rows], [seeds[at] for at in rows])

        return self.made(recipes, draw, what)

    def made(self, recipes: Sequence[str], draw: Callable[[Sequence[int]], Images], what: str) -> list[str]:
        """sha256 of the picture of each recipe; ``draw`` is given the places of those that are missing, a batch of them at a time."""
        known = self.store.sound(recipes)
        todo = [at for at, recipe in _first(recipes).items() if recipe not in known]
        done = 0
        for rows in batched(todo, self.batch):
            self.allow(len(rows))
            known |= self.keep({recipes[at]: picture for at, picture in zip(rows, draw(rows), strict=True)})
            done += len(rows)
            self.progress(done, len(todo), what)
        return [known[recipe].sha256 for recipe in recipes]

    def keep(self, pictures: dict[str, Images]) -> dict[str, StoredEdit]:
        """Commit pictures ``(3, h, w)`` by their recipes."""
        made = {
            recipe: StoredEdit(
                sha256=self.store.put(encode_png(to_uint8(np.nan_to_num(picture)[None])[0], synthetic=True)), origin=NO_ORIGINAL
            )
            for recipe, picture in pictures.items()
        }
        self.store.add(made)
        self.drawn[0] += len(made)
        return made

    def recipe(self, prompt: str, seed: int) -> str:
        """Identity of a picture."""
        return digest("prompt", self.fingerprint, prompt, str(seed))

    def images(self, shas: Sequence[str]) -> Images:
        """Stored pictures, ``(n, 3, h, w)``."""
        return to_float([self.store.pictures.pixels(sha) for sha in shas])


def _first(recipes: Sequence[str]) -> dict[int, str]:
    """Where each recipe stands first."""
    found: dict[str, int] = {}
    for at, recipe in enumerate(recipes):
        found.setdefault(recipe, at)
    return {at: recipe for recipe, at in found.items()}

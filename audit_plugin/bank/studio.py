"""Makes and checks edits of real images: everything about an edit that no audited model has a say in.

An edit is made once per (editor, image, seed, terms) and then only looked up; a batch is committed as a whole, so that a killed run loses
at most the batch in hand.  A picture that was lost since is made again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from audit_plugin.bank.drafts import Draft, Drafting, EditSource, Strength, batches_of, exact
from audit_plugin.bank.edit_store import EditStore, Spent, StoredEdit
from audit_plugin.bank.judging import Judging
from audit_plugin.bank.panel import Hearing, Panel
from audit_plugin.concepts.operators import apply_all
from audit_plugin.core.editing import EditedImages, Editor, Original
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.errors import DamagedPictureError
from audit_plugin.core.protocols import ConceptDetector, Images, Progress
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree
from audit_plugin.perception.edit_checks import dissimilarity, outside_psnr
from audit_plugin.sources.images import Pixels, encode_png, square, to_float, to_uint8

T = TypeVar("T")
_MENDINGS = 3
"""How often damage is repaired before it is told: a disk that goes on losing pictures is not to be worked on."""


@dataclass(frozen=True, kw_only=True)
class Studio:
    """One audit's images, tree, editor and judge."""

    drafting: Drafting
    judging: Judging
    store: EditStore
    detector: ConceptDetector | None
    panel: Panel = field(default_factory=Panel)
    """Who judges beside it."""
    quality: Callable[[Images], Sequence[str]]
    """Why images are no usable pictures."""
    batch: int = 16
    progress: Progress = field(default=lambda *_: None)
    made: list[int] = field(default_factory=lambda: [0])
    """Edits that were made so far, null edits not counted; all others were there."""

    @property
    def tree(self) -> ConceptTree:
        """What may be changed."""
        return self.drafting.tree

    @property
    def key(self) -> str:
        """Digest of the images and of who edits them."""
        return digest("edits", self.drafting.editor_name, *sorted(source.sha256 for source in self.sources.values()))

    @property
    def sources(self) -> Mapping[str, EditSource]:
        """The images, by id."""
        return self.drafting.sources

    @property
    def checks(self) -> dict[str, str]:
        """Check -> who makes it, of edits that are generated; empty where none are."""
        return {} if self.editor is None else self.panel.checks(detector=self.detector is not None)

    @property
    def judges(self) -> dict[str, str]:
        """Judge -> identity; empty where nothing is generated."""
        own = {} if self.detector is None else {"detector": self.detector.fingerprint}
        return {} if self.editor is None else own | self.panel.judges

    @property
    def editor(self) -> Editor | None:
        """Who edits by generating."""
        return self.drafting.editor

    def settled(self, tree: ConceptTree, strengths: Mapping[str, Strength]) -> "Studio":
        """The same with strengths, and with a tree that knows what cannot be edited."""
        return replace(self, drafting=replace(self.drafting, tree=tree, strengths=strengths))

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        """Edits as rows without scores: made where they are missing, checked, with the reasons why one does not count."""
        return self.mended(lambda: self._rows(cells))

    def mended(self, work: Callable[[], T]) -> T:
        """What ``work`` gives; where it meets a damaged picture all damaged ones are dropped, and it begins anew and makes them again.

        ``work`` asks for the rows itself, since a picture that is made again may have other bytes.  Raises DamagedPictureError when the
        damage does not end.
        """
        for _ in range(_MENDINGS):
            try:
                return work()
            except DamagedPictureError:
                if not self.store.mend(self.progress):
                    raise
        return work()

    def _rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        drafts = [self.drafting.draft(cell) for cell in cells]
        self._complete_nulls(drafts)
        nulls = self.store.known(draft.null for draft in drafts)
        hearing = Hearing(store=self.store, detector=self.detector, panel=self.panel)
        asked = [draft for draft in drafts if self.drafting.generative(draft.cell)]
        read = hearing.readings(self._questions(asked, nulls, [draft.null for draft in asked]))
        drafts = [self.drafting.decided(draft, read.get(nulls[draft.null].sha256, {})) for draft in drafts]
        self._complete(drafts, nulls)
        made = self.store.known(draft.recipe for draft in drafts if draft.recipe)
        generated = [draft for draft in drafts if draft.recipe and draft.generated]
        recipes = [draft.recipe for draft in generated]
        made = hearing.measured(made, set(recipes))
        read |= hearing.readings(self._questions(generated, made, recipes))
        return [
            self.judging.row(draft, self.drafting.operator(draft.cell), (nulls[draft.null], made.get(draft.recipe)), read)
            for draft in drafts
        ]

    def _complete_nulls(self, drafts: Sequence[Draft]) -> None:
        """Make the null edits that are missing; those of exact operators are the images themselves."""
        wanted = {draft.null: draft for draft in drafts}
        known = self.store.sound(wanted)
        todo = sorted((draft for recipe, draft in wanted.items() if recipe not in known), key=lambda draft: draft.cell)
        for generative in (False, True):
            group = [draft for draft in todo if self.drafting.generative(draft.cell) is generative]
            for some in _batches(group, self.batch):
                if generative:
                    images = self._edited(some, null=True).images
                    pictures, faults = list(_finite(images)), self.quality(images)
                else:
                    pictures, faults = [self.sources[draft.cell.image].load() for draft in some], [""] * len(some)
                self.store.add(
                    {
                        draft.null: StoredEdit(
                            sha256=self.store.put(encode_png(picture, synthetic=generative)),
                            quality=fault,
                            origin=self.sources[draft.cell.image].sha256,
                        )
                        for draft, picture, fault in zip(some, pictures, faults, strict=True)
                    }
                )

    def _complete(self, drafts: Sequence[Draft], nulls: Mapping[str, StoredEdit]) -> None:
        """Make the edits that are missing."""
        wanted = {draft.recipe: draft for draft in drafts if draft.recipe}
        known, done = self.store.sound(wanted), 0
        stale = {recipe for recipe, edit in known.items() if edit.against not in {"", nulls[wanted[recipe].null].sha256}}
        self.store.drop(stale)  # their null edit was lost, and has other bytes since
        todo = [draft for recipe, draft in wanted.items() if recipe not in known or recipe in stale]
        for some in batches_of(todo, self.batch):
            self.store.add(self._made(some, [nulls[draft.null].sha256 for draft in some]))
            done += len(some)
            self.made[0] += len(some)
            self.progress(done, len(todo), "edits")

    def _made(self, drafts: Sequence[Draft], shas: Sequence[str]) -> dict[str, StoredEdit]:
        """A batch of edits, measured against their null edits, whose pictures are given, and stored."""
        masks, faults = None, [""] * len(drafts)
        nulls = [self.store.pictures.pixels(sha) for sha in shas]
        pictures = list(nulls)
        if drafts[0].generated:
            edited = self._edited(drafts)
            pictures, faults = list(_finite(edited.images)), list(self.quality(edited.images))
            masks = edited.masks
        stored = {}
        for at, (draft, null) in enumerate(zip(drafts, nulls, strict=True)):
            picture = apply_all(draft.operated, pictures[at], self.drafting.seed(draft.cell)) if draft.operated else pictures[at]
            before, after = to_float([null]), to_float([picture])
            mask = None if masks is None or draft.operated else masks[at : at + 1]
            stored[draft.recipe] = StoredEdit(
                sha256=self.store.put(encode_png(picture, synthetic=True)),
                outside_psnr=None if mask is None else outside_psnr(before, after, mask)[0],
                mask_area=None if mask is None else round(float((mask > 0).mean()), 4),
                distance=round(float(dissimilarity(before, after)[0]), 5) if before.shape == after.shape else None,
                quality=faults[at] or self.quality(after)[0],
                against=shas[at],
                origin=self.sources[draft.cell.image].sha256,
            )
        return stored

    def _edited(self, drafts: Sequence[Draft], *, null: bool = False) -> EditedImages:
        """Through the editor; with ``null`` nothing is asked for."""
        editor, drafting = self.editor, self.drafting
        if editor is None:
            raise ValueError("nobody is there to edit")
        sources = [self.sources[draft.cell.image] for draft in drafts]
        pixels = [source.load() if drafting.size is None else square(source.load(), drafting.size) for source in sources]
        originals = [
            Original(
                image=source.image, sha256=source.sha256, seed=drafting.seed(draft.cell), caption=drafting.asking.caption(source)
            )
            for source, draft in zip(sources, drafts, strict=True)
        ]
        started, rows = time.monotonic(), editor.rows_spent()
        if null:
            made = EditedImages(editor.null(originals, to_float(pixels)))
        else:
            made = editor.edit(originals, to_float(pixels), [draft.generated for draft in drafts])
        took = Spent(pictures=len(drafts), network_rows=editor.rows_spent() - rows, seconds=time.monotonic() - started)
        self.store.add_spent(drafting.operator(drafts[0].cell), took)
        return made

    def _questions(
        self, drafts: Sequence[Draft], pictures: Mapping[str, StoredEdit], recipes: Sequence[str]
    ) -> dict[str, set[str]]:
        """sha256 of the drafts' pictures -> questions of their nodes."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for draft, recipe in zip(drafts, recipes, strict=True):
            nodes = [] if draft.cell.placebo else [self.tree.node(path) for path in draft.cell.nodes]
            wanted[pictures[recipe].sha256] |= {node.question for node in nodes if node.question and not exact(node)}
        return wanted


def _finite(images: Images) -> Pixels:
    """8-bit pictures ``(n, h, w, 3)`` of whatever an editor made; that numbers ran over is noted by the quality filter."""
    return to_uint8(np.nan_to_num(images, nan=0, posinf=1, neginf=0))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

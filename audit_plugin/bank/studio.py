"""Makes and checks edits of real images: everything about an edit that no audited model has a say in.

An edit is made once per (editor, image, seed, terms) and then only looked up; a batch is committed as a whole, so that a killed run loses
at most the batch in hand.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from audit_plugin.bank.drafts import Draft, Drafting, EditSource, Strength, batches_of
from audit_plugin.bank.edit_store import EditStore, Reading, StoredEdit
from audit_plugin.bank.judging import Judging
from audit_plugin.concepts.operators import apply_all
from audit_plugin.core.editing import EditedImages, Editor, Original
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.protocols import ConceptDetector, Images, Progress
from audit_plugin.core.tree import ConceptTree
from audit_plugin.perception.edit_checks import dissimilarity, outside_psnr
from audit_plugin.sources.images import Pixels, encode_png, square, to_float, to_uint8

T = TypeVar("T")
_READ = 64
"""Pictures that the detector reads at once."""


@dataclass(frozen=True, kw_only=True)
class Studio:
    """One audit's images, tree, editor and judge."""

    drafting: Drafting
    judging: Judging
    store: EditStore
    detector: ConceptDetector | None
    quality: Callable[[Images], Sequence[str]]
    """Why images are no usable pictures."""
    batch: int = 16
    progress: Progress = field(default=lambda *_: None)

    @property
    def tree(self) -> ConceptTree:
        """What may be changed."""
        return self.drafting.tree

    @property
    def sources(self) -> Mapping[str, EditSource]:
        """The images, by id."""
        return self.drafting.sources

    @property
    def editor(self) -> Editor | None:
        """Who edits by generating."""
        return self.drafting.editor

    def settled(self, tree: ConceptTree, strengths: Mapping[str, Strength]) -> "Studio":
        """The same with strengths, and with a tree that knows what cannot be edited."""
        return replace(self, drafting=replace(self.drafting, tree=tree, strengths=strengths))

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        """Edits as rows without scores: made where they are missing, checked, with the reasons why one does not count."""
        drafts = [self.drafting.draft(cell) for cell in cells]
        self._complete_nulls(drafts)
        nulls = self.store.known(draft.null for draft in drafts)
        read = self._readings({nulls[draft.null].sha256 for draft in drafts if self.drafting.generative(draft.cell)})
        drafts = [self.drafting.decided(draft, read.get(nulls[draft.null].sha256, {})) for draft in drafts]
        self._complete(drafts, nulls)
        made = self.store.known(draft.recipe for draft in drafts if draft.recipe)
        read |= self._readings({made[draft.recipe].sha256 for draft in drafts if draft.recipe and draft.generated})
        return [
            self.judging.row(draft, self.drafting.operator(draft.cell), (nulls[draft.null], made.get(draft.recipe)), read)
            for draft in drafts
        ]

    def _complete_nulls(self, drafts: Sequence[Draft]) -> None:
        """Make the null edits that are missing; those of exact operators are the images themselves."""
        wanted = {draft.null: draft for draft in drafts}
        known = self.store.known(wanted)
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
                        draft.null: StoredEdit(sha256=self.store.put(encode_png(picture, synthetic=generative)), quality=fault)
                        for draft, picture, fault in zip(some, pictures, faults, strict=True)
                    }
                )

    def _complete(self, drafts: Sequence[Draft], nulls: Mapping[str, StoredEdit]) -> None:
        """Make the edits that are missing."""
        wanted = {draft.recipe: draft for draft in drafts if draft.recipe}
        known, done = self.store.known(wanted), 0
        todo = [draft for recipe, draft in wanted.items() if recipe not in known]
        for some in batches_of(todo, self.batch):
            self.store.add(self._made(some, [self.store.pictures.pixels(nulls[draft.null].sha256) for draft in some]))
            done += len(some)
            self.progress(done, len(todo), "edits")

    def _made(self, drafts: Sequence[Draft], nulls: Sequence[Pixels]) -> dict[str, StoredEdit]:
        """A batch of edits, measured against their null edits and stored."""
        masks, faults = None, [""] * len(drafts)
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
        if null:
            return EditedImages(editor.null(originals, to_float(pixels)))
        return editor.edit(originals, to_float(pixels), [draft.generated for draft in drafts])

    def _readings(self, shas: set[str]) -> dict[str, Reading]:
        """What the detector sees in these pictures, each read once."""
        if self.detector is None:
            return {}
        found = dict(self.store.readings(self.detector.fingerprint, shas))
        sizes: dict[tuple[int, ...], list[tuple[str, Pixels]]] = defaultdict(list)
        for sha in sorted(shas - found.keys()):
            pixels = self.store.pictures.pixels(sha)
            sizes[pixels.shape].append((sha, pixels))
        for pictures in sizes.values():
            for some in _batches(pictures, _READ):
                answers = self.detector.read(to_float([pixels for _, pixels in some]))
                new: dict[str, Reading] = {
                    sha: {name: [round(float(p), 6) for p in levels[at]] for name, levels in answers.items()}
                    for at, (sha, _) in enumerate(some)
                }
                self.store.add_readings(self.detector.fingerprint, new)
                found |= new
        return found


def _finite(images: Images) -> Pixels:
    """8-bit pictures ``(n, h, w, 3)`` of whatever an editor made; that numbers ran over is noted by the quality filter."""
    return to_uint8(np.nan_to_num(images, nan=0, posinf=1, neginf=0))


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

"""What edits would take that the bank has not: counted by their recipes, without making one or loading who makes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audit_plugin.bank.drafts import Draft, Drafting
from audit_plugin.bank.edit_store import EditStore
from audit_plugin.bank.pilot import trials
from audit_plugin.core.edits import EditCell
from audit_plugin.sources.images import encode_png, square

_MEASURED = 8
"""Images whose size as PNG stands for that of all."""
_LINES_BYTES = 600
"""Of a picture in the bank's table."""


@dataclass(frozen=True, kw_only=True)
class EditCost:
    """What is missing, at most."""

    edits: int = 0
    """Null edits, placebos and the pilot's among them."""
    reuse: int = 0
    """Those that the bank has."""
    network_rows: int = 0
    bytes: int = 0
    """Of pictures and table."""
    seconds: float | None = 0.0
    """Of the network; None where no rate was measured on this bank yet."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Edits that may be asked for, of which so many are made at most."""

    cells: tuple[EditCell, ...]
    at_most: int


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """What is known without making anything."""

    drafting: Drafting
    store: EditStore
    detector: str
    """Fingerprint of the judge, where it alone decides which images are ambiguous; else empty."""
    rows: Callable[[int], tuple[int, int]]
    """Network rows of a null edit, and of an edit of so many nodes, at most."""
    piloted: bool
    """Whether strengths are known: without them no edit by prompt is."""

    def cost(
        self, wanted: Sequence[Wanted], *, further: int, terms: int, pilot: Sequence[str], scales: Sequence[float]
    ) -> EditCost:
        """Of the edits wanted, ``further`` ones of up to ``terms`` nodes, and a pilot on these images where there was none."""
        nulls, null_reuse = self._nulls([cell for some in wanted for cell in some.cells])
        edits = generated = 0
        reuse = null_reuse
        for some in wanted:
            missing, there = self._missing(some.cells)
            count = min(len(missing), some.at_most)
            edits += count
            reuse += there
            generated += min(count, sum(self.drafting.generative(cell) for cell in missing))
        tried = 0 if self.piloted else self._pilot(pilot, scales)
        null_rows, edit_rows = self.rows(1)
        generative = any(self.drafting.generative(cell) for some in wanted for cell in some.cells)
        rows = sum(map(self.drafting.generative, nulls)) * null_rows + (generated + tried) * edit_rows
        rows += further * self.rows(terms)[1] if generative else 0
        made = len(nulls) + edits + tried + further
        return EditCost(
            edits=made,
            reuse=reuse,
            network_rows=rows,
            bytes=made * self._picture_bytes() if made else 0,
            seconds=self._seconds(rows),
        )

    def _nulls(self, cells: Sequence[EditCell]) -> tuple[list[EditCell], int]:
        """One cell for each null edit that is missing, and how many are there."""
        firsts = {self.drafting.draft(cell).null: cell for cell in cells}
        known = self.store.known(firsts)
        return [cell for recipe, cell in firsts.items() if recipe not in known], len(known)

    def _missing(self, cells: Sequence[EditCell]) -> tuple[list[EditCell], int]:
        """Cells whose edit is not there, and how many are; those that are known to be ambiguous or untestable are neither."""
        drafts = [self.drafting.draft(cell) for cell in cells]
        nulls = self.store.known(draft.null for draft in drafts)
        read = self.store.readings(self.detector, {edit.sha256 for edit in nulls.values()})
        ways = {draft.cell: self.drafting.possible(draft) for draft in drafts}
        made = self.store.known(one.recipe for some in ways.values() for one in some if self._settled(one))
        there = {cell for cell, some in ways.items() if any(one.recipe in made and self._settled(one) for one in some)}
        missing = [draft.cell for draft in drafts if ways[draft.cell] and draft.cell not in there]
        given = {
            draft.cell: read[nulls[draft.null].sha256]
            for draft in drafts
            if draft.null in nulls and read.get(nulls[draft.null].sha256)
        }
        ambiguous = {
            draft.cell for draft in drafts if draft.cell in given and self.drafting.decided(draft, given[draft.cell]).reasons
        }
        return [cell for cell in missing if cell not in ambiguous], len(there)

    def _settled(self, draft: Draft) -> bool:
        """Whether its recipe is the one that an audit will have."""
        return bool(draft.recipe) and (self.piloted or draft.cell.placebo or not draft.generated)

    def _pilot(self, images: Sequence[str], scales: Sequence[float]) -> int:
        """Trials of all nodes, as if every strength had to be tried."""
        nodes = [node for node in self.drafting.tree.editable if not self.drafting.refusal(node)]
        return sum(len(images) * len(trials(node, scales, self.drafting.asking)) for node in nodes)

    def _picture_bytes(self) -> int:
        """Mean size of some images as they would be stored."""
        pixels = [source.load() for source in list(self.drafting.sources.values())[:_MEASURED]]
        if self.drafting.size is not None:
            pixels = [square(one, self.drafting.size) for one in pixels]
        return int(np.mean([len(encode_png(one, synthetic=True)) for one in pixels])) + _LINES_BYTES

    def _seconds(self, rows: int) -> float | None:
        if not rows:
            return 0.0
        editor = self.drafting.editor
        spent = self.store.spent("" if editor is None else self.drafting.editor_name)
        return rows * spent.seconds / spent.network_rows if spent.network_rows else None

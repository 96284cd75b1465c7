"""Rows of one run: asked for once, marked with the split of their image, and stopped where a limit says so.

Whoever makes edits knows nothing of splits.  A row's split is that of its image, set here and nowhere else, so that a row of a SELECT
image can never be taken for one of an ESTIMATE image.  The same rows serve every class: they hold the scores of all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.edits import EditArms, EditCell, EditRow, Split
from audit_plugin.core.protocols import Progress
from audit_plugin.methods.diffex.effects import UNTESTABLE, Nodes, RowTable

Limit = Callable[[], str]
"""Why the run must stop now; empty: it need not."""
Sink = Callable[[Sequence[EditRow]], None]
"""Keeps rows as they are made, split and all."""


class Ledger:
    """Every row that was asked for so far."""

    def __init__(
        self,
        arms: EditArms,
        splits: Mapping[str, Split],
        kind: ScoreKind,
        *,
        limits: Sequence[Limit] = (),
        sink: Sink = lambda _: None,
        progress: Progress | None = None,
        chunk: int = 64,
        affordable: Callable[[int], int] = lambda wanted: wanted,
    ) -> None:
        """``affordable`` says how many of so many edits the limits still pay for."""
        self.arms, self.splits, self.kind = arms, splits, kind
        self.limits, self.sink, self.progress, self.chunk, self.affordable = limits, sink, progress, chunk, affordable
        self.known: dict[EditCell, EditRow] = {}
        self.stopped = ""
        """Why no more rows are made; empty: they are."""

    def halted(self) -> bool:
        """Whether a limit was reached; it stays so."""
        if not self.stopped:
            self.stopped = next((why for limit in self.limits if (why := limit())), "")
        return bool(self.stopped)

    def complete(self, cells: Iterable[EditCell], what: str) -> None:
        """Ask for the cells that are not there yet, image by image, until a limit is reached."""
        todo = [cell for cell in dict.fromkeys(cells) if cell not in self.known]
        start = 0
        while start < len(todo) and not self.halted():
            count = self.affordable(min(self.chunk, len(todo) - start))
            some = todo[start : start + max(1, count)]
            rows = [replace(row, split=self.splits[row.cell.image]) for row in self.arms.rows(some)]
            if [row.cell for row in rows] != some:
                raise ValueError(
                    f"{len(some)} edits were asked for, but the rows that came back are of others; make one per cell, in order"
                )
            self.known.update(zip(some, rows, strict=True))
            self.sink(rows)
            start += len(some)
            if self.progress is not None:
                self.progress(start, len(todo), what)

    def rows(self, cells: Iterable[EditCell]) -> tuple[EditRow, ...]:
        """Those of the cells that are there."""
        return tuple(self.known[cell] for cell in cells if cell in self.known)

    def of(self, split: Split) -> tuple[EditRow, ...]:
        """All rows of one split."""
        return tuple(row for row in self.known.values() if row.split is split)

    def refusal(self, path: str, image: str) -> str:
        """Why a node cannot be tested on any image, as its row on this one says; empty where it can."""
        row = self.known.get(EditCell(image=image, nodes=(path,)))
        reasons = () if row is None else row.reasons
        return next((reason.partition(":")[2].strip() or reason for reason in reasons if reason.startswith(UNTESTABLE)), "")

    def matrix(self, sets: Sequence[Nodes], images: Sequence[str], column: int) -> Float[np.ndarray, "K n"]:
        """Effects of sets of nodes on one class; nan where there is none."""
        cells = [EditCell(image=image, nodes=nodes) for image in images for nodes in sets]
        inside = set(images)
        placebos = tuple(row for cell, row in self.known.items() if cell.placebo and cell.image in inside)
        table = RowTable(rows=(*self.rows(cells), *placebos), kind=self.kind)
        missing = np.full(len(images), np.nan)
        found = [table.effects(nodes) for nodes in sets]
        return np.stack([missing if one is None else one.over(images, column) for one in found])

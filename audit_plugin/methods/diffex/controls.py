"""Classifiers whose dependence is known because it is made, on the edits that an audit of a concept tree has made.

A control answers to a picture's null edit with log-odds of the image's own, lower where the planted node is absent than where it is there, and to an
edit with the same plus noise, plus what is planted where the edit added that node (minus it where it was removed).  Search, estimates and verdicts are those of the audit; no edit is made for it, so one that the
audit did not need counts as one that could not be made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.diffex_results import DiffexResult, ScoreKind
from audit_plugin.core.edits import Direction, EditCell, EditRow, Split
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.tree import ConceptTree
from audit_plugin.methods.diffex.audit import run_diffex
from audit_plugin.methods.diffex.combine import CombineOptions
from audit_plugin.methods.diffex.options import DiffexOptions

SHIFT = 3.0
"""Log-odds of the presence of the planted node."""
NOISE = 0.15
"""Standard deviation of what an edit does by itself, log-odds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedArms:
    """Edits as they were made, with a control's answers.  Implements :class:`audit_plugin.core.edits.EditArms`."""

    recorded: Mapping[EditCell, EditRow]
    node: str
    """What is planted; nothing when empty."""
    there: Mapping[str, int]
    """Image -> 1 where the planted node is there, -1 where it is not, as its edits took it."""
    column: int
    """Of the class that the control answers about."""
    classes: int
    kind: ScoreKind

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        """One row per cell, in order."""
        return [self._answered(self.recorded[cell]) if cell in self.recorded else _not_made(cell) for cell in cells]

    def _answered(self, row: EditRow) -> EditRow:
        if not row.scored:
            return row
        cell = row.cell
        planted = 0.0 if cell.placebo else SHIFT * cell.strength * sum(
            sign for path, sign in zip(cell.nodes, row.signs, strict=True) if path == self.node
        )  # fmt: skip
        before = _normal("image", cell.image) + SHIFT / 2 * self.there.get(cell.image, 0)
        after = before + planted + NOISE * _normal("edit", cell.image, str(cell.seed), *cell.nodes)
        return replace(
            row,
            before=self._says(before),
            after=self._says(after),
            original=self._says(before) if row.original else (),
        )

    def _says(self, log_odds: float) -> tuple[float, ...]:
        """Scores of the kind that the audited model answers with; all other classes share what is left."""
        own = np.arange(self.classes) == self.column
        if self.kind is ScoreKind.SIGMOID:
            return tuple((1 / (1 + np.exp(-np.where(own, log_odds, 0.0)))).tolist())
        if self.kind is ScoreKind.LABELS:
            return tuple(np.where(own, log_odds, 0.0).tolist())
        logits = np.where(own, log_odds + np.log(max(1, self.classes - 1)), 0.0)
        if self.kind is ScoreKind.LOGITS:
            return tuple(logits.tolist())
        powers = np.exp(logits - logits.max())
        return tuple((powers / powers.sum()).tolist())


def control_effects(
    rows: Sequence[EditRow],
    node: str,
    class_name: str,
    *,
    tree: ConceptTree,
    images: Sequence[str],
    labels: Sequence[str],
    classes_of: Mapping[str, str],
    options: DiffexOptions,
    seed: int,
) -> DiffexResult:
    """What the audit that left these rows says of a control, for one class, with fewer resamples and without what goes beyond single nodes."""
    arms = RecordedArms(
        recorded={row.cell: row for row in rows},
        node=node,
        there={row.cell.image: -row.signs[0] for row in rows if row.cell.nodes == (node,) and not row.cell.placebo},
        column=list(labels).index(class_name),
        classes=len(labels),
        kind=options.score,
    )
    return run_diffex(arms, tree, images, [class_name], labels=labels, classes_of=classes_of, options=bare(options), seed=seed)


def bare(options: DiffexOptions) -> DiffexOptions:
    """With fewer resamples, and without what goes beyond single nodes: how known classifiers are judged beside an audit."""
    estimate = options.estimate
    return replace(
        options,
        seeds=1,
        seed_pilot=0,
        combine=CombineOptions(terms=0),
        estimate=replace(estimate, draws=min(estimate.draws, 500), flips=min(estimate.flips, 999)),
        sample_eliminated=0.0,
        dose_nodes=0,
        hit_nodes=0,
        agreement_images=0,
    )


def _not_made(cell: EditCell) -> EditRow:
    return EditRow(
        cell=cell,
        split=Split.SELECT,
        direction=Direction.PLACEBO if cell.placebo else Direction.ADD,
        signs=(1,) * len(cell.nodes),
        operator="",
        valid=False,
        reasons=("ambiguous",),
    )


def _normal(*names: str) -> float:
    """One standard normal number, of its names."""
    return float(np.random.default_rng(seed_of("tree control", "\x1f".join(names))).normal())

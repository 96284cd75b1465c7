"""All flips of concepts of an audit, from the bank and the stored answers; nothing is asked of any server."""

from collections.abc import Iterator

import numpy as np

from audit_plugin.bank.table import BankTable
from audit_plugin.comparing.pairing import pair
from audit_plugin.core.protocols import ScoreTable
from audit_plugin.core.results import AuditResult
from audit_plugin.methods.depict.assemble import FlipArrays
from audit_plugin.methods.depict.study import Study
from audit_plugin.samples.sample import Kind, Sample

_RESAMPLES = 2
"""The study is wanted for its arrays, not for intervals."""


def concept_flips(result: AuditResult, table: BankTable, scores: ScoreTable) -> tuple[Sample, ...]:
    """Row by row, concept by concept, level by level.  Raises ``NotPairedError`` where bank or answers are no longer the run's."""
    study = pair(result, result, table, scores, resamples=_RESAMPLES, seed="samples").new
    return tuple(
        sample
        for at in range(len(table.rows))
        for flip in study.arrays.flips.values()
        for level in range(len(flip.concept.levels))
        if (sample := _sample(study, table, flip, (at, level))) is not None
    )


def _sample(study: Study, table: BankTable, flip: FlipArrays, cell: tuple[int, int]) -> Sample | None:
    """One cell of (row, level); None for the row's own level, and for levels that were not drawn by plan."""
    at, level = cell
    own, levels = int(flip.own[at]), flip.concept.levels
    after = str(table.flips[flip.concept.name][level, at])
    if level == own or not after:
        return None
    before = str(table.baseline[at])
    reasons = tuple(_reasons(table, before, after, flip, (at, level)))
    said = (study.arrays.baseline[at], flip.scores[at, level])
    decided = [study.arrays.classes[int(study.decide(one))] if np.isfinite(one).all() else "" for one in said]
    column = 1 if study.binary else int(study.arrays.labels[at])
    scores = [float(one[column]) if np.isfinite(one).all() else None for one in said]
    return Sample(
        kind=Kind.CONCEPT,
        image=study.arrays.rows[at],
        subject=flip.concept.name,
        change=f"{levels[own]} → {levels[level]}",
        before_sha256=before,
        after_sha256=after,
        of=study.arrays.classes[column],
        before=scores[0],
        after=scores[1],
        decision_before=decided[0],
        decision_after=decided[1],
        flipped=decided[0] != decided[1] if all(decided) else None,
        why_not=reasons,
    )


def _reasons(table: BankTable, before: str, after: str, flip: FlipArrays, cell: tuple[int, int]) -> Iterator[str]:
    at, level = cell
    for which, sha in (("before", before), ("after", after)):
        if why := table.rejected.get(sha):
            yield f"the picture {which} was refused: {why}"
    if not flip.usable[at] and not (table.rejected.keys() & {before, after}):
        yield "another picture of this row and concept was refused, so that the row is left out"
    elif flip.usable[at] and not flip.drawn[at, level]:
        yield "not among the levels that the plan asks for"

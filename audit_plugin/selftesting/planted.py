"""One repeat: other rows, flips without the model's own reliance, a known effect in every answer, and the real audit with the user's policy.

*Severed* flips answer as the row's baseline does, changed as a meaningless change of the caption changes the answers of another row.  So the model's own
reliance on the concept is gone, whatever it is, and what remains is the noise that its answers have under this generator: a finding is then false, or is of
what was put in.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.table import BankTable
from audit_plugin.controls import ADJUSTED_RESAMPLES, RESAMPLES, judged_like
from audit_plugin.core.diffex_results import DiffexResult
from audit_plugin.core.errors import BankError, TableError
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.selftest_results import Part
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import Policy
from audit_plugin.findings.semantic import KIND as SEMANTIC
from audit_plugin.methods.depict import DepictOptions, audit
from audit_plugin.selftesting.bench import Bench, Ints, drawn
from audit_plugin.selftesting.edits import EditBench
from audit_plugin.selftesting.wrapper import Array


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One audit that is to be judged."""

    concept: str
    """Where the effect is put in; empty where there is none and all concepts are severed."""
    size: float
    repeat: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What it found of the concepts that were severed."""

    cell: Cell
    found: Mapping[str, tuple[Part, ...]]
    broken: bool = False
    """Whether the audit did not work by its own gates, or could not be made of these rows."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedAudits:
    """Makes outcomes of one model's pictures; pure but for the clock."""

    bench: Bench
    audited: AuditResult
    """Lends provenance and label."""
    policy: Policy
    options: DepictOptions
    classes: Sequence[str]
    """As the model has them."""
    positive: str | None
    detector_auroc: Mapping[str, float]
    edits: EditBench | None = None
    """Of the concept tree, where the audit has one."""

    def outcome(self, cell: Cell) -> Outcome:
        """The same cell gives the same outcome; repeats of the same number have the same rows, whatever is put in."""
        started = time.monotonic()
        severed = (cell.concept,) if cell.concept else tuple(self.bench.shows)
        told = self._judged(cell, severed)
        found = {} if told is None or told.state.broken else {name: self._parts(told, name) for name in severed}
        return Outcome(
            cell=cell,
            found={name: parts for name, parts in found.items() if parts},
            broken=told is None or told.state.broken,
            seconds=round(time.monotonic() - started, 3),
        )

    def _judged(self, cell: Cell, severed: Sequence[str]) -> AuditResult | None:
        seed = f"{self.audited.provenance.seed}/{self.audited.model}/selftest"
        table, at = drawn(self.bench.table, np.random.default_rng(seed_of(seed, "rows", cell.repeat)))
        shift = cell.size * self.bench.shows[cell.concept] if cell.concept else np.zeros(len(self.bench.log_odds))
        scores = dict(self.bench.names)
        moved = np.flatnonzero(shift)
        scores |= dict(
            zip(map(str, moved.tolist()), self.bench.answers.at(moved, (self.bench.log_odds + shift)[moved]), strict=True)
        )
        for name in severed:
            rng = np.random.default_rng(seed_of(seed, f"noise {name}", cell.repeat))
            table, more = _severed(self.bench, table, name, at=at, shift=shift, rng=rng)
            scores |= more
        try:
            report = audit(
                table,
                scores,
                label=self.audited.label,
                classes=self.classes,
                seed=f"{seed}/{cell.repeat}",
                positive=self.positive,
                detector_auroc=self.detector_auroc,
                options=reduced(self.options),
            )
        except (TableError, BankError):  # e.g. rows of one class alone: an audit of them would find nothing either
            return None
        return conclude(judged_like(self.audited, report, self._told_by_edits(cell, severed)), self.policy)

    def _told_by_edits(self, cell: Cell, severed: Sequence[str]) -> DiffexResult | None:
        if self.edits is None or not any(name in self.edits.nodes for name in severed):
            return None
        return self.edits.told(severed, cell.concept, cell.size, cell.repeat)

    def _parts(self, judged: AuditResult, concept: str) -> tuple[Part, ...]:
        """What speaks of the concept."""
        nodes = {} if self.edits is None else self.edits.nodes.get(concept, {})
        about = {concept, *nodes}
        told = {part for one in judged.findings if one.concept in about and (part := _part(one)) is not None}
        result = next((one for one in judged.concepts if one.concept == concept), None)
        if result is not None and result.flip_rate_excess.low > 0:
            told.add(Part.SEEN)
        return tuple(part for part in Part if part in told)


def reduced(options: DepictOptions) -> DepictOptions:
    """As the audit's own controls are judged: fewer resamples, no pictures for the report."""
    return replace(
        options,
        resamples=min(options.resamples, RESAMPLES),
        adjusted_resamples=min(options.adjusted_resamples, ADJUSTED_RESAMPLES),
        random_pairs=0,
        extreme_pairs=0,
    )


def _severed(
    bench: Bench, table: BankTable, concept: str, *, at: Ints, shift: Array, rng: np.random.Generator
) -> tuple[BankTable, dict[str, NDArray[np.float64]]]:
    """The table with flips of the concept under names of their own, and their answers."""
    flips = table.flips[concept].copy()
    own = table.values[:, table.index(concept)]
    away = (np.arange(len(flips))[:, None] != own[None, :]) & table.usable(flips) & table.usable(table.baseline)[None, :]
    level, row = np.nonzero(away)
    old = flips[level, row]
    pictures, base = old.astype(np.int64), table.baseline[row].astype(np.int64)
    noise = bench.placebo[at][np.isfinite(bench.placebo[at])]
    beside = rng.choice(noise, size=len(row)) if len(noise) else np.zeros(len(row))
    answers = bench.answers.at(base, bench.log_odds[base] + beside + shift[pictures])
    place = table.index(concept)
    names = [f"{place}.{k}.{n}" for k, n in zip(level.tolist(), row.tolist(), strict=True)]
    flips[level, row] = names
    readings = {new: table.readings[was] for new, was in zip(names, old.tolist(), strict=True) if was in table.readings}
    changed = replace(table, flips={**table.flips, concept: flips}, readings={**table.readings, **readings})
    return changed, dict(zip(names, answers, strict=True))


def _part(finding: Finding) -> Part | None:
    """None for differences that are in the data, whatever the model does with a concept."""
    if finding.kind == SEMANTIC:
        return Part.NODE
    if finding.metric.startswith("observational_"):
        return None
    by_flips = finding.kind == "fairness" or finding.metric == "flip_rate_excess"
    return Part.FLIPS if by_flips else Part.IMPORTANCE if finding.kind == "reliance" else None

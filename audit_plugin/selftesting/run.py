"""All repeats of one self-test: which audits are wanted, who makes them, and what they amount to."""

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol

from audit_plugin.core.protocols import Progress
from audit_plugin.core.selftest_results import Part, SelfTest
from audit_plugin.core.values import Concept, Role
from audit_plugin.findings.policy import LEAST_IMAGES, Threshold
from audit_plugin.findings.semantic import covers_path
from audit_plugin.selftesting.curve import any_finding, concept_test
from audit_plugin.selftesting.edits import EditBench
from audit_plugin.selftesting.judged import judged_digest
from audit_plugin.selftesting.kept import KeptOutcomes
from audit_plugin.selftesting.planted import Cell, Outcome, PlantedAudits
from audit_plugin.selftesting.wrapper import EPSILON
from audit_plugin.store.scores import target_of

SIZES = (0.0, 0.3, 1.0, 3.0)
"""None, small, medium and large, in log-odds."""
RUNS = 50


class Audits(Protocol):
    """Judges one cell; travels to other processes."""

    def outcome(self, cell: Cell) -> Outcome:
        """The same cell, the same outcome."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is tried."""

    concepts: tuple[str, ...]
    sizes: tuple[float, ...] = SIZES
    runs: int = RUNS

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Repeat by repeat, so that whatever is there when it is stopped says something of every size; one audit without effect for all concepts."""
        effects = [(concept, size) for size in self.sizes if size for concept in self.concepts]
        every = [*([("", 0.0)] if 0.0 in self.sizes else []), *effects]
        return tuple(Cell(concept=concept, size=size, repeat=repeat) for repeat in range(self.runs) for concept, size in every)


def run_cells(
    audits: Audits, cells: Sequence[Cell], kept: KeptOutcomes, *, workers: int, progress: Progress
) -> tuple[Outcome, ...]:
    """Every outcome in the order of ``cells``; what is kept is not made again."""
    kept.begin()
    known = dict(kept.known())
    todo, what = [cell for cell in cells if cell not in known], "self-test"
    progress(len(cells) - len(todo), len(cells), what)
    for done, outcome in enumerate(_made(audits, todo, workers), 1):
        kept.add(outcome)
        known[outcome.cell] = outcome
        progress(len(cells) - len(todo) + done, len(cells), what)
    return tuple(known[cell] for cell in cells)


def _made(audits: Audits, cells: Sequence[Cell], workers: int) -> Iterator[Outcome]:
    if workers < 2 or len(cells) < 2:
        yield from map(audits.outcome, cells)
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # one process a core leaves none for further threads
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (audits,)) as pool:
            try:
                yield from (done.result() for done in as_completed([pool.submit(_outcome, cell) for cell in cells]))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


_HERE: list[Audits] = []
"""Of a worker process: what it judges with."""


def _begin(audits: Audits) -> None:
    _HERE[:] = [audits]


def _outcome(cell: Cell) -> Outcome:
    return _HERE[0].outcome(cell)


def concluded(audits: PlantedAudits, wanted: Wanted, outcomes: Sequence[Outcome], *, class_name: str) -> SelfTest:
    """What all outcomes together say."""
    audited, bench = audits.audited, audits.bench
    none = [one for one in outcomes if not one.cell.concept and not one.broken]
    parts = {one.name: _parts_of(audits, one) for one in bench.table.concepts if one.name in wanted.concepts}
    tested = tuple(
        concept_test(concept, bench.levels[concept.name], outcomes, parts[concept.name], accusable=Part.ANY in parts[concept.name])
        for concept in bench.table.concepts
        if concept.name in parts
    )
    origin = audited.provenance
    return SelfTest(
        model=audited.model,
        version=audited.version,
        target=target_of(audited),
        label=audited.label,
        class_name=class_name,
        bank_digest=origin.bank_digest,
        generator=origin.generator,
        detector=origin.detector,
        policy_digest=audits.policy.digest,
        rows=len(bench.table.rows),
        images=0 if audits.edits is None else sum(audits.edits.estimated.values()),
        concepts=tested,
        false_findings=sum(map(any_finding, none)),
        false_runs=len(none),
        broken=sum(one.broken for one in outcomes),
        runs=len(outcomes),
        epsilon=EPSILON,
        clipped=round(bench.answers.clipped, 4),
        notes=tuple(_notes(audits, parts)),
        seconds=round(sum(one.seconds for one in outcomes), 1),
        finished_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        judged_digest=judged_digest(
            bench.table.rows,
            bench.table.concepts,
            label=audited.label,
            positive=audits.positive,
            audit=origin.seed,
            options=audits.options,
        ),
    )


def _parts_of(audits: PlantedAudits, concept: Concept) -> tuple[Part, ...]:
    """What this audit could find it by under the policy; not :attr:`Part.ANY` where that is nothing."""
    by_importance = any(one.metric == "importance" and one.covers(concept.name, concept.role) for one in audits.policy.thresholds)
    by_flips = bounds_flips(audits)[concept.name]
    found = (
        *([Part.IMPORTANCE] if by_importance else []),
        *([Part.FLIPS] if by_flips else []),
        *([Part.NODE] if bounds_nodes(audits, concept.name) else []),
    )
    return (*found, *([Part.ANY] if found else []), *([] if by_flips else [Part.SEEN]))


def bounds_nodes(audits: PlantedAudits, concept: str) -> bool:
    """Whether the policy bounds a node of the concept that was edited."""
    if audits.edits is None or concept not in audits.edits.nodes:
        return False
    nodes = [node for node in audits.edits.tree.editable if node.path in audits.edits.nodes[concept]]
    return any(covers_path(one, node.path, node.kind) for one in audits.policy.thresholds for node in nodes)


def bounds_flips(audits: PlantedAudits) -> Mapping[str, bool]:
    """Concept -> whether the policy bounds the decisions that its flips change; fairness figures are of protected concepts."""

    def able(concept: Concept, bound: Threshold) -> bool:
        fair = bound.metric == "fairness" and concept.role is Role.PROTECTED and "interventional" in bound.families
        return bound.covers(concept.name, concept.role) and (bound.metric == "flip_rate_excess" or fair)

    return {one.name: any(able(one, bound) for bound in audits.policy.thresholds) for one in audits.bench.table.concepts}


def _notes(audits: PlantedAudits, parts: Mapping[str, Sequence[Part]]) -> Iterator[str]:
    """What the reader has to know of the figures."""
    bench = audits.bench
    if share := bench.answers.clipped:
        yield (
            f"{share:.1%} of the answers are nearer to 0 or 1 than {EPSILON:g}: their log-odds are not known and taken as those of {EPSILON:g}, "
            "so what is put into them may count more than it would"
        )
    if bench.table.placebo is None:
        yield "there are no placebo pictures, so flips without effect change nothing at all, which is better than any generator does"
    if audits.policy.over_time == "spending":
        yield "every run is judged as the first audit of a version; later ones are held to stricter intervals (`over_time: spending`) and find less"
    if audits.edits is not None:
        yield from _few_images(audits.edits)
    if never := [name for name, some in parts.items() if Part.ANY not in some]:
        yield f"no threshold of the policy could ever accuse {', '.join(never)}, so no effect of it is found, however large it is"
    free = [name for name, some in parts.items() if Part.ANY in some and not {Part.FLIPS, Part.NODE} & set(some)]
    if free:
        yield (
            f"no threshold of the policy bounds the decisions that flips of {', '.join(free)} change: an effect that goes along with no label moves "
            "no performance and is not found; `metric: flip_rate_excess` bounds it, and a concept tree sees it"
        )


def _few_images(edits: EditBench) -> Iterator[str]:
    """Concepts whose nodes hardly ever have the images that any bound on them asks for."""
    images = sum(edits.estimated.values())
    for name, nodes in edits.nodes.items():
        shares = [sum(row.valid for row in edits.made[path]) / len(edits.made[path]) for path in nodes]
        if (most := round(max(shares) * images)) < LEAST_IMAGES:
            yield f"edits of {name} are valid on about {most} of {images} images, and a finding about a node needs {LEAST_IMAGES}: more images would help"

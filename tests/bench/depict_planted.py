"""Does the audit find planted reliance, and only that?  `python -m tests.bench.depict_planted [--quick] [--json FILE] [--markdown FILE]`.

Every planted classifier is served by a real Triton and audited with one probe bank that the shipped generator draws; the truth about
each was measured with the renderer (`audit_plugin.demo.truth`).  The published procedure is run for comparison on the same question.
"""

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.join import load_table
from audit_plugin.bank.plan import PlanOptions, plan
from audit_plugin.bank.real import RealImages, index_real
from audit_plugin.bank.score import score
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.table import BankTable
from audit_plugin.bank.verify import verify
from audit_plugin.core.protocols import Generator, Scores
from audit_plugin.core.results import ConceptResult, GateStatus, Verdict
from audit_plugin.core.seeds import digest
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.values import Row
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.planted import CLASSES, SUITE, Planted, predictor
from audit_plugin.demo.renderer import SCENES, as_images
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import AuditRows, Truth, audit_rows, flip_scores, flip_tables, onnx_path, read_truth
from audit_plugin.methods.depict import DepictReport, audit
from audit_plugin.methods.depict.assemble import Ints
from audit_plugin.methods.depict.paper import paper_importance
from audit_plugin.sources.scenes import CONCEPTS, render_many
from audit_plugin.statistics.agreement import agreement, coverage, root_mean_square
from audit_plugin.statistics.flip_table import importance
from audit_plugin.statistics.metrics import METRICS
from audit_plugin.store.store import Store
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.bench.report import CACHE, Report, parser, publish
from tests.bench.scenes_bank import Say, built_bank, known_auroc, rendered_rows, shipped_detector, shipped_generator

NAME = "depict_planted"
AUDIT = "bench planted"
MOST_ROWS = 1_000
"""Rows are the first of this many, so that a larger run uses the pictures of a smaller one again."""
STRONG = 0.05
"""A reliance that an audit must find: two and a half times the margin."""
MARGIN = 0.02


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is audited."""

    rows: int
    repeats: int
    """Of the comparison with the published procedure, each on rows of its own."""


NOTES = (
    (
        f"- Strong: true importance at least {STRONG}. False: the audit says that the classifier relies on a concept whose true importance "
        f"is below the margin {MARGIN}."
    ),
    (
        "- The truth is itself measured: an interval counts as covering when it reaches the truth's own 95 % interval; "
        "`coverage95_truth_taken_as_exact` gives no such allowance."
    ),
    (
        f"- `spearman` takes importances within {MARGIN / 2} of zero as equal, because the order of idle concepts is noise on both sides; "
        "`spearman_unrounded` does not."
    ),
)


FULL, QUICK = Size(rows=400, repeats=4), Size(rows=160, repeats=1)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One concept of one classifier: what was found and what is true."""

    planted: Planted
    result: ConceptResult
    truth: float
    truth_se: float

    @property
    def strong(self) -> bool:
        """Whether the audit must find it."""
        return self.truth >= STRONG

    @property
    def found(self) -> bool:
        """Whether the audit says that the classifier relies on it."""
        return self.result.verdict is Verdict.RELIES

    @property
    def covered(self) -> bool:
        """Whether the 95 % interval contains the truth as well as that is known."""
        slack = 1.96 * self.truth_se
        return self.result.importance.low - slack <= self.truth <= self.result.importance.high + slack


def first_rows(n: int) -> AuditRows:
    """The audited rows."""
    every = audit_rows(MOST_ROWS, AUDIT)
    return AuditRows(names=every.names[:n], values=every.values[:n], seeds=every.seeds[:n])


def labelled_rows(rows: AuditRows, suite: Iterable[Planted], folder: Path) -> list[Row]:
    """The audited rows with a label column for every classifier, and their rendered scenes as real images."""
    every = audit_rows(MOST_ROWS, AUDIT)
    columns = {planted.name: every.labels(planted, AUDIT)[: len(rows.names)] for planted in suite}
    seeds = [seed_of("real scenes", name) for name in rows.names]
    return rendered_rows(folder, rows.values, seeds, columns, CLASSES)


def scored(
    bank: ProbeBank, real: RealImages, suite: Sequence[Planted], root: Path, workdir: Path
) -> tuple[dict[str, Mapping[str, NDArray[np.float64]]], int]:
    """Classifier -> scores by picture, asked of a real Triton; and how many images it was sent."""
    networks = digest(*(f"{planted.name} {digest(onnx_path(planted.name).read_bytes().hex())}" for planted in suite))
    store = Store.open(root / f"scores-{networks[:12]}.sqlite", migrate=True)
    for planted in suite:
        write_model(workdir / "models", planted.name, onnx_path(planted.name), CLASSES)
    found: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    sent = 0
    shas = [*bank.usable(), *real.paths]
    with TritonServer(workdir / "models", kit=ensure_kit(), log_file=workdir / "server.log") as server:
        for planted in suite:
            options = TargetOptions(model=planted.name, url=server.grpc_url)
            with TritonClassifier.connect(options) as target:
                sent += score(bank, target, store.scores, real=real, progress=Say()).scored
                found[planted.name] = store.scores.get(target.info.id, shas)
    store.close()
    return found, sent


def audited(
    suite: Sequence[Planted], table: BankTable, scores: Mapping[str, Mapping[str, NDArray[np.float64]]], card: Mapping[str, float]
) -> dict[str, DepictReport]:
    """The audit of every classifier."""
    return {
        planted.name: audit(
            table,
            scores[planted.name],
            label=planted.name,
            classes=CLASSES,
            positive=CLASSES[1],
            seed=f"{AUDIT} {planted.name}",
            detector_auroc=card,
        )
        for planted in suite
    }


def cells(suite: Iterable[Planted], reports: Mapping[str, DepictReport], truths: Mapping[str, Truth]) -> list[Cell]:
    """Every concept of every classifier."""
    return [
        Cell(planted=planted, result=result, truth=truth.value, truth_se=truth.se)
        for planted in suite
        for result in reports[planted.name].concepts
        for truth in [truths[planted.name].concepts[result.concept].auroc]
    ]


def audit_figures(found: Sequence[Cell]) -> dict[str, float]:
    """How well the audits agree with the truth."""
    estimate, truth = np.array([cell.result.importance.value for cell in found]), np.array([cell.truth for cell in found])
    low, high = (np.array([getattr(cell.result.importance, side) for cell in found]) for side in ("low", "high"))
    strong = [cell for cell in found if cell.strong]
    idle = [cell for cell in found if cell.result.concept in cell.planted.idle]
    return {
        "recall_strong": float(np.mean([cell.found for cell in strong])),
        "strong_cells": float(len(strong)),
        "false_relies": float(sum(cell.found and cell.truth < MARGIN for cell in found)),
        "idle_cells": float(len(idle)),
        "idle_negligible": float(np.mean([cell.result.verdict is Verdict.NEGLIGIBLE for cell in idle])),
        "spearman": agreement(at_resolution(estimate), at_resolution(truth)).spearman,
        "spearman_unrounded": agreement(estimate, truth).spearman,
        "pearson": agreement(estimate, truth).pearson,
        "coverage95": float(np.mean([cell.covered for cell in found])),
        "coverage95_strong": float(np.mean([cell.covered for cell in strong])),
        "coverage95_truth_taken_as_exact": coverage(low, high, truth),
        "rmse": root_mean_square(estimate, truth),
        "worst_error": float(np.abs(estimate - truth).max()),
    }


def at_resolution(importances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Importances with all that lie within half a margin of 0 made equal.

    Four fifths of the suite's cells are idle and differ by less than a thousandth; their order says nothing.
    """
    return np.where(np.abs(importances) < MARGIN / 2, 0.0, importances)


class Studio:
    """Renders the permuted sets of the published procedure once, for all classifiers: fresh pictures, but no fresh work."""

    def __init__(self, suite: Sequence[Planted]) -> None:
        self._models = {planted.name: predictor(onnx_path(planted.name)) for planted in suite}
        self._known: dict[str, dict[str, Scores]] = {}

    def draw(self, model: str, values: Ints, seeds: Sequence[int]) -> Scores:
        """Scores of one classifier on the scenes of these values and seeds."""
        key = digest(values.tobytes().hex(), *map(str, seeds))
        if key not in self._known:
            images = as_images(render_many(seeds, values))
            self._known[key] = {name: predict(images) for name, predict in self._models.items()}
        return self._known[key][model]


def compared(suite: Sequence[Planted], truths: Mapping[str, Truth], size: Size) -> tuple[list[dict[str, float]], int, int]:
    """Estimates of flip table and published procedure with the renderer as generator; and the images that either draws."""
    found = []
    ours, theirs = size.rows * (1 + sum(len(concept.levels) - 1 for concept in CONCEPTS)), 0
    for repeat in range(size.repeats):
        seed = f"{AUDIT} against paper {repeat}"
        rows, studio = audit_rows(size.rows, seed), Studio(suite)
        scores = flip_scores(rows, {planted.name: predictor(onnx_path(planted.name)) for planted in suite})
        for planted in suite:
            paper = paper_importance(
                partial(studio.draw, planted.name),
                CONCEPTS,
                rows.values,
                rows.labels(planted, seed),
                rows=rows.names,
                seed=seed,
            )
            theirs = paper.images
            tables = flip_tables(planted, rows, scores[planted.name], seed)
            truth = truths[planted.name].importance
            found += [
                {
                    "truth": truth[name],
                    "flip_table": importance(table, METRICS["auroc"]),
                    "published": paper.concepts[name].mean,
                    "published_sd": paper.concepts[name].sd,
                }
                for name, table in tables.items()
            ]
        print(f"  published procedure: repeat {repeat + 1} of {size.repeats}", flush=True)
    return found, ours, theirs


def paper_table(found: Sequence[Mapping[str, float]], ours: int, theirs: int) -> list[dict[str, str | int | float | bool | None]]:
    """Errors of both procedures."""
    columns = {name: np.array([row[name] for row in found]) for name in found[0]}
    truth = columns["truth"]
    half = 1.96 * columns["published_sd"] / np.sqrt(25)
    rows: list[dict[str, str | int | float | bool | None]] = []
    for said, column, images in (("flip table", "flip_table", ours), ("published, 25 permutations", "published", theirs)):
        error = columns[column] - truth
        rows.append(
            {
                "procedure": said,
                "images": images,
                "rmse": float(np.sqrt((error**2).mean())),
                "rmse_strong": float(np.sqrt((error[truth >= STRONG] ** 2).mean())),
                "rmse_idle": float(np.sqrt((error[np.abs(truth) < MARGIN / 2] ** 2).mean())),
                "worst_idle": float(np.abs(error[np.abs(truth) < MARGIN / 2]).max()),
                "coverage of mean ± 1.96 sd/5": None if column == "flip_table" else coverage(-half, half, -error),
            }
        )
    return rows


def fill(report: Report, found: Sequence[Cell], reports: Mapping[str, DepictReport]) -> None:
    """The table of cells, and one line per classifier."""
    for cell in found:
        shown = cell.result.importance
        report.rows.append(
            {
                "classifier": cell.planted.name,
                "concept": cell.result.concept,
                "verdict": cell.result.verdict.value,
                "importance": shown.value,
                "low": shown.low,
                "high": shown.high,
                "truth": cell.truth,
                "truth_se": cell.truth_se,
                "covered": cell.covered,
                "compliance": None if cell.result.compliance is None else cell.result.compliance.value,
                "validity": cell.result.validity,
            }
        )
    report.tables["Classifiers"] = [
        _line(name, one, [cell for cell in found if cell.planted.name == name]) for name, one in reports.items()
    ]


def _line(name: str, one: DepictReport, found: Sequence[Cell]) -> dict[str, str | int | float | bool | None]:
    not_passed = [
        f"{gate.name} {gate.subject}: {gate.status}" for gate in one.gates if gate.status in {GateStatus.WARN, GateStatus.FAIL}
    ]
    return {
        "classifier": name,
        "state": one.state.value,
        "AUROC real": one.real_score,
        "AUROC generated": one.generated_score,
        "relies on": ", ".join(cell.result.concept for cell in found if cell.found),
        "planted (truth)": ", ".join(f"{cell.result.concept} {cell.truth:.2f}" for cell in found if cell.strong),
        "missed": ", ".join(cell.result.concept for cell in found if cell.strong and not cell.found),
        "false": ", ".join(cell.result.concept for cell in found if cell.found and cell.truth < MARGIN),
        "gates not passed": "; ".join(not_passed),
    }


def run(size: Size, *, mode: str, root: Path, generator: Generator, suite: Sequence[Planted] = SUITE) -> Report:
    """The whole benchmark."""
    report = Report(
        name=NAME,
        question="Does the audit find planted reliance, and only that?",
        mode=mode,
        seeds={"audit": AUDIT, "truth": read_truth(suite[0].name).seed},
    )
    truths = {planted.name: read_truth(planted.name) for planted in suite}
    started = time.monotonic()
    rows = first_rows(size.rows)
    design = plan(
        labelled_rows(rows, suite, root / "real"),
        SCENES,
        generator=generator.fingerprint,
        audit=AUDIT,
        options=PlanOptions(placebo_rows=min(200, size.rows), replicate_rows=50),
    )
    bank, built = built_bank(root / f"bank-{generator.fingerprint[:12]}", design, generator)
    real = index_real(design.rows, progress=Say())
    detector = shipped_detector()
    verify(bank, detector, progress=Say(), real=real)
    with tempfile.TemporaryDirectory() as workdir:
        scores, sent = scored(bank, real, suite, bank.root, Path(workdir))
    table = load_table(bank, detector=detector.fingerprint, real=real)
    before_audits = time.monotonic()
    reports = audited(suite, table, scores, known_auroc(detector))
    audit_seconds = (time.monotonic() - before_audits) / len(suite)
    found = cells(suite, reports, truths)
    fill(report, found, reports)
    against, ours, theirs = compared(suite, truths, size)
    errors = paper_table(against, ours, theirs)
    report.tables["Flip table against the published procedure, both with the renderer as generator"] = errors
    report.figures |= audit_figures(found)
    report.figures |= {
        "images_ratio_paper_over_ours": theirs / ours,
        "error_ratio_paper_over_ours": float(errors[1]["rmse"] or 0) / float(errors[0]["rmse"] or 1),
        "error_ratio_idle_paper_over_ours": float(errors[1]["rmse_idle"] or 0) / float(errors[0]["rmse_idle"] or 1),
        "rows": float(size.rows),
        "images": float(len(design.recipes)),
        "audit_seconds": audit_seconds,
    }
    spent = f"{built.drawn} drawn in this run, {built.seconds:.0f} s; the rest lay in the bank"
    report.notes += [
        (
            f"- {size.rows} rows from the audited law, {len(design.recipes)} generated images ({spent}), {sent} images sent to Triton, "
            f"{time.monotonic() - started:.0f} s in all."
        ),
        *NOTES,
        (
            f"- The published procedure was run in full (25 permutations, fresh seeds) with the renderer as generator, {size.repeats} x "
            f"{size.rows} rows, beside the flip table on the same rows; it draws {theirs} images where the flip table draws {ours}."
        ),
    ]
    return report


def main() -> None:
    """Command line."""
    options = parser(__doc__).parse_args()
    size, mode = (QUICK, "quick") if options.quick else (FULL, "full")
    publish(run(size, mode=mode, root=CACHE / NAME, generator=shipped_generator()), options)


if __name__ == "__main__":
    main()

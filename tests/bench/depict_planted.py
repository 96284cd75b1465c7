"""Does the audit find planted reliance, and only that?  `python -m tests.bench.depict_planted [--quick] [--json FILE] [--markdown FILE]`.

Every planted classifier is served by a real Triton and audited with one probe bank that the shipped generator draws; the truth about
each was measured with the renderer (`audit_plugin.demo.truth`).  The published procedure is run for comparison on the same question.
"""

import hashlib
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
from audit_plugin.demo.renderer import SCENES, SceneRenderer, as_images
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import AuditRows, Truth, audit_rows, flip_scores, flip_tables, onnx_path, read_truth
from audit_plugin.methods.depict import DepictReport, audit
from audit_plugin.methods.depict.assemble import Ints
from audit_plugin.methods.depict.paper import PERMUTATIONS, paper_importance
from audit_plugin.sources.scenes import CONCEPTS, render_many
from audit_plugin.statistics.agreement import agreement, coverage, root_mean_square
from audit_plugin.statistics.flip_table import importance
from audit_plugin.statistics.metrics import METRICS
from audit_plugin.store.store import Store
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.bench.report import CACHE, Report, parser, publish
from tests.bench.report import Cell as TableCell
from tests.bench.scenes_bank import Say, built_bank, known_auroc, rendered_rows, shipped_detector, shipped_generator

NAME = "depict_planted"
AUDIT = "bench planted"
MOST_ROWS = 1_000
"""Rows are the first of this many, so that a larger run uses the pictures of a smaller one again."""
STRONG = 0.05
"""A reliance that an audit must find: two and a half times the margin."""
MARGIN = 0.02
CHEAP = 2
"""Permutations with which the published procedure draws about as many images as the flip table."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is audited."""

    rows: int
    repeats: int
    """Of the comparison with the published procedure, each on rows of its own."""
    compared: int
    """Rows of each comparison, every one of them drawn anew for every permutation."""


NOTES = (
    (
        f"- Strong: true importance at least {STRONG}. False: the audit says that the classifier relies on a concept whose true importance "
        f"is below the margin {MARGIN}."
    ),
    (
        "- The truth is itself measured: its error is added to the interval in quadrature before coverage is judged; "
        "`coverage95_truth_taken_as_exact` gives no such allowance."
    ),
    (
        f"- `spearman` takes importances within {MARGIN / 2} of zero as equal, because the order of idle concepts is noise on both sides; "
        "`spearman_unrounded` does not."
    ),
)


FULL, QUICK = Size(rows=400, repeats=3, compared=400), Size(rows=160, repeats=1, compared=160)


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
        """Whether the 95 % interval, with the truth's own error added in quadrature, contains the truth."""
        shown, slack = self.result.importance, 1.96 * self.truth_se
        below, above = np.hypot(shown.value - shown.low, slack), np.hypot(shown.high - shown.value, slack)
        return bool(shown.value - below <= self.truth <= shown.value + above)


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
    store = Store.open(root / f"scores-{networks(suite)[:12]}.sqlite", migrate=True)
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


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Estimates of both procedures on the same rows, the renderer being the generator; m cells."""

    truth: NDArray[np.float64]
    """``(m,)``"""
    flip_table: NDArray[np.float64]
    """``(m,)``"""
    drops: NDArray[np.float64]
    """``(m, 25)``, one per permutation of the published procedure."""

    def published(self, permutations: int) -> NDArray[np.float64]:
        """``(m,)`` the published estimate from the first so many permutations."""
        return np.asarray(self.drops[:, :permutations].mean(1))


def contest(suite: Sequence[Planted], truths: Mapping[str, Truth], size: Size, cache: Path) -> Contest:
    """Run both procedures in full, or read back what an earlier run with the same classifiers and scenes found."""
    seeds = [f"{AUDIT} against paper {repeat}" for repeat in range(size.repeats)]
    whose = digest(networks(suite), SceneRenderer().fingerprint, str(size.compared), *seeds)
    kept = cache / f"contest-{whose[:12]}.npz"
    if not kept.exists():
        parts = [_repeat(suite, size.compared, seed) for seed in seeds]
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(
            kept, flip_table=np.concatenate([ours for ours, _ in parts]), drops=np.concatenate([theirs for _, theirs in parts])
        )
    truth = [truths[planted.name].importance[concept.name] for planted in suite for concept in CONCEPTS]
    with np.load(kept) as found:
        return Contest(truth=np.tile(truth, size.repeats), flip_table=found["flip_table"], drops=found["drops"])


def _repeat(suite: Sequence[Planted], n: int, seed: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flip-table estimates ``(m,)`` and published drops ``(m, 25)`` on ``n`` fresh rows."""
    rows, studio = audit_rows(n, seed), Studio(suite)
    scores = flip_scores(rows, {planted.name: predictor(onnx_path(planted.name)) for planted in suite})
    ours, theirs = [], []
    for planted in suite:
        draw = partial(studio.draw, planted.name)
        labels = rows.labels(planted, seed)
        paper = paper_importance(draw, CONCEPTS, rows.values, labels, rows=rows.names, seed=seed)
        tables = flip_tables(planted, rows, scores[planted.name], seed)
        ours += [importance(tables[concept.name], METRICS["auroc"]) for concept in CONCEPTS]
        theirs += [paper.concepts[concept.name].drops for concept in CONCEPTS]
    print(f"  published procedure: {seed} done", flush=True)
    return np.array(ours), np.array(theirs)


def networks(suite: Iterable[Planted]) -> str:
    """Identity of the classifiers' files."""
    return digest(*(f"{planted.name} {hashlib.sha256(onnx_path(planted.name).read_bytes()).hexdigest()}" for planted in suite))


def errors(found: Contest, n: int) -> list[dict[str, TableCell]]:
    """Errors of both procedures, and of the published one cut down to about the flip table's images."""
    flips, concepts = sum(len(concept.levels) - 1 for concept in CONCEPTS), len(CONCEPTS)
    lines = [_error("flip table", n * (1 + flips), found.flip_table - found.truth, found.truth)]
    for count in (PERMUTATIONS, CHEAP):
        drops = found.drops[:, :count]
        line = _error(
            f"published, {count} permutations", n * (1 + concepts * count), found.published(count) - found.truth, found.truth
        )
        half = 1.96 * drops.std(1, ddof=1) / np.sqrt(count)
        lines.append(line | {"coverage of mean ± 1.96 sd/√R": coverage(-half, half, found.truth - found.published(count))})
    return [lines[0] | {"coverage of mean ± 1.96 sd/√R": None}, *lines[1:]]


def _error(said: str, images: int, error: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, TableCell]:
    idle = np.abs(truth) < MARGIN / 2
    return {
        "procedure": said,
        "images": images,
        "rmse": _rms(error),
        "rmse strong": _rms(error[truth >= STRONG]),
        "rmse idle": _rms(error[idle]),
        "worst idle": float(np.abs(error[idle]).max()),
    }


def _rms(error: NDArray[np.float64]) -> float:
    return float(np.sqrt((error**2).mean()))


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
                "conditional": None if cell.result.conditional is None else cell.result.conditional.value,
                "compliance": None if cell.result.compliance is None else cell.result.compliance.value,
                "validity": cell.result.validity,
            }
        )
    report.tables["Classifiers"] = [
        _line(name, one, [cell for cell in found if cell.planted.name == name]) for name, one in reports.items()
    ]


def _line(name: str, one: DepictReport, found: Sequence[Cell]) -> dict[str, TableCell]:
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
    against = contest(suite, truths, size, root)
    ours, theirs, cheap = contests = errors(against, size.compared)
    report.tables["Flip table against the published procedure, both with the renderer as generator"] = contests
    report.figures |= audit_figures(found)
    report.figures |= {
        "images_ratio_paper_over_ours": _ratio(theirs, ours, "images"),
        "error_ratio_paper_over_ours": _ratio(theirs, ours, "rmse"),
        "error_ratio_idle_paper_over_ours": _ratio(theirs, ours, "rmse idle"),
        "error_ratio_like_budget": _ratio(cheap, ours, "rmse"),
        "error_ratio_idle_like_budget": _ratio(cheap, ours, "rmse idle"),
        "images_ratio_like_budget": _ratio(cheap, ours, "images"),
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
            f"{size.compared} rows, beside the flip table on the same rows; it draws {theirs['images']} images where the flip table draws {ours['images']}."
        ),
    ]
    return report


def _ratio(one: Mapping[str, TableCell], other: Mapping[str, TableCell], column: str) -> float:
    return float(one[column] or 0) / float(other[column] or 1)


def main() -> None:
    """Command line."""
    options = parser(__doc__).parse_args()
    size, mode = (QUICK, "quick") if options.quick else (FULL, "full")
    publish(run(size, mode=mode, root=CACHE / NAME, generator=shipped_generator()), options)


if __name__ == "__main__":
    main()

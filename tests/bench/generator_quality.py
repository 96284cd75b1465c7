"""Does the miniature generator draw what captions say?  `python -m tests.bench.generator_quality [--quick] [--json FILE] [--markdown FILE]`.

Captions of scenes with independent concepts are drawn by the shipped generator and, for reference, by the renderer; the independent
detector reads both.  Some of the scenes are drawn again with every concept set to every other level, and with a placebo word: from these
come obedience (were the changes made?) and leakage (was anything else changed?).  The gates are those of every audit.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.join import load_table
from audit_plugin.bank.plan import Plan, PlanOptions, plan
from audit_plugin.bank.real import RealImages, index_real
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.stream import decoded
from audit_plugin.bank.verify import verify
from audit_plugin.core.protocols import Generator
from audit_plugin.core.results import Gate
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.values import Arm, Row
from audit_plugin.demo.planted import CLASSES, SUITE, labels, predictor
from audit_plugin.demo.renderer import SCENES
from audit_plugin.demo.truth import onnx_path
from audit_plugin.methods.depict import DepictReport, audit
from audit_plugin.perception.detectors import OnnxConceptDetector
from audit_plugin.sources.scenes import CONCEPTS, SceneLaw, draw_values
from audit_plugin.statistics.bootstrap import bootstrap, unit_weights
from audit_plugin.statistics.metrics import METRICS
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.bench.scenes_bank import Say, built_bank, known_auroc, rendered_rows, shipped_detector, shipped_generator

NAME = "generator_quality"
AUDIT = "bench generator"
MOST_ROWS = 2_000
TASK = SUITE[0]
"""The classifier of gate G1: it knows the shape and nothing else."""
AUROC = METRICS["auroc"]
_TIMED = 64


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is drawn."""

    rows: int
    """Scenes drawn once."""
    flipped: int
    """Of these, drawn again with every concept changed."""


FULL, QUICK = Size(rows=2_000, flipped=300), Size(rows=500, flipped=100)


def scenes(n: int, folder: Path) -> list[Row]:
    """The first ``n`` rows, all concepts independent and uniform, with rendered scenes as real images."""
    values = draw_values(MOST_ROWS, SceneLaw(positive={}), np.random.default_rng(seed_of(AUDIT, "values")))[:n]
    seeds = [seed_of("real scenes", f"{AUDIT} {number}") for number in range(n)]
    return rendered_rows(folder, values, seeds, {TASK.name: labels(TASK, values, np.random.default_rng(0))}, CLASSES)


def design(rows: Sequence[Row], generator: Generator, *, flipped: bool) -> Plan:
    """Baselines alone, or with all flips and placebos."""
    options = PlanOptions(placebo_rows=len(rows), replicates=0)
    whole = plan(rows, SCENES, generator=generator.fingerprint, audit=AUDIT, options=options)
    return whole if flipped else replace(whole, probes=tuple(probe for probe in whole.probes if probe.arm is Arm.BASELINE))


def visible(bank: ProbeBank, detector: OnnxConceptDetector, real: RealImages) -> dict[str, dict[str, Cell]]:
    """Concept -> how well the detector reads it on rendered and on generated scenes of the bank's plan."""
    seen, images, rows = bank.readings(detector.fingerprint), bank.images(), bank.plan().rows
    drawn = {probe.row: images[probe.recipe.id].sha256 for probe in bank.plan().probes if probe.arm is Arm.BASELINE}
    weights = unit_weights(np.arange(len(rows)), 400, np.random.default_rng(seed_of(AUDIT, "resamples")))
    found: dict[str, dict[str, Cell]] = {}
    for j, concept in enumerate(CONCEPTS):
        asked = np.array([row.values[j] for row in rows])
        generated = np.array([seen[drawn[row.id]][concept.name] for row in rows], np.float64)
        rendered = np.array([seen[real.by_row[row.id]][concept.name] for row in rows], np.float64)
        boot = bootstrap(partial(AUROC.function, generated, asked), weights)
        reference = AUROC.performance(rendered, asked)
        found[concept.name] = {
            "AUROC rendered": reference,
            "AUROC generated": boot.value,
            "gap": reference - boot.value,
            "gap high": reference - boot.interval().low,
            "read as asked": float((generated.argmax(1) == asked).mean()),
        }
    return found


def shape_scores(bank: ProbeBank, real: RealImages) -> Mapping[str, NDArray[np.float64]]:
    """sha256 -> scores of the classifier of gate G1."""
    predict = predictor(onnx_path(TASK.name))
    load = dict.fromkeys(bank.usable(), bank.pictures.pixels) | dict.fromkeys(real.paths, real.pixels)
    return {
        sha: vector
        for shas, images in decoded(load, lambda sha: load[sha](sha), batch=256)
        for sha, vector in zip(shas, predict(images), strict=True)
    }


def fill(report: Report, seen: Mapping[str, Mapping[str, Cell]], found: DepictReport) -> None:
    """One line per concept, then leakage and gates."""
    for name, line in seen.items():
        kappa = found.concept(name).compliance
        leaks = {other: rate for other, rate in found.leakage[name].items() if other != name}
        worst = max(leaks, key=lambda other: leaks[other])
        gates = {gate.name: gate.status.value for gate in found.gates if gate.subject.split("->")[0] == name}
        report.rows.append(
            {
                "concept": name,
                **line,
                "obedience": None if kappa is None else kappa.value,
                "obedience low": None if kappa is None else kappa.low,
                "leaks most into": worst,
                "leakage": leaks[worst],
                **{f"{gate}": gates.get(gate) for gate in ("G2", "G3a", "G3b", "G4", "G5")},
            }
        )
    report.tables["Leakage: changed concept (row) against concept that the detector reads (column), in excess of the placebo"] = [
        {"changed": name, **row} for name, row in found.leakage.items()
    ]
    report.tables["Gates"] = [_line(gate) for gate in found.gates]


def _line(gate: Gate) -> dict[str, Cell]:
    names = {"gate": gate.name, "what": gate.title, "subject": gate.subject, "status": gate.status.value}
    return {**names, "value": gate.value, "low": gate.low, "high": gate.high, "passes": gate.bound}


def figures(seen: Mapping[str, Mapping[str, Cell]], found: DepictReport) -> dict[str, float]:
    """The worst of everything."""
    leaks = [rate for name, row in found.leakage.items() for other, rate in row.items() if other != name]
    obeyed = [one.compliance.value for one in found.concepts if one.compliance is not None]
    gates = [gate.status.value for gate in found.gates]
    return {
        "worst_auroc_gap": max(float(line["gap"] or 0) for line in seen.values()),
        "worst_obedience": min(obeyed),
        "worst_leakage": max(leaks),
        **{f"gates_{status}": float(gates.count(status)) for status in ("pass", "warn", "fail", "not_run")},
    }


def speed(generator: Generator) -> float:
    """Images per second, after a first batch."""
    captions = ["a small red circle on grass in bright light"] * _TIMED
    generator.generate(captions[:16], range(16))
    started = time.perf_counter()
    generator.generate(captions, range(_TIMED))
    return _TIMED / (time.perf_counter() - started)


def run(size: Size, *, mode: str, root: Path, generator: Generator) -> Report:
    """The whole benchmark."""
    report = Report(name=NAME, question="Does the miniature generator draw what captions say?", mode=mode, seeds={"audit": AUDIT})
    detector, rows = shipped_detector(), scenes(size.rows, root / "real")
    where = root / f"bank-{generator.fingerprint[:12]}"
    real = index_real(rows, progress=Say())
    bank, once = built_bank(where, design(rows, generator, flipped=False), generator)
    verify(bank, detector, progress=Say(), real=real)
    seen = visible(bank, detector, real)
    few = rows[: size.flipped]
    shown = index_real(few, progress=Say())
    bank, again = built_bank(where, design(few, generator, flipped=True), generator)
    verify(bank, detector, progress=Say(), real=shown)
    found = audit(
        load_table(bank, detector=detector.fingerprint, real=shown),
        shape_scores(bank, shown),
        label=TASK.name,
        classes=CLASSES,
        positive=CLASSES[1],
        seed=AUDIT,
        detector_auroc=known_auroc(detector),
    )
    fill(report, seen, found)
    report.figures |= figures(seen, found)
    report.figures |= {"images_per_second": speed(generator), "rows": float(size.rows), "flipped_rows": float(size.flipped)}
    spent = once.seconds + again.seconds
    notes = (
        (
            f"- {size.rows} scenes drawn once; {size.flipped} of them also with every concept at every other level and with a placebo word "
            f"({once.drawn + again.drawn} images drawn in this run, {spent:.0f} s; the rest lay in the bank)."
        ),
        "- AUROC of the independent detector, one level against the rest, mean over levels; gap = rendered minus generated.",
        (
            "- Obedience is gate G3a's κ on rows and flips together, leakage gate G4's excess change rate; the classifier of gate G1 knows "
            "the shape only."
        ),
    )
    report.notes += notes
    return report


def main() -> None:
    """Command line."""
    options = parser(__doc__).parse_args()
    size, mode = (QUICK, "quick") if options.quick else (FULL, "full")
    publish(run(size, mode=mode, root=CACHE / NAME, generator=shipped_generator()), options)


if __name__ == "__main__":
    main()

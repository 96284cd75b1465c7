"""Two leaf classifiers, one of which uses the capture site: what an audit says of them, and what crude edits say.

python -m tests.bench.case_leaves [--data DIR] [--size 64|128] [--generator DIR | --without-generator] [--quick] [--json FILE] [--markdown FILE]

``DIR`` is the folder of data with ``plantvillage-leaves`` in it.  Both classifiers are served by a real Triton.  The photographs' backgrounds are
painted, blurred, transplanted and cut out by masks (``tests.bench.case_leaves_edits``), each edit beside a control; the drawn audit is that of
docs/leaves.yaml with the tree of concepts on real photographs beside it.  A generator of 64 px is trained in about an hour on one core; 128 px
are for a GPU.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from audit_plugin.config import Loaded, load
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.statistics.intervals import Interval, newcombe
from audit_plugin.statistics.metrics import METRICS
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.wiring import Installation, open_store, train_generator
from tests.bench import leaves as drawn
from tests.bench import leaves_tree
from tests.bench.case_charts import Group, Mark, write_chart
from tests.bench.case_leaves_edits import CLASSES, CONTRASTS, Answers, Leaves, ask, edits, read_leaves, read_rows
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.fixtures.digits import DATA

ROOT = Path(__file__).resolve().parents[2]
KINDS = drawn.KINDS
SIZES: Mapping[int, Mapping[str, Any]] = {
    64: {
        "image_size": 64, "autoencoder_channels": [32, 48, 64], "unet_channels": [64, 96, 128], "shift": 3,
        "autoencoder_batch": 32, "diffusion_batch": 48, "ema_decay": 0.999,
    },
    128: {},
}  # fmt: skip
"""Side of the drawn pictures -> what differs from the recipe of docs/leaves.yaml."""
SHOWN = (
    "own site's mean colour", "other site's mean colour", "black", "own grey", "blurred background", "background of the own site",
    "background of the other site", "leaf removed", "resized to 64 px",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    data: Path = options.data / "plantvillage-leaves"
    if not (data / "labels.csv").is_file():
        sys.exit(f"{data} has no labels.csv; give the folder of data as --data")
    options.work.mkdir(parents=True, exist_ok=True)
    drawn.write_table(data / "labels.csv", options.work / "table.csv")
    for kind in KINDS:
        write_model(options.work / "repository", f"leaf_{kind}", data / f"leaf_healthy_vs_late_blight_{kind}.onnx", CLASSES)
    report = Report(
        name="case_leaves",
        question="Is the capture site found where it is used, and only there, and what do crude edits say?",
        mode="quick" if options.quick else "full",
        seeds={"rows": "0", "audit": "leaves"},
    )
    with TritonServer(options.work / "repository", kit=ensure_kit(ROOT / ".kit"), log_file=options.work / "triton.log") as server:
        crude = tell_crude(data, server.grpc_url, report, every=4 if options.quick else 1)
        real, _ = looked_up(data, options.work / "looked_up", server.grpc_url)
        results, files = audited(options, data, server.grpc_url)
    tell_looked_up(real, report)
    tell_drawn(results, report)
    report.notes.append(f"report: {files[-1]}")
    if options.chart:
        chart(options.chart, crude, results, real)
    publish(report, options)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="the folder of data (default: AUDIT_PLUGIN_DATA)")
    made.add_argument("--work", type=Path, default=CACHE / "case_leaves", help="where everything goes")
    made.add_argument("--size", type=int, choices=SIZES, default=64, help="side of the drawn pictures")
    made.add_argument("--generator", type=Path, help="a trained generator; otherwise one is trained on the train split")
    made.add_argument("--without-generator", action="store_true", help="only the exact operators of the tree")
    made.add_argument("--device", default="cpu", help="cpu or cuda, for training")
    made.add_argument("--seconds", type=float, default=3600.0, help="most training time")
    made.add_argument("--chart", type=Path, help="write the chart to this SVG file")
    return made.parse_args(arguments)


def configured(options: argparse.Namespace, data: Path, url: str) -> Loaded:
    """docs/leaves.yaml with this run's paths and size, and with the tree on real photographs."""
    document = yaml.safe_load((ROOT / "docs" / "leaves.yaml").read_text())
    document["source"]["images"] = str((data / "images.zip").resolve())
    document["server"] |= {"url": url, "load": None}
    document["generator"]["train"]["recipe"] |= SIZES[options.size]
    document["diffex"] = {
        "domain": "tomato leaves",
        "options": {"images_per_class": 32 if options.quick else 96, "all_images": True},
    }
    path: Path = options.work / "audit.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load(path, {})


def audited(options: argparse.Namespace, data: Path, url: str) -> tuple[tuple[AuditResult, ...], tuple[Path, ...]]:
    """Results of both classifiers, and the files of the report."""
    if options.without_generator:
        loaded = leaves_tree.configured(data, options.work, url, 32 if options.quick else 64)
    else:
        loaded = configured(options, data, url)
        place = Path(loaded.config.generator.path)  # type: ignore[union-attr]
        if options.generator:
            shutil.copytree(options.generator, place, dirs_exist_ok=True)
        if not place.exists():
            train_generator(loaded, device=options.device, seconds=options.seconds, progress=drawn._say)
    with open_store(loaded) as store:
        installation = Installation(loaded, drawn._say)
        results = installation.audit(store)
        return results, installation.report(results, store)


def looked_up(data: Path, work: Path, url: str) -> tuple[tuple[AuditResult, ...], tuple[Path, ...]]:
    """The audit of docs/leaves.yaml with real photographs in place of drawn ones: another site is a photograph of that site with the same class."""
    work.mkdir(parents=True, exist_ok=True)
    drawn.write_table(data / "labels.csv", work / "all.csv")
    with (work / "all.csv").open(newline="") as file, (work / "table.csv").open("w", newline="") as out:
        rows = [
            row for row in csv.DictReader(file) if row["crop"] == "tomato" and row["disease"] in CLASSES and row["split"] == "test"
        ]
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    document = yaml.safe_load((ROOT / "docs" / "leaves.yaml").read_text())
    document |= {
        "audit": "leaves-looked-up",
        "generator": {"pictures": {"size": 128, "where": {"audited": ["0", "1"]}}},
        "detector": {"table": True},
    }
    document["source"]["images"] = str((data / "images.zip").resolve())
    document["server"] |= {"url": url, "load": None}
    path = work / "audit.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    loaded = load(path, {})
    with open_store(loaded) as store:
        installation = Installation(loaded, drawn._say)
        results = installation.audit(store)
        return results, installation.report(results, store)


def tell_looked_up(results: Sequence[AuditResult], report: Report) -> None:
    """Importances by real photographs, with all gates that did not pass."""
    told = drawn._report(results)
    report.tables["looked up: real photographs of the other site"] = told.rows
    report.figures |= {f"looked_up_{name}": value for name, value in told.figures.items()}
    for result in results:
        failed = [f"{gate.name} {gate.subject} {gate.status}" for gate in result.gates if gate.status.value in {"warn", "fail"}]
        report.notes.append(
            f"looked up, {result.model}: {result.state}; {result.headline} gates: {', '.join(failed) or 'all passed'}"
        )


def tell_crude(data: Path, url: str, report: Report, *, every: int = 1) -> dict[str, Answers]:
    """Tables of the painted, transplanted and cut-out backgrounds, by model."""
    test, black = (read_leaves(data, split=split, every=every) for split in ("test", "train"))
    black = black.only(black.where(disease="late_blight"))
    told, made, cut = {}, edits(test), edits(black)
    for kind in KINDS:
        target = TargetOptions(model=f"leaf_{kind}", url=url, output="probabilities", load=None)
        with TritonClassifier.connect(target) as classifier:
            told[kind] = ask(kind, classifier.predict, made)
            tell_black(ask(kind, classifier.predict, cut), black, report)
        tell_edits(told[kind], test, report)
    associate(data, report)
    return told


def tell_edits(answers: Answers, test: Leaves, report: Report) -> None:
    """Flips of every edit, and what differs between an edit and its control."""
    table = report.tables.setdefault("edits by masks", [])
    labels = test.where(disease="late_blight").astype(np.int64)
    for edit, p in answers.late_blight.items():
        share = answers.flip_share(edit)
        table.append({"model": answers.model, "edit": edit, "flips": share.value, "low": share.low, "high": share.high,
                      "called late blight": float((p > 0.5).mean()), "auroc": auroc(p, labels)})  # fmt: skip
    table = report.tables.setdefault("edits beside their controls", [])
    towards = np.where(test.where(site="GH"), 1.0, -1.0)
    for what, (edit, control) in CONTRASTS.items():
        flips, effect = answers.flips_beyond(edit, control), answers.effect(edit, control)
        row = {"model": answers.model, "what": what, **said("flips", flips), **said("log-odds", effect)}
        if what.startswith("site"):
            row |= said("towards RS", answers.towards(edit, control, towards))
        table.append(row)


def tell_black(answers: Answers, leaves: Leaves, report: Report) -> None:
    """The photographs with black backgrounds of the origin, and those of the same cell without."""
    table = report.tables.setdefault("black backgrounds of the origin (late blight, GH, train split)", [])
    cut, gh = leaves.where(black_background="1"), leaves.where(site="GH")
    for name, rows in (("black in the origin", cut & gh), ("others", ~cut & gh)):
        if not rows.any():
            continue
        for edit in ("nothing", "black", "own site's mean colour", "background of the own site"):
            beside: dict[str, Cell] = {} if edit == "nothing" else {**said("log-odds", answers.effect(edit, rows=rows))}
            table.append({"model": answers.model, "photographs": name, "n": int(rows.sum()), "background": edit,
                          "called late blight": float((answers.late_blight[edit][rows] > 0.5).mean()),
                          "log-odds": None, "log-odds low": None, "log-odds high": None, **beside})  # fmt: skip


def associate(data: Path, report: Report) -> None:
    """How much commoner black backgrounds are among late blight than among healthy leaves, in the table alone."""
    rows = [row for split in ("train", "test") for row in read_rows(data, split=split)]
    cut, ill, gh = (np.array([row[key] == value for row in rows]) for key, value in _CELLS)
    table = report.tables.setdefault("black backgrounds in the table", [])
    for where, some in (("both sites", np.ones_like(gh)), ("GH", gh), ("RS", ~gh)):
        counts = [int((cut & some & side).sum()) for side in (ill, ~ill)]
        sizes = [int((some & side).sum()) for side in (ill, ~ill)]
        share = newcombe(counts[0], sizes[0], counts[1], sizes[1])
        table.append({"where": where, "late blight": f"{counts[0]} of {sizes[0]}", "healthy": f"{counts[1]} of {sizes[1]}",
                      **said("difference", share)})  # fmt: skip


_CELLS = (("black_background", "1"), ("disease", "late_blight"), ("site", "GH"))


def said(name: str, found: Interval) -> dict[str, float]:
    """Three cells."""
    return {name: found.value, f"{name} low": found.low, f"{name} high": found.high}


def auroc(p: np.ndarray, labels: np.ndarray) -> float:
    """Of late blight."""
    scores = np.stack([1 - p, p], 1).astype(np.float64)
    return float(METRICS["auroc"].function(scores, labels, np.ones((1, len(p))))[0])


def tell_drawn(results: Sequence[AuditResult], report: Report) -> None:
    """What the audit says: importances and gates where something was drawn, the tree's nodes in any case."""
    if any(result.concepts for result in results):
        told = drawn._report(results)
        report.rows, report.figures = told.rows, report.figures | told.figures
        report.tables |= told.tables
        report.notes += told.notes
    told = leaves_tree.leaf_report(results)
    report.tables["tree on real photographs"] = told.rows
    report.figures |= told.figures
    report.notes += [note for note in told.notes if note not in report.notes]


def chart(path: Path, crude: Mapping[str, Answers], results: Sequence[AuditResult], real: Sequence[AuditResult]) -> Path:
    """Flips by crude edits, by real photographs of the other site, and by the generator's change of the site where there was one."""
    groups = []
    for edit in SHOWN:
        shares = [(kind, answers.flip_share(edit)) for kind, answers in crude.items() if edit in answers.late_blight]
        groups.append(Group(heading=edit, marks=tuple(_mark(kind, share) for kind, share in shares)))
    for heading, audits in (
        ("a real photograph of the other site and the same class", real),
        ("site changed by the generator", results),
    ):
        site = [(result.model.removeprefix("leaf_"), one) for result in audits for one in result.concepts if one.concept == "site"]
        if site:
            groups.append(Group(heading=heading, marks=tuple(_mark(kind, one.flip_rate_excess) for kind, one in site)))
    title = "Share of decisions that change, by what was done to the photograph"
    return write_chart(path, title, "share of photographs, 95 % interval", groups, KINDS)


def _mark(kind: str, share: Any) -> Mark:
    return Mark(name=kind, value=share.value, low=share.low, high=share.high, series=KINDS.index(kind))


if __name__ == "__main__":
    main()

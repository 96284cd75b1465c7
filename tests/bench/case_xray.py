"""Which of five small radiograph classifiers uses the border, and which a mark in the corner?  Their use of both is known.  No generator, no GPU.

python -m tests.bench.case_xray [--data DIR] [--quick] [--json FILE] [--markdown FILE] [--chart FILE]

``DIR`` is the folder of data with ``pneumonia-xray-28`` in it.  The classifiers are trained (a minute each), served by a real Triton and audited
by a tree of exact operators that change nothing but the frame and the corners (docs/case-studies/xray-tree.yaml).  The truth beside it comes from
the same server: every test image with the borders of images of the other class, less the same with borders of its own class.
"""

import argparse
import csv
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from audit_plugin.config import load
from audit_plugin.core.diffex_results import EffectState, NodeEffect
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.sources.images import encode_png
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.paired_mean import mean_intervals
from audit_plugin.target.options import PreprocessOptions, TargetOptions
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.wiring import Installation, open_store
from tests.bench.case_charts import Group, Mark, write_chart
from tests.bench.case_xray_models import (
    CLASSES,
    KINDS,
    Predict,
    Radiographs,
    balanced_accuracy,
    export,
    frame_mask,
    log_odds,
    marked,
    neighbours,
    read_split,
    swapped,
    train,
)
from tests.bench.report import CACHE, Report, parser, publish
from tests.fixtures.digits import DATA

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "docs" / "case-studies" / "xray-tree.yaml"
EIGHT = ((0, 0), (0, 14), (0, 27), (14, 0), (14, 27), (27, 0), (27, 14), (27, 27))
"""Border pixels that give the label away by themselves."""
DRAWS = 8
OWN = 0.8
"""Share of the audited images with swapped borders whose border is of their own class; were it all, nothing could separate the two."""
FRAME, MARK_NODE = "frame/mirrored/px_3", "mark/upper_right"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    data: Path = options.data / "pneumonia-xray-28"
    if not (data / "pneumonia_xray_28.npz").is_file():
        sys.exit(f"{data} has no pneumonia_xray_28.npz; give the folder of data as --data")
    torch.set_num_threads(1)
    learnt, test = read_split(data, "train"), read_split(data, "test")
    write_images(test, options.work)
    for kind in KINDS:
        file = options.work / f"{kind}.onnx"
        if not file.exists():
            export(train(kind, learnt, epochs=6 if options.quick else 20), file)
        write_model(options.work / "repository", f"xray_{kind}", file, CLASSES)
    report = Report(
        name="case_xray",
        question="Which classifier uses the border, and which the mark?",
        mode="quick" if options.quick else "full",
        seeds={"training": "0", "swaps": "0", "audit": "xray"},
    )
    report.figures |= pixels_alone(learnt, {"val": read_split(data, "val"), "test": test})
    with TritonServer(options.work / "repository", kit=ensure_kit(ROOT / ".kit"), log_file=options.work / "triton.log") as server:
        results, files = audited(document(server.grpc_url, images=100 if options.quick else 200), options.work)
        write_borders(test, options.work / "borders", each=60 if options.quick else 150)
        borders, more = audited(border_document(server.grpc_url), options.work / "borders")
        truth = {kind: known(kind, server.grpc_url, test, report) for kind in KINDS}
    for result in results:
        tell(result, truth[result.model.removeprefix("xray_")], report)
    tell_borders(borders, report)
    report.notes.append(f"reports: {files[-1]}, {more[-1]}")
    if options.chart:
        chart(options.chart, results, truth)
        border_chart(options.chart.with_name("xray-borders.svg"), borders)
    publish(report, options)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, default=DATA, help="the folder of data (default: AUDIT_PLUGIN_DATA)")
    made.add_argument("--work", type=Path, default=CACHE / "case_xray", help="where everything goes")
    made.add_argument("--chart", type=Path, help="write the chart to this SVG file")
    return made.parse_args(arguments)


def write_images(split: Radiographs, work: Path) -> None:
    """images.zip and table.csv of the audited rows."""
    work.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(work / "images.zip", "w") as images, (work / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "finding"])
        for at, (pixels, label) in enumerate(zip(split.pixels, split.labels, strict=True)):
            images.writestr(f"{at:04d}.png", encode_png(pixels[..., None].repeat(3, 2), synthetic=False))
            table.writerow([f"{at:04d}.png", CLASSES[label]])


def pixels_alone(learnt: Radiographs, judged: Mapping[str, Radiographs]) -> dict[str, float]:
    """Balanced accuracy of the nearest neighbours by eight border pixels: what the data give away, whatever a model does with it."""
    rows, columns = zip(*EIGHT, strict=True)
    return {
        f"eight_border_pixels_balanced_accuracy_{name}": balanced_accuracy(
            neighbours(learnt.pixels[:, rows, columns], learnt.labels, split.pixels[:, rows, columns]), split.labels
        )
        for name, split in judged.items()
    }


def document(url: str, *, images: int, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """What a user without a generator would write."""
    return {
        "version": 1,
        "audit": "xray",
        "source": {"images": "images.zip", "table": "table.csv", "image_column": "file", "label_columns": ["finding"]},
        "bank": {"path": "bank"},
        "server": {"url": url, "load": None},
        "models": [
            {"model": f"xray_{kind}", "label": "finding", "positive": "pneumonia", "preprocess": {"channels": "GREY"}}
            for kind in kinds
        ],
        "diffex": {"tree": str(TREE), "default": False, "options": {"images_per_class": images}},
        "store": "audit.sqlite",
        "report": ".",
    }


def audited(wanted: Mapping[str, Any], work: Path) -> tuple[tuple[AuditResult, ...], tuple[Path, ...]]:
    """Results of all classifiers, and the files of the report."""
    path = work / "audit.yaml"
    path.write_text(yaml.safe_dump(dict(wanted), sort_keys=False), encoding="utf-8")
    loaded = load(path, {})
    with open_store(loaded) as store:
        installation = Installation(loaded, lambda *_: None)
        results = installation.audit(store)
        return results, installation.report(results, store)


def write_borders(split: Radiographs, work: Path, *, each: int) -> None:
    """Tables of ``each`` images of either class with two borders: of a random image of either class.  One of the two is audited, that of
    its own class in :data:`OWN` of the images.
    """
    rng, frame = np.random.default_rng(0), frame_mask()
    work.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(work / "images.zip", "w") as images, (work / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "image", "finding", "border", "audited"])
        for label in range(len(CLASSES)):
            for at in rng.choice(np.flatnonzero(split.labels == label), each, replace=False).tolist():
                audited_border = label if rng.random() < OWN else 1 - label
                for border in range(len(CLASSES)):
                    pool = np.flatnonzero((split.labels == border) & (np.arange(len(split.labels)) != at))
                    made = np.where(frame, split.pixels[rng.choice(pool)], split.pixels[at])
                    name = f"{at:04d}-{CLASSES[border]}.png"
                    images.writestr(name, encode_png(made[..., None].repeat(3, 2), synthetic=False))
                    table.writerow([name, f"{at:04d}", CLASSES[label], CLASSES[border], int(border == audited_border)])


def border_document(url: str, *, kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    """What a user would write who has made such pictures: they are looked up, nothing is drawn."""
    concepts = [{"name": "border", "role": "artefact", "levels": {level: f"a border of {level}" for level in CLASSES}}]
    return {
        "version": 1,
        "audit": "xray-borders",
        "source": {
            "images": "images.zip", "table": "table.csv", "image_column": "file", "unit_column": "image", "label_columns": ["finding"],
            "where": {"audited": "1"},
        },
        "concepts": concepts,
        "template": "a radiograph with {border}",
        "generator": {"pictures": {"size": 28, "same_unit": True, "where": {"audited": ["0", "1"]}}},
        "detector": {"table": True},
        "server": {"url": url, "load": None},
        "models": [
            {"model": f"xray_{kind}", "label": "finding", "positive": "pneumonia", "preprocess": {"channels": "GREY"}} for kind in kinds
        ],
        "store": "audit.sqlite",
        "report": ".",
    }  # fmt: skip


def known(kind: str, url: str, test: Radiographs, report: Report) -> dict[tuple[str, str], Interval]:
    """(Node, class) -> true change of the class's log-odds, measured on the served model itself by other means than the audit's."""
    target = TargetOptions(model=f"xray_{kind}", url=url, load=None, preprocess=PreprocessOptions(channels="GREY"))
    with TritonClassifier.connect(target) as classifier:

        def predict(pixels: np.ndarray) -> np.ndarray:
            return classifier.predict(np.repeat(pixels[:, None].astype(np.float32) / 255, 3, 1))

        plain = predict(test.pixels)
        report.figures[f"balanced_accuracy_{kind}"] = balanced_accuracy(plain.argmax(1), test.labels)
        borders = [_mean(predict, swapped(test, other=other, draws=DRAWS)) for other in (True, False)]
        marks = log_odds(predict(marked(test.pixels))) - log_odds(plain)
    sign = np.where(test.labels == 1, 1, -1)
    changes = {FRAME: (borders[0] - borders[1]) * sign, MARK_NODE: marks * sign}
    return {
        (node, name): mean_intervals(change[test.labels == at], np.random.default_rng(0)).interval
        for node, change in changes.items()
        for at, name in enumerate(CLASSES)
    }


def _mean(predict: Predict, made: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean([log_odds(predict(pixels)) for pixels in made], 0))


def tell(result: AuditResult, truth: Mapping[tuple[str, str], Interval], report: Report) -> None:
    """Rows of one classifier: every node on every class, its known effect beside it."""
    assert result.diffex is not None, "a tree was asked about"
    for effects in result.diffex.classes:
        for node in sorted(effects.nodes, key=lambda one: one.node):
            real = truth.get((node.node, effects.class_name))
            report.rows.append(
                {
                    "model": result.model, "class": effects.class_name, "node": node.node, "images": node.images,
                    "effect": None if node.effect is None else node.effect.value,
                    "low": None if node.effect is None else node.effect.low,
                    "high": None if node.effect is None else node.effect.high,
                    "state": node.state.value, "flips": None if node.flip_rate is None else node.flip_rate.value,
                    "spuriousness": node.spuriousness,
                    "known": None if real is None else real.value,
                    "known low": None if real is None else real.low,
                    "known high": None if real is None else real.high,
                }
            )  # fmt: skip
            if node.node in {FRAME, MARK_NODE} and node.effect is not None:
                report.figures[f"{node.node.split('/')[0]}_{result.model}_{effects.class_name}"] = node.effect.value
    found = [node for effects in result.diffex.classes for node in effects.nodes if node.state is EffectState.EFFECT]
    report.figures[f"nodes_with_effect_{result.model}"] = float(len(found))
    report.figures[f"findings_{result.model}"] = float(len(result.findings))
    report.notes.append(f"{result.model}: {result.state}; {result.headline}")
    report.notes += [f"{result.model}: finding {finding.severity}: {finding.summary}" for finding in result.findings]


def tell_borders(results: Sequence[AuditResult], report: Report) -> None:
    """Importance of the border by swapped borders, for every classifier."""
    table = report.tables.setdefault("borders swapped: pictures that exist, looked up", [])
    for result in results:
        for one in result.concepts:
            flips = one.flip_rate
            table.append(
                {
                    "model": result.model, "concept": one.concept, "verdict": one.verdict.value, "importance": one.importance.value,
                    "low": one.importance.low, "high": one.importance.high, "flips": flips.value, "flips low": flips.low,
                    "flips high": flips.high, "rows": one.n_rows,
                }
            )  # fmt: skip
            report.figures[f"{one.concept}_importance_{result.model}"] = one.importance.value
        failed = [f"{gate.name} {gate.subject} {gate.status}" for gate in result.gates if gate.status.value in {"warn", "fail"}]
        report.notes.append(
            f"borders, {result.model}: {result.state}; {result.headline} findings: {len(result.findings)}; gates: "
            f"{', '.join(failed) or 'all passed'}"
        )


def chart(path: Path, results: Sequence[AuditResult], truth: Mapping[str, Mapping[tuple[str, str], Interval]]) -> Path:
    """Frame and mark, by model and class."""
    groups = []
    for heading, path_of_node in (
        ("frame of 3 px mirrored from inside (diamond: borders swapped between classes)", FRAME),
        ("white mark at the upper right (diamond: mark drawn on every test image)", MARK_NODE),
    ):
        marks = tuple(
            Mark(
                name=f"{result.model.removeprefix('xray_')}, {name}",
                value=node.effect.value, low=node.effect.low, high=node.effect.high, series=KINDS.index(result.model.removeprefix("xray_")),
                truth=truth[result.model.removeprefix("xray_")][path_of_node, name].value,
            )
            for result in results
            for name, node in _nodes(result, path_of_node)
            if node.effect is not None
        )  # fmt: skip
        groups.append(Group(heading=heading, marks=marks))
    title = "What changes of frame and corner do to the class that an image shows"
    return write_chart(path, title, "change of the class's log-odds, 95 % interval", groups, KINDS)


def border_chart(path: Path, results: Sequence[AuditResult]) -> Path:
    """Importance of the border and decisions that change with it, by swapped borders."""
    found = [(result.model.removeprefix("xray_"), one) for result in results for one in result.concepts]
    groups = [
        Group(
            heading=heading,
            marks=tuple(
                Mark(name=kind, value=each.value, low=each.low, high=each.high, series=KINDS.index(kind))
                for kind, each in ((kind, one.importance if at == 0 else one.flip_rate) for kind, one in found)
            ),
        )
        for at, heading in enumerate(
            ("fall of the AUROC when borders are shuffled", "decisions that another class's border changes")
        )
    ]
    return write_chart(path, "Reliance on the border, by exact swaps of borders", "95 % interval", groups, KINDS)


def _nodes(result: AuditResult, path: str) -> list[tuple[str, NodeEffect]]:
    classes = () if result.diffex is None else result.diffex.classes
    return [(effects.class_name, node) for effects in classes for node in effects.nodes if node.node == path]


if __name__ == "__main__":
    main()

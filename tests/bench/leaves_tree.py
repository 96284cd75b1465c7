"""Which deterministic changes of real leaf photographs move two real classifiers?  No generator, no concepts, no GPU.

python -m tests.bench.leaves_tree --data DIR [--quick] [--json FILE] [--markdown FILE]

``DIR`` is that of ``tests.bench.leaves``.  The classifiers are served by a real Triton; the photographs of the test split are edited by
the default tree's operators: picture quality, geometry, occlusion, artefacts, local light.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from audit_plugin.config import Loaded, load
from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.wiring import Installation, open_store
from tests.bench.leaves import CLASSES, KINDS, ROOT, write_table
from tests.bench.report import CACHE, Report, parser, publish


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="directory with photographs, labels and classifiers")
    made.add_argument("--work", type=Path, default=CACHE / "leaves_tree", help="where everything goes")
    options = made.parse_args(arguments)
    if not (options.data / "labels.csv").is_file():
        sys.exit(f"{options.data} has no labels.csv")
    results, files = audit_leaves(options.data, options.work, images=64 if options.quick else 128)
    report = leaf_report(results)
    report.mode = "quick" if options.quick else "full"
    report.notes.append(f"report: {files[-1]}")
    publish(report, options)


def audit_leaves(
    data: Path, work: Path, *, images: int, kit: Path = ROOT / ".kit"
) -> tuple[tuple[AuditResult, ...], tuple[Path, ...]]:
    """The results of both classifiers, and the files of the report."""
    work.mkdir(parents=True, exist_ok=True)
    write_table(data / "labels.csv", work / "table.csv")
    for kind in KINDS:
        write_model(work / "repository", f"leaf_{kind}", data / f"leaf_healthy_vs_late_blight_{kind}.onnx", CLASSES)
    with TritonServer(work / "repository", kit=ensure_kit(kit), log_file=work / "triton.log") as server:
        loaded = configured(data, work, server.grpc_url, images)
        with open_store(loaded) as store:
            installation = Installation(loaded, lambda *_: None)
            results = installation.audit(store)
            return results, installation.report(results, store)


def configured(data: Path, work: Path, url: str, images: int) -> Loaded:
    """What a user without a generator would write."""
    document = {
        "version": 1,
        "audit": "leaves-tree",
        "source": {
            "images": str((data / "images.zip").resolve()),
            "table": "table.csv",
            "image_column": "file",
            "label_columns": ["disease"],
            "where": {"split": "test", "audited": "1"},
        },
        "bank": {"path": "bank"},
        "server": {"url": url, "load": None},
        "models": [
            {"model": f"leaf_{kind}", "label": "disease", "positive": "late_blight", "output": "probabilities"} for kind in KINDS
        ],
        "diffex": {"domain": "tomato leaves", "options": {"images_per_class": images, "all_images": True}},
        "store": "audit.sqlite",
        "report": ".",
    }
    path = work / "audit.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load(path, {})


def leaf_report(results: Sequence[AuditResult]) -> Report:
    """Every estimated node of every model."""
    report = Report(
        name="leaves_tree",
        question="Which deterministic changes of real photographs move two leaf classifiers?",
        seeds={"audit": "leaves-tree"},
    )
    for result in results:
        told = result.diffex
        if told is None:
            continue
        for effects in told.classes:
            report.rows += [
                {
                    "model": result.model,
                    "node": node.node,
                    "kind": node.kind.value,
                    "images": node.images,
                    "effect": None if node.effect is None else node.effect.value,
                    "low": None if node.effect is None else node.effect.low,
                    "high": None if node.effect is None else node.effect.high,
                    "state": node.state.value,
                    "flips": None if node.flip_rate is None else node.flip_rate.value,
                }
                for node in effects.nodes
            ]
            found = [node for node in effects.nodes if node.state is EffectState.EFFECT]
            report.figures[f"nodes_with_effect_{result.model}"] = float(len(found))
            report.figures[f"images_{result.model}"] = float(effects.images_estimate)
        report.figures[f"edits_{result.model}"] = float(told.edits)
        report.figures[f"seconds_{result.model}"] = result.provenance.seconds["tree"]
        report.notes.append(f"{result.model}: {result.state}; {result.headline}")
    return report


if __name__ == "__main__":
    main()

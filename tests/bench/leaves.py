"""Does the audit find the capture site on real leaf photographs, for the confounded classifier and only for it?

python -m tests.bench.leaves --data DIR [--device cuda] [--seconds N] [--generator DIR] [--json FILE] [--markdown FILE]

``DIR`` holds PlantVillage photographs as images.zip, labels.csv (file, crop, disease, site, split, black_background) and the two
classifiers as leaf_healthy_vs_late_blight_{confounded,balanced}.onnx.  The audited rows are the test split as it would be delivered
by the fields that the confounded classifier learnt from: healthy from GH and late blight from RS, and 16 photographs of each other cell.
"""

import argparse
import csv
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from audit_plugin.config import Loaded, load
from audit_plugin.core.results import AuditResult
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.wiring import Installation, open_store, train_generator
from tests.bench.report import CACHE, Cell, Report, parser, publish

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("healthy", "late_blight")
KINDS = ("confounded", "balanced")
USUAL = {("healthy", "GH"), ("late_blight", "RS")}
UNUSUAL_ROWS = 16
SECONDS_CPU = 4 * 3600.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _options(arguments)
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    write_table(options.data / "labels.csv", work / "table.csv")
    for kind in KINDS:
        model = options.data / f"leaf_healthy_vs_late_blight_{kind}.onnx"
        write_model(work / "repository", f"leaf_{kind}", model, CLASSES)
    with TritonServer(work / "repository", kit=ensure_kit(ROOT / ".kit"), log_file=work / "triton.log") as server:
        loaded = _configured(options, server.grpc_url)
        if not Path(loaded.config.generator.path).exists():
            train_generator(loaded, device=options.device, seconds=options.seconds, progress=_say)
        with open_store(loaded) as store:
            installation = Installation(loaded, _say)
            results = installation.audit(store)
            installation.report(results, store)
        seconds = {name: value for result in results for name, value in result.provenance.seconds.items()}
    report = _report(results)
    report.figures |= {"rows": float(results[0].n_rows), "audit_seconds": seconds["score"] + seconds["estimate"]}
    report.notes.append(_trained(Path(loaded.config.generator.path)))
    publish(report, options)


def write_table(labels: Path, table: Path) -> None:
    """The table of the photographs with a column ``audited``: 1 for tomato leaves on uncut backgrounds, thinned in the test split."""
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chance = random.Random(0)
    cells: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        wanted = row["crop"] == "tomato" and row["disease"] in CLASSES and row["site"] in {"RS", "GH"}
        row["audited"] = str(int(wanted and row["split"] == "train" and row["black_background"] == "0"))
        if wanted and row["split"] == "test":
            cells.setdefault((row["disease"], row["site"]), []).append(row)
    for cell, members in cells.items():
        for row in members if cell in USUAL else chance.sample(members, UNUSUAL_ROWS):
            row["audited"] = "1"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="directory with photographs, labels and classifiers")
    made.add_argument("--work", type=Path, default=CACHE / "leaves", help="where everything goes")
    made.add_argument("--generator", type=Path, help="a trained generator; otherwise one is trained on the train split")
    made.add_argument("--device", default="cpu", help="cpu or cuda, for training")
    made.add_argument("--seconds", type=float, default=SECONDS_CPU, help="most training time")
    options = made.parse_args(arguments)
    if not (options.data / "labels.csv").is_file():
        sys.exit(f"{options.data} has no labels.csv")
    return options


def _configured(options: argparse.Namespace, url: str) -> Loaded:
    """The documented configuration with this run's paths."""
    document = yaml.safe_load((ROOT / "docs" / "leaves.yaml").read_text())
    document["source"]["images"] = str((options.data / "images.zip").resolve())
    document["server"] |= {"url": url, "load": None}
    if options.generator:
        shutil.copytree(options.generator, options.work / "generator", dirs_exist_ok=True)
    path = options.work / "audit.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load(path)


def _report(results: Sequence[AuditResult]) -> Report:
    report = Report(
        name="leaves",
        question="Is the capture site found where it is used, and only there?",
        seeds={"rows": "0", "audit": "leaves"},
    )
    for result in results:
        report.rows += [_row(result, concept.concept) for concept in result.concepts]
        report.tables[f"gates of {result.model}"] = [
            {
                "gate": gate.name,
                "subject": gate.subject,
                "status": gate.status.value,
                "value": gate.value,
                "low": gate.low,
                "high": gate.high,
            }
            for gate in result.gates
        ]
        site = next(concept for concept in result.concepts if concept.concept == "site")
        report.figures[f"site_importance_{result.model}"] = site.importance.value
        report.figures[f"site_flip_rate_excess_{result.model}"] = site.flip_rate_excess.value
        report.notes.append(f"{result.model}: {result.state}; {result.headline}")
    return report


def _trained(generator: Path) -> str:
    """How the generator came about, from its own training record."""
    record = json.loads((generator / "training.json").read_text())
    spent = record["spent"]
    parts = ", ".join(
        f"{part} {spent[part]['steps']} steps in {spent[part]['seconds']:.0f} s" for part in ("autoencoder", "diffusion")
    )
    return f"generator: trained on {record['images']} photographs of the train split, {parts}, on {spent['device']}, torch {spent['torch']}."


def _row(result: AuditResult, name: str) -> dict[str, Cell]:
    concept = next(concept for concept in result.concepts if concept.concept == name)
    return {
        "model": result.model,
        "concept": name,
        "verdict": concept.verdict.value,
        "importance": concept.importance.value,
        "low": concept.importance.low,
        "high": concept.importance.high,
        "flip_rate_excess": concept.flip_rate_excess.value,
        "auroc_real": result.real_score,
        "auroc_generated": result.generated_score,
        "state": result.state.value,
    }


def _say(done: int, total: int, what: str) -> None:
    if done == total:
        print(f"{what}: {total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

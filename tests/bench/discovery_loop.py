"""Does the loop end with an alert that names a shortcut nobody listed?  `python -m tests.bench.discovery_loop [--quick]`.

A planted classifier on a real Triton, labelled scenes, and concepts without the one that it was trained on (the shipped concept tree has
none that says it either).  The commands of a user: `audit-plugin discover --accept`, which draws, tests, puts nodes into the tree and audits with
them on the real images; then the service's metrics, a real Prometheus with the shipped rules, and what fires.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from audit_plugin.config import load
from audit_plugin.core.discovery_results import Discovery
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.planted import CLASSES
from audit_plugin.demo.prometheus import Alerts
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import ASSETS, onnx_path
from audit_plugin.demo.world import World
from audit_plugin.report.document import read_report
from audit_plugin.sources.scenes import CONCEPTS, TEMPLATE
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.bench.scenes_bank import Say
from tests.fixtures.alarms import alerts_of

MODELS = ("snowman_alone", "snowman_and_lighting", "shape_clean")
HIDDEN = "snowman"
"""The concept that nobody listed.  The shipped tree has no snowman."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__).parse_args(arguments)
    report = Report(
        name="discovery_loop",
        question="Does the loop end with an alert that names a shortcut nobody listed?",
        mode="quick" if options.quick else "full",
        seeds={"audit": "scenes"},
    )
    world = World(out=CACHE / "discovery_loop")
    world.out.mkdir(parents=True, exist_ok=True)
    world.write_scenes(80 if options.quick else 150)
    for model in MODELS:
        for made in ("sqlite", "yaml"):
            (world.out / f"{model}.{made}").unlink(missing_ok=True)  # nothing is known or listed; pictures are kept
        write_model(world.out / "models", model, onnx_path(model), CLASSES)
    with TritonServer(world.out / "models", kit=ensure_kit(), log_file=world.out / "server.log") as server:
        for model in MODELS:
            world.config.write_text(_configuration(world, server.grpc_url, model, quick=options.quick), encoding="utf-8")
            begun = time.monotonic()
            found = _discover(world)
            report.rows.append(_row(model, found, alerts_of(world.config, world.out / "service"), world, time.monotonic() - begun))
            Say()(len(report.rows), len(MODELS), model)
    report.figures = {
        "named_by_an_alert": float(sum(bool(row["alerts"]) for row in report.rows if row["knows it"])),
        "should_be": float(sum(bool(row["knows it"]) for row in report.rows)),
        "alerts_about_others": float(sum(row["alerts"] != "" for row in report.rows if not row["knows it"])),
    }
    report.notes += [
        f"- concepts of the configuration: all of the scenes but {HIDDEN}, which neither they nor the shipped tree say",
        "- on real images: what removing or adding it does to the log-odds of the class, on the images that the audit was given",
        "- alerts: what fires about a node that was discovered, by its name",
    ]
    publish(report, options)


def _configuration(world: World, url: str, model: str, *, quick: bool) -> str:
    assets, kept = os.path.relpath(ASSETS, world.out), [one for one in CONCEPTS if one.name != HIDDEN]
    return yaml.safe_dump(
        {
            "version": 1,
            "audit": "scenes",
            "source": {"images": "scenes", "table": "labels.csv", "image_column": "file", "label_columns": ["label"]},
            "template": TEMPLATE.replace(f"{{{HIDDEN}}}", ""),
            "concepts": [
                {"name": one.name, "role": one.role.value, "levels": dict(zip(one.levels, one.phrases, strict=True))}
                for one in kept
            ],
            "placebo_words": ["photo", "picture"],
            "generator": {"path": f"{assets}/generator", "solver": 4},
            "detector": {"path": f"{assets}/detector/scenes.onnx"},
            "bank": {"path": "bank"},
            "diffex": {
                "options": {
                    "images_per_class": 32,
                    "all_images": True,
                    "placebos": ["photo"],
                    "seed_pilot": 0,
                    "race": {"keep": 12},
                    "dose_images": 0,
                    "combine": {"size": 1},
                }
            },
            "discover": {
                "classes": [CLASSES[1]],
                "objects": {CLASSES[1]: "triangle"},
                "tree": f"{model}.yaml",
                "options": {"pairs": 60, "verify": 60} if quick else {},
            },
            "server": {"url": url, "load": None},
            "models": [{"model": model, "label": "label", "positive": CLASSES[1]}],
            "store": f"{model}.sqlite",
            "report": model,
        },
        sort_keys=False,
    )


def _discover(world: World) -> Discovery:
    """By the commands; where no node was accepted the audit is asked for by itself."""
    report = Path(load(world.config).config.report)
    shutil.rmtree(report, ignore_errors=True)
    _command("discover", str(world.config), "--accept")
    if not report.is_dir():
        _command("run", str(world.config))
    found = read_report(report).results[0].discovery
    assert found is not None
    return found


def _command(*words: str) -> None:
    told = subprocess.run([Path(sys.executable).with_name("audit-plugin"), *words], capture_output=True, text=True, check=False)
    if told.returncode not in {0, 1}:  # 1: something was found
        raise SystemExit(told.stderr)


def _row(model: str, found: Discovery, alerts: Alerts, world: World, seconds: float) -> dict[str, Cell]:
    said = [(alert["alert"], alert.get("node") or alert.get("word", "")) for alert in alerts.firing if alert.get("model") == model]
    told = sorted({f"{name} {about}" for name, about in said if HIDDEN in about})
    result = read_report(Path(load(world.config).config.report)).results[0]
    effects = [
        f"{node.node} {node.effect.value:+.2f} [{node.effect.low:.2f}, {node.effect.high:.2f}]"
        for one in (result.diffex.classes if result.diffex else ())
        for node in one.nodes
        if HIDDEN in node.node and node.effect is not None
    ]
    return {
        "classifier": model,
        "knows it": HIDDEN in model,
        "words": ", ".join(word.word for _, word in found.causes) or "none",
        "proposed": ", ".join(node.path for node in found.proposed) or "none",
        "on real images": ", ".join(dict.fromkeys(effects)) or "none",
        "alerts": ", ".join(told),
        "evaluated by": alerts.evaluated_by,
        "seconds": round(seconds),
    }


if __name__ == "__main__":
    main()

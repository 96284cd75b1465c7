"""A small installation to audit with: scenes in a folder, their table, a configuration, and the commands of the auditor."""

import csv
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from typer.testing import CliRunner

from audit_plugin.cli.app import app
from audit_plugin.demo.planted import AUDIT_LAW, CLASSES
from audit_plugin.demo.renderer import SceneRenderer
from audit_plugin.sources.images import encode_png
from audit_plugin.sources.scenes import CONCEPTS, PLACEBO_WORDS, TEMPLATE, draw_values, render

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "audit_plugin" / "demo" / "assets"
NOWHERE = "127.0.0.1:9"
"""Nothing listens on the discard port."""
TRUTH = CONCEPTS[0], CONCEPTS[3], CONCEPTS[4]
"""Shape, background and ruler: enough for a small audit; the other concepts stay at their first level."""


class RenderedGenerator(SceneRenderer):
    """The renderer in place of the engine: what a test asks for is what is drawn, at once.  One evaluation an image, to count them."""

    evaluations_per_image = 1
    backend = ("renderer", "drawn by the renderer")

    savings = ()
    engines = ()
    workers = 1

    def __init__(self, _options: object = None, **_: object) -> None:
        """Takes the options of the engine that it stands for."""

    def reference(self) -> None:
        """It is its own."""


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Site:
    """One installation below a folder."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "audit.yaml"

    def pictures(self) -> list[tuple[Any, ...]]:
        """Recipe and sha256 of every picture in the bank."""
        return rows_of(self.folder / "bank" / "bank.sqlite", "SELECT recipe, sha256 FROM images")

    def scores(self) -> list[tuple[Any, ...]]:
        """Target, sha256 and vector of every score."""
        return rows_of(self.folder / "audit.sqlite", "SELECT target, sha256, vector FROM scores")

    def run(self, *command: str) -> Answer:
        """A command with this configuration, in this process."""
        return cli(*command, str(self.config))

    def document(self) -> dict[str, Any]:
        return yaml.safe_load(self.config.read_text())

    def change(self, **sections: Any) -> "Site":
        """Merge sections into the configuration; None takes a key out."""
        self.config.write_text(yaml.safe_dump(merged(self.document(), sections), sort_keys=False))
        return self


def cli(*arguments: str) -> Answer:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(old)
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return {key: value for key, value in result.items() if value is not None}


def make_site(folder: Path, rows: int, **sections: Any) -> Site:
    """Scenes whose shape decides the class and whose background and ruler mostly go with it, and a configuration for them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenes").mkdir()
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", *(concept.name for concept in TRUTH)])
        table.writerows(_scenes(folder / "scenes", rows))
    site = Site(folder)
    site.config.write_text(yaml.safe_dump(merged(_document(), sections), sort_keys=False))
    return site


def _scenes(folder: Path, rows: int) -> Iterator[list[str]]:
    values = draw_values(rows, AUDIT_LAW, np.random.default_rng(5))
    values[:, [at for at, concept in enumerate(CONCEPTS) if concept not in TRUTH]] = 0
    for at, row in enumerate(values.tolist()):
        (folder / f"{at}.png").write_bytes(encode_png(render(at, row), synthetic=False))
        levels = {concept: concept.levels[value] for concept, value in zip(CONCEPTS, row, strict=True)}
        yield [f"{at}.png", CLASSES[levels[CONCEPTS[0]] == "triangle"], *(levels[concept] for concept in TRUTH)]


def _document() -> dict[str, Any]:
    concepts = [{"name": c.name, "role": str(c.role), "levels": dict(zip(c.levels, c.phrases, strict=True))} for c in TRUTH]
    fixed = {concept.name: concept.phrases[0] for concept in CONCEPTS if concept not in TRUTH}
    open_template = {concept.name: f"{{{concept.name}}}" for concept in TRUTH}
    return {
        "version": 1,
        "audit": "end-to-end",
        "source": {"images": "scenes", "table": "table.csv"},
        "concepts": concepts,
        "template": TEMPLATE.format(**fixed, **open_template),
        "placebo_words": list(PLACEBO_WORDS),
        "generator": {"path": "generator", "backend": "torch", "threads": 1},
        "detector": {"path": str(ASSETS / "detector" / "scenes.onnx")},
        "bank": {"plan": {"placebo_rows": 100, "replicate_rows": 5}},
        "server": {"url": NOWHERE, "retries": 0, "deadline_seconds": 5, "load": None},
        "models": [
            {"model": "shape_background_100", "label": "label", "positive": "positive"},
            {"model": "shape_clean", "label": "label", "positive": "positive"},
        ],
        "policy": {
            "name": "small",
            "thresholds": [
                {"name": "none", "owner": "tests", "reason": "few rows", "date": "2026-11-22", "minimum_n": 10},
            ],
        },
        "analysis": {
            "resamples": 300,
            "adjusted_resamples": 20,
            "gates": {"rows_per_level": [4, 2], "cautious": False},
        },
    }


def rows_of(file: Path, query: str) -> list[tuple[Any, ...]]:
    """What a SQLite file answers; nothing where there is no such file or table yet."""
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

"""What a user would bring: labelled pictures, a table, a model repository and one configuration file.  Here it is scenes."""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import ConfigError
from audit_plugin.demo.planted import AUDIT_LAW, CLASSES
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.truth import ASSETS, PLANTED, onnx_path, read_truth
from audit_plugin.sources.images import encode_png
from audit_plugin.sources.scenes import CONCEPTS, PLACEBO_WORDS, TEMPLATE, draw_values, render
from audit_plugin.studios import LOCK_NAME

MODELS = ("shape_clean", "shape_background_100")
"""One that looks at the shape, one that was trained where the background betrays the answer."""
CHECKOUT = Path(__file__).parents[2]
_TRIES = 2_000
_ENOUGH = 60
"""Rows from which on pictures are explained as well; fewer are for trying things out."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Where everything of one demonstration lies."""

    out: Path

    @property
    def scenes(self) -> Path:
        """Pictures of the evaluation set."""
        return self.out / "scenes"

    @property
    def table(self) -> Path:
        """Their labels and concepts."""
        return self.out / "labels.csv"

    @property
    def config(self) -> Path:
        """What ``audit-plugin`` commands take."""
        return self.out / "audit.yaml"

    def write_scenes(self, rows: int) -> None:
        """Render the evaluation set: ``rows`` pictures and the table that describes them."""
        shutil.rmtree(self.scenes, ignore_errors=True)
        self.scenes.mkdir(parents=True)
        values = balanced_values(rows)
        shape = [concept.name for concept in CONCEPTS].index("shape")
        with self.table.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "label", *(concept.name for concept in CONCEPTS)])
            for at, asked in enumerate(values.tolist()):
                name = f"scene-{at:04d}.png"
                (self.scenes / name).write_bytes(encode_png(render(at, asked), synthetic=False))
                levels = [concept.levels[value] for concept, value in zip(CONCEPTS, asked, strict=True)]
                table.writerow([name, CLASSES[levels[shape] == "triangle"], *levels])

    @property
    def rows(self) -> int:
        """Pictures in the table."""
        return len(self.table.read_text(encoding="utf-8").splitlines()) - 1

    def write_config(self, url: str) -> None:
        """The configuration, as a user would write it."""
        self.config.write_text(
            configuration(self.out, url, {name: known_truth(name) for name in MODELS}, self.rows), encoding="utf-8"
        )
        self._lend_pilot()

    def _lend_pilot(self) -> None:
        """How strongly the shipped generator must edit was found when it was shipped; for another one the note is ignored."""
        shipped, own = ASSETS / LOCK_NAME, self.out / "bank" / LOCK_NAME
        if shipped.is_file() and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shipped, own)

    def repository(self) -> Path:
        """``triton_repo`` of the checkout; outside one, the same two models written below ``out``."""
        shipped = CHECKOUT / "triton_repo"
        if all((shipped / name / "config.pbtxt").is_file() for name in MODELS):
            return shipped
        for name in MODELS:
            write_model(self.out / "triton_repo", name, onnx_path(name, PLANTED), CLASSES)
        return self.out / "triton_repo"


def balanced_values(rows: int) -> NDArray[np.int64]:
    """Concept values ``(rows, concepts)`` from ``AUDIT_LAW``: the first draw in which every level has a fifth of the rows."""
    best, most = np.zeros((0, len(CONCEPTS)), np.int64), -1
    for seed in range(_TRIES):
        values = draw_values(rows, AUDIT_LAW, np.random.default_rng(seed))
        fewest = min(int((values[:, j] == v).sum()) for j, concept in enumerate(CONCEPTS) for v in range(len(concept.levels)))
        if fewest > most:
            best, most = values, fewest
        if most >= rows // 5:
            break
    return best


def known_truth(name: str) -> dict[str, float]:
    """Concept -> importance measured with the renderer; empty when it was not measured."""
    try:
        return {concept: round(value, 4) for concept, value in read_truth(name).importance.items()}
    except ConfigError:
        return {}


def configuration(out: Path, url: str, truths: Mapping[str, Mapping[str, float]], rows: int = 150) -> str:
    """The YAML text; paths are relative to ``out``.  Of few rows fewer nodes of the concept tree are estimated."""
    q = json.dumps
    assets = os.path.relpath(ASSETS, out)
    models = "\n".join(_model(name, truth) for name, truth in truths.items())
    return f"""\
# Written by `audit-plugin demo`; a configuration of your own has the same keys.
# Check it with `audit-plugin config check`, check what it names with `audit-plugin doctor`.
version: 1
audit: scenes                     # the seeds of all pictures follow from this name

source:                           # labelled real pictures: the evaluation set
  images: scenes                  # directory, zip file or object-store URL
  table: labels.csv               # one line per picture: file, label, one column per concept
  image_column: file
  label_columns: [label]

template: {q(TEMPLATE)}
concepts:                         # what a model may rely on.  level: words in the caption
{_concepts()}
placebo_words: [{", ".join(PLACEBO_WORDS)}]   # a change of caption that must change nothing

generator:                        # a diffusers directory; your own comes from `audit-plugin generator train`
  path: {q(f"{assets}/generator")}
  solver: 4                       # half the evaluations for nearly the same pictures; every model is asked whether it sees a difference
detector:                         # judges what the pictures show, independently of generator and audited model
  path: {q(f"{assets}/detector/scenes.onnx")}
bank: {{path: bank}}                # pictures are drawn once and kept here

diffex:                           # what moves the scores when it alone is changed in the real pictures themselves
  options:
    images_per_class: {min(32, max(2, (rows - 16) // 4))}          # half search, half estimate; 128 and more where time allows
    all_images: true              # of two classes one mirrors the other, so both kinds of picture count
    placebos: [photo]
    seed_pilot: 0
    race: {{keep: {min(12, 1 + rows // 8)}}}              # nodes that are estimated
    dose_images: 8                # pictures on which the strongest are tried at other strengths
    combine: {{size: 1}}            # 3 also changes up to three things together
{_explain(truths, assets) if rows >= _ENOUGH else ""}
server:                           # gRPC endpoint; TLS, tokens and restricted protocols go here too
  url: "{url}"
  load: null                      # this server has no customers; without this line 20 requests and 32 pictures a second, and none while others wait
models:
{models}

store: audit.sqlite               # results; a PostgreSQL URL works as well
report: .                         # directory of report.html, report.json and model_card.md
"""


def _explain(models: Iterable[str], assets: str) -> str:
    files = "\n".join(f"    {name}: {{file: {json.dumps(f'{assets}/planted/{name}.onnx')}}}" for name in models)
    return f"""
explain:                          # pictures that the models decide otherwise about; a few, for figures take hundreds
  images: 4
  signal: 0.45                    # how much of a picture an edit keeps at its start; found for every model where it is left out
  kept: 30
  bisections: 0
  free: 2
  paths: 4
  gradients:                      # the files that the server runs; without them guidance goes by scores alone
{files}
"""


def _concepts() -> str:
    lines = []
    for concept in CONCEPTS:
        levels = ", ".join(f"{level}: {json.dumps(phrase)}" for level, phrase in zip(concept.levels, concept.phrases, strict=True))
        lines.append(f"  - {{name: {concept.name}, role: {concept.role}, levels: {{{levels}}}}}")
    return "\n".join(lines)


def _model(name: str, truth: Mapping[str, float]) -> str:
    lines = [f"  - model: {name}", "    label: label", "    positive: positive"]
    if truth:
        known = ", ".join(f"{concept}: {value}" for concept, value in truth.items())
        lines.append(f"    truth: {{{known}}}   # only planted models have one")
    return "\n".join(lines)

"""``audit-plugin init``: a first configuration, filled with what the table and the server say of themselves."""

import csv
import json
from collections import Counter
from pathlib import Path

from audit_plugin.core.errors import AuditError, TableError
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier

_MOST_LEVELS = 6
"""A column with more different cells is no concept."""


def starter(*, table: str, images: str, url: str, model: str) -> tuple[str, list[str]]:
    """The YAML text, and notes on what could not be found out."""
    columns, notes = _columns(table), list[str]()
    labels: tuple[str, ...] = ()
    try:
        with TritonClassifier.connect(TargetOptions(model=model, url=url)) as classifier:
            labels = classifier.info.labels
    except AuditError as error:
        notes.append(f"the server was not asked: {error}")
    file_column = _first(columns, ("file", "image", "path", "filename")) or next(iter(columns))
    label = _label(columns, labels) or "label"
    concepts = {
        name: cells
        for name, cells in columns.items()
        if name not in {file_column, "split", "id"} and 2 <= len(cells) <= _MOST_LEVELS
    }
    split = columns.get("split", [])
    return _text(table, images, url, model, file_column, label, labels, concepts, split), notes


def _columns(table: str) -> dict[str, list[str]]:
    """Column -> its different cells, commonest first (at most one more than is a concept)."""
    try:
        with Path(table).open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"table {table!r} cannot be read: {error}") from error
    if not lines:
        raise TableError(f"table {table!r} has no rows; it needs a header and one line per image")
    return {name: [cell for cell, _ in Counter(line[name] for line in lines).most_common(_MOST_LEVELS + 1)] for name in lines[0]}


def _first(columns: dict[str, list[str]], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in columns), None)


def _label(columns: dict[str, list[str]], labels: tuple[str, ...]) -> str | None:
    """The column whose cells are the model's classes, else one that is called so."""
    fits = [name for name, cells in columns.items() if labels and set(cells) <= set(labels)]
    return fits[0] if fits else _first(columns, ("label", "class", "target"))


def _text(  # noqa: PLR0917  # one caller, one document
    table: str,
    images: str,
    url: str,
    model: str,
    file_column: str,
    label: str,
    labels: tuple[str, ...],
    concepts: dict[str, list[str]],
    split: list[str],
) -> str:
    q = json.dumps
    lines = [
        "version: 1",
        f"audit: {q(Path(table).resolve().parent.name)}   # the seeds of all pictures follow from this name",
        "source:",
        f"  images: {q(images)}",
        f"  table: {q(table)}",
        f"  image_column: {q(file_column)}",
        f"  label_columns: [{q(label)}]",
        *([f"  where: {{split: {q(split[-1])}}}   # rows to audit"] if split else []),
        "  rows: 200   # most rows to audit; a concept needs 30 per level",
        "concepts:   # what the model may rely on; role: core, context, nuisance, protected or artefact",
    ]
    for name, cells in concepts.items():
        role = "core" if name == label else "nuisance"
        phrases = ", ".join(f"{q(cell)}: {q(cell.replace('_', ' '))}" for cell in cells)
        lines.append(f"  - {{name: {q(name)}, role: {role}, levels: {{{phrases}}}}}   # level: words in the caption")
    template = "a photo, " + ", ".join("{" + name + "}" for name in concepts)
    lines += [
        f"template: {q(template)}",
        "generator:",
        "  path: generator   # diffusers directory; `audit-plugin generator train` makes one from the rows below",
        *([f"  train: {{where: {{split: {q(split[0])}}}, recipe: {{image_size: 64}}}}"] if split else []),
        "detector:",
        "  path: detector.onnx",
        *([f"  train: {{where: {{split: {q(split[0])}}}}}"] if split else []),
        f"server: {{url: {q(url)}}}",
        "models:",
        f"  - model: {q(model)}",
        f"    label: {q(label)}",
        *([f"    labels: [{', '.join(q(name) for name in labels)}]"] if labels else []),
    ]
    return "\n".join(lines) + "\n"

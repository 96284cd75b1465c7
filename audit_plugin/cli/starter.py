"""``audit-plugin init``: a first configuration, filled with what the table and the server say of themselves."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audit_plugin.core.errors import AuditError, ConfigError, StoreError, TableError
from audit_plugin.sources.folder import check_place
from audit_plugin.sources.table import Table, read_table
from audit_plugin.target.options import PreprocessOptions, TargetOptions
from audit_plugin.target.triton import TritonClassifier

_MOST_LEVELS = 6
"""A column with more different cells is no concept."""
_ASK_SECONDS = 5.0
_LAYOUTS: tuple[Literal["NCHW", "NHWC"], ...] = ("NCHW", "NHWC")
_FILE_COLUMNS = ("file", "image", "path", "filename", "image_path")
_LABEL_COLUMNS = ("label", "class", "target")


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a first configuration can be filled with."""

    table: str
    images: str
    url: str
    model: str
    layout: str
    audit: str
    file: str
    label: str
    labels: tuple[str, ...]
    concepts: Mapping[str, Sequence[str]]
    """Column -> its cells, commonest first."""
    split: Sequence[str]
    """Cells of the column ``split``, commonest first; empty without one."""


def write_starter(path: Path, *, table: str, images: str, url: str, model: str) -> tuple[str, ...]:
    """Write the configuration and return notes on what could not be found out.  Never touches a file that is there."""
    if path.exists():
        raise ConfigError(f"{path} is there already; give another --out, or remove it")
    check_place(images)
    labels, layout, notes = _ask(model, url)
    guess = _guess(
        read_table(table),
        labels,
        table=_seen_from(path, table),
        images=_seen_from(path, images),
        url=url,
        model=model,
        layout=layout,
        audit=Path(table).absolute().parent.name or "audit",
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_text(guess))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}; give another --out") from error
    return notes


_UNSPLIT = "  # train: {where: {split: train}}   # rows that are not audited; the table has no column that tells them apart yet"


def _ask(model: str, url: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """The model's labels and the layout that it takes, and why there are none."""
    refusals = []
    for layout in _LAYOUTS:
        try:
            options = TargetOptions(
                model=model, url=url, retries=0, deadline_seconds=_ASK_SECONDS, preprocess=PreprocessOptions(layout=layout)
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        try:
            with TritonClassifier.connect(options) as classifier:
                return classifier.info.labels, layout, ()
        except AuditError as error:
            refusals.append(error)
    return (), _LAYOUTS[0], (f"labels and layout are not filled in, check `models`: {refusals[0]}",)


def _seen_from(path: Path, where: str) -> str:
    """A path relative to the configuration's directory, as the configuration takes it; URLs stay as they are."""
    return where if "://" in where or "::" in where else os.path.relpath(where, path.absolute().parent)


def _guess(rows: Table, labels: tuple[str, ...], /, **given: str) -> Guess:
    cells = {name: [cell for cell, _ in Counter(line[name] for line in rows.lines).most_common()] for name in rows.columns}
    file = next((name for name in _FILE_COLUMNS if name in cells), rows.columns[0])
    concepts = {
        name: found for name, found in cells.items() if name not in {file, "split", "id"} and 2 <= len(found) <= _MOST_LEVELS
    }
    split = cells.get("split", [])
    if not concepts:
        raise TableError(
            f"table {rows.name!r} has no column with 2 to {_MOST_LEVELS} different cells, so there is nothing to audit for; "
            "add a column per visible attribute"
        )
    return Guess(
        file=file,
        label=_label(cells, concepts, labels),
        labels=labels,
        concepts=concepts,
        split=split if len(split) > 1 else [],
        **given,
    )


def _label(cells: Mapping[str, Sequence[str]], concepts: Mapping[str, Sequence[str]], labels: tuple[str, ...]) -> str:
    """The column whose cells are the model's classes, else one that is called so, else the first that could be."""
    fits = [name for name in concepts if labels and set(cells[name]) <= set(labels)]
    named = [name for name in _LABEL_COLUMNS if name in cells]
    return [*fits, *named, *concepts][0]


def _text(guess: Guess) -> str:
    audited = [f"  where: {{split: {_q(guess.split[-1])}}}   # rows to audit"] if guess.split else []
    others = f"{{where: {{split: {_q(guess.split[0])}}}}}" if guess.split else ""
    names = _names(guess.concepts)
    lines = [
        "version: 1",
        f"audit: {_q(guess.audit)}   # the seeds of all pictures follow from this name",
        "source:",
        f"  images: {_q(guess.images)}",
        f"  table: {_q(guess.table)}",
        f"  image_column: {_q(guess.file)}",
        f"  label_columns: [{_q(guess.label)}]",
        *audited,
        "  rows: 200   # most rows to audit; a concept needs 30 per level",
        "concepts:   # what the model may rely on; role: core, context, nuisance, protected or artefact",
        *(_concept(names[column], column, cells, column == guess.label) for column, cells in guess.concepts.items()),
        f"template: {_q('a photo, ' + ', '.join(f'{{{name}}}' for name in names.values()))}",
        "# Nothing to draw with?  Leave concepts, template, generator and detector out, and write:  diffex: {}",
        "generator:",
        "  path: generator   # diffusers directory; `audit-plugin generator train` makes one from the rows of `train`",
        f"  train: {others}" if others else _UNSPLIT,
        "detector:",
        "  path: detector.onnx   # trained from the rows of `train` by the first run",
        f"  train: {others}" if others else _UNSPLIT,
        f"server: {{url: {_q(guess.url)}}}",
        "models:",
        f"  - model: {_q(guess.model)}",
        f"    label: {_q(guess.label)}",
        *([f"    labels: [{', '.join(map(_q, guess.labels))}]"] if guess.labels else []),
        *([f"    preprocess: {{layout: {guess.layout}}}"] if guess.layout != _LAYOUTS[0] else []),
    ]
    return "\n".join(lines) + "\n"


def _names(columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Column -> a name that a concept may have."""
    names: dict[str, str] = {}
    for column in columns:
        plain = re.sub(r"\W+", "_", column).strip("_") or "concept"
        taken = {*names.values(), "rest", "placebo"}
        names[column] = next(name for name in (plain, *(f"{plain}_{at}" for at in range(2, 1000))) if name not in taken)
    return names


def _concept(name: str, column: str, cells: Sequence[str], core: bool) -> str:
    phrases = ", ".join(f"{_q(cell)}: {_q(phrase)}" for cell, phrase in zip(cells, _phrases(column, cells), strict=True))
    elsewhere = "" if name == column else f"column: {_q(column)}, "
    return f"  - {{name: {_q(name)}, {elsewhere}role: {'core' if core else 'nuisance'}, levels: {{{phrases}}}}}   # level: words in the caption"


def _phrases(column: str, cells: Sequence[str]) -> list[str]:
    """Words for each cell: the cell's own, or column and cell where these would read the same."""
    plain = [" ".join(re.sub(r"[_{}]+", " ", cell).split()) for cell in cells]
    if len({phrase.casefold() for phrase in plain}) == len(plain):
        return plain
    return [f"{column} {at}" for at in range(len(cells))]


def _q(text: str) -> str:
    """A YAML string in double quotes."""
    return json.dumps(text, ensure_ascii=False)

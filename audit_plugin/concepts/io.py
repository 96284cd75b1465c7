"""A user's way of writing concepts down: a YAML list (as in the audit's configuration) or a CSV table.

YAML::

    template: "a leaf{site}{disease}"
    concepts:
      - name: site
        column: site                      # column of the label table; default: the name
        role: nuisance                    # core, context (default), nuisance, protected, artefact
        levels: {RS: " in sunlight", GH: " in the shade"}     # level -> phrase; a list means that the level is its own phrase
      - name: brightness
        kind: numeric                     # levels are quantile bins of the column, lowest first
        levels: [dark, bright]
        cells: {}                         # categorical only: table cell -> level, where they differ

CSV: columns ``name, level, phrase, role`` and optionally ``column, kind``; one line per level.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from audit_plugin.concepts.schema import ConceptSet, closest
from audit_plugin.core.errors import CaptionError, ConfigError
from audit_plugin.core.values import Concept, Role

_KINDS = ("categorical", "numeric")
_FIELDS = ("name", "column", "levels", "role", "kind", "cells")
_DOCUMENT = ("concepts", "template", "placebo_words", "groups")
MAX_NUMERIC_LEVELS = 5
"""Finer bins are neither visible nor affordable (depict.md 4.2)."""


@dataclass(frozen=True, kw_only=True)
class ConceptColumn:
    """A concept and where its value stands in the label table."""

    concept: Concept
    column: str
    numeric: bool = False
    """The column holds numbers; levels are quantile bins, lowest first."""
    cells: Mapping[str, str] = field(default_factory=dict)
    """Table cell -> level, for cells that are not spelled like the level."""


@dataclass(frozen=True, kw_only=True)
class ConceptDocument:
    """What one concept file says."""

    concept_set: ConceptSet
    columns: tuple[ConceptColumn, ...]


def read_concepts(path: str | Path) -> ConceptDocument:
    """Concepts from a ``.yaml``, ``.yml`` or ``.csv`` file.  Raises ConfigError or CaptionError naming the file."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"concept file {str(path)!r} cannot be read: {error}") from error
    try:
        return concepts_from_csv(text) if path.suffix.lower() == ".csv" else concepts_from_yaml(text)
    except (ConfigError, CaptionError) as error:
        raise type(error)(f"{path}: {error}") from error


def concepts_from_yaml(text: str) -> ConceptDocument:
    """Concepts from a YAML document: a mapping with ``concepts`` or the bare list."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}") from error
    if isinstance(document, list):
        document = {"concepts": document}
    if not isinstance(document, Mapping):
        raise ConfigError("expected a list of concepts, or a mapping with the key 'concepts'")
    return concepts_from_dict(document)


def concepts_from_dict(document: Mapping[str, Any]) -> ConceptDocument:
    """Concepts from the mapping ``{concepts: [...], template, placebo_words, groups}``; unknown keys are errors."""
    _refuse_unknown(document, _DOCUMENT, "concept document")
    items = document.get("concepts")
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise ConfigError("'concepts' must be a list; each item has at least 'name' and 'levels'")
    if not items:
        raise ConfigError("the concept set is empty; list at least one concept")
    columns = tuple(_column(item) for item in items)
    extra: dict[str, Any] = {}
    if document.get("template") is not None:
        extra["template"] = str(document["template"])
    if document.get("placebo_words") is not None:
        extra["placebo_words"] = tuple(str(word) for word in document["placebo_words"])
    if document.get("groups") is not None:
        extra["groups"] = tuple(tuple(str(name) for name in group) for group in document["groups"])
    return ConceptDocument(concept_set=ConceptSet(concepts=tuple(c.concept for c in columns), **extra), columns=columns)


def concepts_from_csv(text: str) -> ConceptDocument:
    """Concepts from a table with one line per level; concepts and levels keep the order of the lines."""
    reader = csv.DictReader(io.StringIO(text))
    header = reader.fieldnames or []
    for needed in ("name", "level"):
        if needed not in header:
            raise ConfigError(f"concept table has no column {needed!r}{closest(needed, header)}")
    items: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(reader, start=2):
        name, level = line["name"], line["level"]
        item = items.setdefault(name, {"name": name, "levels": {}})
        if level in item["levels"]:
            raise ConfigError(f"line {number}: level {level!r} of concept {name!r} is there already; keep one line per level")
        item["levels"][level] = level if line.get("phrase") is None else line["phrase"]
        _keep_same(item, line, number)
    return concepts_from_dict({"concepts": list(items.values())})


def _keep_same(item: dict[str, Any], line: Mapping[str, str | None], number: int) -> None:
    for key in ("role", "column", "kind"):
        value = line.get(key)
        if value and item.setdefault(key, value) != value:
            raise ConfigError(f"line {number}: concept {item['name']!r} has {key} {item[key]!r} above and {value!r} here; keep one")


def _column(item: object) -> ConceptColumn:
    if not isinstance(item, Mapping):
        raise ConfigError(f"a concept must be a mapping with 'name' and 'levels', got {item!r}")
    name = str(item.get("name") or "")
    if not name:
        raise ConfigError("a concept has no 'name'")
    _refuse_unknown(item, _FIELDS, f"concept {name!r}")
    levels = _levels(name, item.get("levels"))
    kind = _one_of(str(item.get("kind") or "categorical"), _KINDS, f"kind of concept {name!r}")
    role = Role(_one_of(str(item.get("role") or "context"), [str(role) for role in Role], f"role of concept {name!r}"))
    if kind == "numeric" and len(levels) > MAX_NUMERIC_LEVELS:
        raise ConfigError(f"numeric concept {name!r} has {len(levels)} levels; use at most {MAX_NUMERIC_LEVELS}")
    try:
        concept = Concept(name=name, levels=tuple(levels), phrases=tuple(levels.values()), role=role)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return ConceptColumn(
        concept=concept,
        column=str(item.get("column") or name),
        numeric=kind == "numeric",
        cells=_cells(name, item.get("cells"), levels),
    )


def _levels(name: str, levels: object) -> dict[str, str]:
    """Level -> phrase, from a mapping or a list."""
    if isinstance(levels, Mapping):
        return {_word(name, level): "" if phrase is None else str(phrase) for level, phrase in levels.items()}
    if not isinstance(levels, Sequence) or isinstance(levels, str):
        raise ConfigError(f"concept {name!r}: 'levels' must be a list of levels or a mapping level -> phrase")
    words = [_word(name, level) for level in levels]
    if len(set(words)) != len(words):
        raise ConfigError(f"concept {name!r} lists a level twice: {', '.join(words)}")
    return {word: word for word in words}


def _cells(name: str, cells: object, levels: Mapping[str, str]) -> dict[str, str]:
    if cells is None:
        return {}
    if not isinstance(cells, Mapping):
        raise ConfigError(f"concept {name!r}: 'cells' must be a mapping from table cell to level")
    mapped = {_word(name, cell): _word(name, level) for cell, level in cells.items()}
    for level in mapped.values():
        _one_of(level, levels, f"level in 'cells' of concept {name!r}")
    return mapped


def _word(name: str, value: object) -> str:
    if isinstance(value, bool) or value is None:
        raise ConfigError(f"concept {name!r}: YAML read a level as {value!r}; put yes, no, on, off, true, false and null in quotes")
    return str(value)


def _one_of(value: str, known: Iterable[str], what: str) -> str:
    names = list(known)
    if value not in names:
        raise ConfigError(f"{what} cannot be {value!r}{closest(value, names)}")
    return value


def _refuse_unknown(mapping: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{closest(str(key), known)}")

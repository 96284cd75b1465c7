"""Labelled real images from a directory, a zip archive or an object store, with a CSV table of labels and attributes.

Cells of concept columns are compared with levels letter by letter.  A cell that is no level is an error that names the row, never
a silent default, unless ``drop_unmapped`` asks for such rows to be left out (their number is reported).
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import SourceError, TableError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Concept, Row
from audit_plugin.sources.images import DEFAULT_LIMITS, ImageLimits, read_all, read_images
from audit_plugin.sources.sampling import stratified
from audit_plugin.sources.table import Table, Where, closest, read_table


class ConceptColumn(Protocol):
    """A concept and where its value stands in the table."""

    @property
    def concept(self) -> Concept:
        """Name and levels."""
        ...

    @property
    def column(self) -> str:
        """Column of the table."""
        ...

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, and the levels are quantile bins, lowest first."""
        ...

    @property
    def cells(self) -> Mapping[str, str]:
        """Cell -> level, for cells that are not spelled like the level."""
        ...


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Where images and their table lie, and which rows are audited."""

    images: str
    """Directory, ``.zip`` file, or any fsspec URL of a directory."""
    table: str
    """CSV file: path or fsspec URL."""
    image_column: str = "file"
    """Path of the image below ``images``."""
    id_column: str = ""
    """Unique name of the row; default: the image column."""
    label_columns: tuple[str, ...] = ("label",)
    """Task labels; each audited model is judged against one of them."""
    unit_column: str = ""
    """Rows with equal cells here are resampled together (patient, product)."""
    rest_column: str = ""
    """Part of the caption that is never changed."""
    where: Where = field(default_factory=dict)
    """Column -> cell or list of cells that a row must have."""
    drop_unmapped: bool = False
    """Leave out rows with a cell that is no level of its concept, instead of refusing the table."""
    rows: int = 0
    """Most rows to audit; 0 takes all."""
    seed: str = "rows"
    """Chooses the rows; the same seed chooses the same rows."""
    balance: float = 0.0
    """0 keeps each (label x concept levels) cell's share, 1 takes equally many of each as far as there are rows."""


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """The rows of one data set, ready to be audited."""

    rows: tuple[Row, ...]
    dropped: int
    """Rows left out because a cell was no level."""
    bins: Mapping[str, tuple[float, ...]]
    """Numeric concept -> inner edges of its levels."""
    digest: str
    """Identity of the data: table file, chosen rows, and the bytes of their images."""
    forgotten: int = 0
    """Rows left out because their image was deleted on request."""

    def images(self, size: int, *, limits: ImageLimits = DEFAULT_LIMITS) -> Images:
        """The real images ``(n, 3, size, size)``, in the order of the rows."""
        return read_images([row.image or "" for row in self.rows], size, limits=limits)

    @property
    def values(self) -> NDArray[np.int64]:
        """Level indices ``(n, concepts)``."""
        return np.array([row.values for row in self.rows], dtype=np.int64)


def open_folder(
    options: FolderOptions,
    columns: Sequence[ConceptColumn],
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    forgotten: Collection[str] = (),
) -> FolderSource:
    """Read the table, map its cells to levels, choose rows and fingerprint them.  Raises TableError or ImageError.

    Rows whose image file has a SHA-256 among ``forgotten`` are left out after the choice, so that the other rows stay the same.
    """
    table = read_table(options.table).select(options.where)
    _check_columns(table, options, columns)
    check_place(options.images)
    bins = {column.concept.name: quantile_edges(table, column) for column in columns if column.numeric}
    rows, dropped = [], 0
    for line in table.lines:
        values = _values(table, line, columns, bins, options)
        if values is None:
            dropped += 1
        else:
            rows.append(_row(line, values, options))
    _check_rows(rows, table, dropped)
    chosen = _sample(rows, options)
    shas = _shas(chosen, limits)
    kept = [(row, sha) for row, sha in zip(chosen, shas, strict=True) if sha not in forgotten]
    if not kept:
        raise TableError(f"table {table.name!r}: the images of all {len(chosen)} rows were deleted on request; add others")
    return FolderSource(
        rows=tuple(row for row, _ in kept),
        dropped=dropped,
        bins=bins,
        digest=digest("folder", table.sha256, *(f"{row.id}\x1e{sha}" for row, sha in kept)),
        forgotten=len(chosen) - len(kept),
    )


def check_place(images: str) -> None:
    """Raise SourceError where a local directory or archive of images is not there; URLs are asked when they are read."""
    if "://" not in images and "::" not in images and not Path(images).exists():
        raise SourceError(
            f"`source.images` {images!r} is not there; give the directory, zip file or URL that the table's files lie in"
        )


def quantile_edges(table: Table, column: ConceptColumn) -> tuple[float, ...]:
    """Inner edges that cut the column into as many equally common bins as the concept has levels."""
    numbers = [_number(table, line, column.column) for line in table.lines]
    shares = np.arange(1, len(column.concept.levels)) / len(column.concept.levels)
    edges = np.quantile(numbers, shares)
    if len(np.unique(edges)) != len(edges) or edges[0] <= min(numbers) or edges[-1] > max(numbers):
        raise TableError(
            f"column {column.column!r} has too few different numbers for the {len(column.concept.levels)} levels "
            f"of {column.concept.name!r}; give the concept fewer levels"
        )
    return tuple(float(edge) for edge in edges)


def _check_columns(table: Table, options: FolderOptions, columns: Sequence[ConceptColumn]) -> None:
    if not options.label_columns:
        raise TableError("label_columns is empty; name at least one column with the task's labels")
    optional = [name for name in (options.id_column, options.unit_column, options.rest_column) if name]
    for name in (options.image_column, *options.label_columns, *optional, *(column.column for column in columns)):
        table.require(name)


def _values(
    table: Table,
    line: Mapping[str, str],
    columns: Sequence[ConceptColumn],
    bins: Mapping[str, Sequence[float]],
    options: FolderOptions,
) -> tuple[int, ...] | None:
    """Level indices of one line; None when a cell is no level and such rows are to be dropped."""
    values = []
    for column in columns:
        name, levels = column.concept.name, column.concept.levels
        if column.numeric:
            values.append(int(np.searchsorted(bins[name], _number(table, line, column.column), side="right")))
            continue
        cell = line[column.column]
        level = column.cells.get(cell, cell)
        if level in levels:
            values.append(levels.index(level))
        elif options.drop_unmapped:
            return None
        else:
            raise TableError(
                f"row {_id(line, options)!r}: {cell!r} in column {column.column!r} is no level of concept {name!r}"
                f"{closest(cell, {*levels, *column.cells})} (or map it with `cells`, or set `drop_unmapped`)"
            )
    return tuple(values)


def _number(table: Table, line: Mapping[str, str], column: str) -> float:
    try:
        number = float(line[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TableError(
            f"table {table.name!r}: {line[column]!r} in numeric column {column!r} is no number; fill it in or filter it with `where`"
        )
    return number


def _id(line: Mapping[str, str], options: FolderOptions) -> str:
    return line[options.id_column or options.image_column]


def _row(line: Mapping[str, str], values: tuple[int, ...], options: FolderOptions) -> Row:
    before, after = _around(options.images)
    name = line[options.image_column].replace("\\", "/")
    if not name or name.startswith("/") or ".." in name.split("/") or "::" in name:
        raise TableError(f"row {_id(line, options)!r}: {name!r} is no path below the images; use a relative path without '..'")
    return Row(
        id=_id(line, options),
        values=values,
        labels={column: line[column] for column in options.label_columns},
        image=f"{before}{name}{after}",
        unit=line[options.unit_column] if options.unit_column else "",
        rest=line[options.rest_column] if options.rest_column else "",
    )


def _check_rows(rows: Sequence[Row], table: Table, dropped: int) -> None:
    if not rows:
        raise TableError(f"table {table.name!r}: all {dropped} rows were dropped; their cells are no levels of the concepts")
    seen: set[str] = set()
    for row in rows:
        if row.id in seen or not row.id:
            raise TableError(
                f"table {table.name!r}: row id {row.id!r} is {'there twice' if row.id else 'empty'}; choose an `id_column` that is unique"
            )
        seen.add(row.id)


def _sample(rows: Sequence[Row], options: FolderOptions) -> tuple[Row, ...]:
    if not options.rows:
        return tuple(rows)
    cells = [(tuple(row.labels.values()), row.values) for row in rows]
    chosen = stratified([row.id for row in rows], cells, options.rows, seed=options.seed, balance=options.balance)
    return tuple(rows[i] for i in chosen)


def _around(images: str) -> tuple[str, str]:
    """What stands before and after an image's path in its URL.

    >>> _around("photos.zip"), _around("s3://bucket/photos")
    (('zip://', '::photos.zip'), ('s3://bucket/photos/', ''))
    """
    if images.lower().endswith(".zip") and "::" not in images:
        return "zip://", f"::{images}"
    first, *outer = images.split("::")
    return (first if first.endswith("/") else f"{first}/"), "".join(f"::{part}" for part in outer)


def _shas(rows: Sequence[Row], limits: ImageLimits) -> list[str]:
    """SHA-256 of the rows' image files; reads every chosen image once, so a missing file is found before any work is done."""
    return [hashlib.sha256(data).hexdigest() for data in read_all([row.image or "" for row in rows], limits=limits)]

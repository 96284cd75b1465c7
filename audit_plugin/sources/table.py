"""Label tables: a CSV file with one line per image, read as text, checked by name."""

import csv
import difflib
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import fsspec

from audit_plugin.core.errors import TableError

Where = Mapping[str, str | Sequence[str]]
"""Column -> the cell, or the cells, that a line must have there."""


def closest(word: str, known: Iterable[str]) -> str:
    """What the user may have meant, as the end of a message.

    >>> closest("labl", ["file", "label"])
    "; did you mean 'label'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Lines of a table as text."""

    name: str
    columns: tuple[str, ...]
    lines: tuple[Mapping[str, str], ...]
    sha256: str
    """Of the file."""

    def require(self, column: str) -> str:
        """The column's name.  Raises TableError naming the closest one when the table has no such column."""
        if column not in self.columns:
            raise TableError(f"table {self.name!r} has no column {column!r}{closest(column, self.columns)}")
        return column

    def select(self, where: Where) -> "Table":
        """Only the lines whose cells are as asked; a value that no line has is an error, for it is likely mistyped."""
        wanted = {
            self.require(column): {cells} if isinstance(cells, str) else {str(cell) for cell in cells}
            for column, cells in where.items()
        }
        for column, cells in wanted.items():
            present = {line[column] for line in self.lines}
            for cell in sorted(cells - present):
                raise TableError(
                    f"table {self.name!r}: no line has {cell!r} in column {column!r}{closest(cell, sorted(present)[:50])}"
                )
        lines = tuple(line for line in self.lines if all(line[column] in cells for column, cells in wanted.items()))
        if not lines:
            raise TableError(f"table {self.name!r}: no line meets all conditions on {', '.join(wanted)}; loosen `where`")
        return Table(name=self.name, columns=self.columns, lines=lines, sha256=self.sha256)


def read_table(url: str) -> Table:
    """A CSV file (UTF-8, header line) from a path or fsspec URL.  Raises TableError."""
    try:
        with fsspec.open(url, "rb") as file:
            data: bytes = file.read()
        text = data.decode("utf-8-sig")
    except (OSError, KeyError, ValueError, ImportError) as error:
        raise TableError(f"table {url!r} cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        columns = tuple(reader.fieldnames or ())
        lines = tuple(_line(url, number, line) for number, line in enumerate(reader, start=2))
    except csv.Error as error:
        raise TableError(f"table {url!r}, line {reader.line_num}: {error}; save it as plain CSV with commas") from error
    if not lines or len(set(columns)) != len(columns):
        raise TableError(
            f"table {url!r} has {'a column name twice' if lines else 'no lines'}; it needs a header and one line per image"
        )
    return Table(name=url, columns=columns, lines=lines, sha256=hashlib.sha256(data).hexdigest())


def _line(url: str, number: int, line: Mapping[str | None, str | None]) -> dict[str, str]:
    cells = {name: cell for name, cell in line.items() if name is not None and cell is not None}
    if len(cells) != len(line):
        raise TableError(f"table {url!r}, line {number}: more or fewer cells than the header has; quote cells that hold commas")
    return cells

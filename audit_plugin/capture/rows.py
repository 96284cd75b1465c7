"""The table of a captured sample: one line for each picture, in the form that an audit's source reads."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from audit_plugin.capture.files import picture_path
from audit_plugin.core.errors import SourceError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture of the sample, as a line of its table."""

    file: str
    """Path below the directory of the sample."""
    id: str
    """Of the picture: digest of model, event id and place in the batch, so that no sender's text is kept."""
    predicted: str
    """Class that the model answered; empty until the answer comes."""
    model: str
    version: str
    captured_at: str
    """RFC 3339, UTC."""
    sha256: str
    """Of the file, which holds the picture after redaction."""
    bytes: int
    """Of the file."""


COLUMNS = tuple(entry.name for entry in fields(Row))


def table(rows: Iterable[Row]) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def read_rows(directory: Path) -> list[Row]:
    """The committed rows of a sample; none where there is no table.  Raises OSError, or SourceError for a table that is not ours."""
    try:
        text = (directory / "table.csv").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise _foreign(directory) from error
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise _foreign(directory)
    try:
        rows = [_row(line) for line in reader]
        wrong = any(picture_path(row.sha256) != row.file or not datetime.fromisoformat(row.captured_at).tzinfo for row in rows)
    except (TypeError, ValueError, csv.Error) as error:
        raise _foreign(directory) from error
    if wrong:
        raise _foreign(directory)
    return rows


def _row(line: dict[str, str]) -> Row:
    size = int(line.pop("bytes"))
    return Row(**line, bytes=size)


def _foreign(directory: Path) -> SourceError:
    return SourceError(f"{directory / 'table.csv'} is no table of a captured sample; give `capture.path` a directory of its own")

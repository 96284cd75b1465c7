"""A folder of captioned pictures that stays on disk: a metadata table in it, as diffusers' users know it, or a text beside each picture."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.training.errors import TrainingDataError
from engines.training.reading import read_image

TABLES = ("metadata.jsonl", "metadata.csv")
"""Looked for in the folder, when no table is named."""
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FILE_COLUMNS = ("file_name", "file")
CAPTION_COLUMNS = ("text", "caption")


@dataclass(frozen=True)
class CaptionedFolder:
    """Pictures ``folder/name`` with one or more captions each; they are opened one by one."""

    folder: Path
    captions_of: Mapping[str, Sequence[str]]
    """File name -> its captions; an empty caption is allowed: it says that nothing worth a word is shown."""

    def __len__(self) -> int:
        return len(self.captions_of)

    @cached_property
    def names(self) -> list[str]:
        """Of the pictures, in order."""
        return list(self.captions_of)

    @cached_property
    def captions(self) -> list[Sequence[str]]:
        """Of each picture, in order."""
        return list(self.captions_of.values())

    @cached_property
    def digest(self) -> str:
        """Of files and captions."""
        total = hashlib.sha256()
        for name, captions in self.captions_of.items():
            total.update(_file_digest(self.folder / name))
            total.update(("\x1f".join(captions) + "\x1e").encode())
        return total.hexdigest()[:16]

    def picture(self, place: int, size: int) -> NDArray[np.uint8]:
        """The central square of one picture, ``(size, size, 3)`` RGB.  Raises TrainingDataError naming the file."""
        return read_image(self.folder, self.names[place], size)


def read_folder(folder: Path, table: Path | None = None) -> CaptionedFolder:
    """The pictures that a table lists, or else all that have a ``.txt`` of the same name beside them.

    A table (``table``, else ``metadata.jsonl`` or ``metadata.csv`` in the folder) has the columns file_name (or file) and text (or
    caption); rows may repeat a file, and in JSONL text may be a list.  In a ``.txt`` every line that is not blank is a caption.
    Raises TrainingDataError naming the file, the row, or the pictures without a caption.
    """
    if not folder.is_dir():
        raise TrainingDataError(f"{folder} is not a folder; name the one that holds the pictures")
    tables = [table] if table else [folder / name for name in TABLES if (folder / name).is_file()]
    if len(tables) > 1:
        raise TrainingDataError(f"{folder} holds {' and '.join(TABLES)}; keep the one that is meant, or name it")
    return CaptionedFolder(folder, _listed(tables[0]) if tables else _beside(folder))


def _listed(table: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = _json_rows(table, stream) if table.suffix == ".jsonl" else _csv_rows(table, stream)
            for name, texts in rows:
                captions.setdefault(name, []).extend(texts)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{table} cannot be read as a table in UTF-8 ({error})") from error
    if not captions:
        raise TrainingDataError(f"{table} has no rows; list at least one file and its caption")
    return captions


def _csv_rows(table: Path, lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    rows = csv.DictReader(lines, strict=True)
    for columns in (FILE_COLUMNS, CAPTION_COLUMNS):
        if not set(columns) & set(rows.fieldnames or ()):
            raise TrainingDataError(f"{table} has no column {' or '.join(columns)}; its first line must name both columns")
    for row in rows:
        yield _entry(table, rows.line_num, row)


def _json_rows(table: Path, lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TrainingDataError(f"{table}, line {number}: not JSON ({error}); write one object a line") from error
            yield _entry(table, number, row if isinstance(row, dict) else {})


def _entry(table: Path, number: int, row: Mapping[str, object]) -> tuple[str, list[str]]:
    name, text = (next((row[key] for key in keys if row.get(key) is not None), None) for keys in (FILE_COLUMNS, CAPTION_COLUMNS))
    texts: list[object] = text if isinstance(text, list) else [text]
    told = [one.strip() for one in texts if isinstance(one, str)]
    if not isinstance(name, str) or not name or not told or len(told) < len(texts):
        raise TrainingDataError(f"{table}, line {number}: a file or a caption is missing; complete or delete the row")
    return name, told


def _beside(folder: Path) -> dict[str, list[str]]:
    pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    if not pictures:
        raise TrainingDataError(f"{folder} holds no pictures ({', '.join(PICTURES)})")
    bare = [path.name for path in pictures if not path.with_suffix(".txt").is_file()]
    if bare:
        raise TrainingDataError(
            f"{len(bare)} of {len(pictures)} pictures in {folder} have no caption, {bare[0]} for one; write a .txt beside each, or "
            f"list files and captions in {TABLES[0]} or {TABLES[1]} (columns {FILE_COLUMNS[0]}, {CAPTION_COLUMNS[0]})"
        )
    return {path.relative_to(folder).as_posix(): _lines(path.with_suffix(".txt")) for path in pictures}


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"{path} cannot be read as a text in UTF-8 ({error})") from error
    return [line.strip() for line in lines if line.strip()] or [""]


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise TrainingDataError(f"{path} is not a picture that can be read ({error}); replace it or drop its rows") from error

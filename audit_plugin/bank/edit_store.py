"""Edited pictures beside the bank's: one SQLite file, keyed by recipe, over the same folder of pictures.

A recipe holds all that decides the pixels (editor, image, seed, terms) and nothing of the audited model, so that a new model or a new
version costs no edit.  A picture's file is on disk before the row that names it.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from audit_plugin.bank.pictures import PictureFolder, storage
from audit_plugin.core.errors import BankError

FILE = "edits.sqlite"
_MANY = 500
"""Values bound in one query; SQLite takes 999 everywhere."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS edits (recipe TEXT PRIMARY KEY, sha256 TEXT NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (
  sha256 TEXT NOT NULL, detector TEXT NOT NULL, reading TEXT NOT NULL, PRIMARY KEY (sha256, detector)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class StoredEdit:
    """One edited picture and what was measured on it, without any model."""

    sha256: str
    outside_psnr: float | None = None
    mask_area: float | None = None
    distance: float | None = None
    quality: str = ""
    """Why it is no usable picture; empty when it is."""


Reading = Mapping[str, Sequence[float]]
"""Concept -> probability of each level."""


@dataclass(frozen=True)
class EditStore:
    """Safe to use from several threads and processes: what two make at once is the same picture."""

    root: Path
    """Directory of the bank."""
    images: str = ""
    """Where pictures go; below ``root`` when empty, or any fsspec URL."""
    pictures: PictureFolder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", PictureFolder(self.images or str(self.root / "images")))
        with storage(str(self.root)):
            self.root.mkdir(parents=True, exist_ok=True)
        with self._transaction() as db:
            db.executescript(_SCHEMA)

    def known(self, recipes: Iterable[str]) -> dict[str, StoredEdit]:
        """Those that were made."""
        found = self._chosen("SELECT recipe, sha256, facts FROM edits WHERE recipe IN", recipes)
        return {recipe: StoredEdit(sha256=sha, **json.loads(facts)) for recipe, sha, facts in found}

    def put(self, png: bytes) -> str:
        """Store a picture and return its sha256."""
        return self.pictures.put(png)

    def add(self, edits: Mapping[str, StoredEdit]) -> None:
        """Commit a batch whose pictures are stored, all or nothing; a recipe that is there is left alone."""
        rows = []
        for recipe, edit in edits.items():
            facts = {key: value for key, value in asdict(edit).items() if key != "sha256"}
            rows.append((recipe, edit.sha256, json.dumps(facts)))
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO edits VALUES (?, ?, ?)", rows)

    def readings(self, detector: str, shas: Iterable[str]) -> dict[str, Reading]:
        """sha256 -> what a detector read, as far as it was asked."""
        found = self._chosen("SELECT sha256, reading FROM readings WHERE detector = ? AND sha256 IN", shas, detector)
        return {sha: json.loads(reading) for sha, reading in found}

    def add_readings(self, detector: str, readings: Mapping[str, Reading]) -> None:
        """Commit a batch."""
        rows = [(sha, detector, json.dumps(reading)) for sha, reading in readings.items()]
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", rows)

    def _chosen(self, query: str, keys: Iterable[str], *first: str) -> Iterator[tuple[str, ...]]:
        every = sorted(set(keys))
        with storage(str(self._file)), closing(self._connected()) as db:
            for start in range(0, len(every), _MANY):
                some = every[start : start + _MANY]
                yield from db.execute(f"{query} ({','.join('?' * len(some))})", (*first, *some)).fetchall()

    @property
    def _file(self) -> Path:
        return self.root / FILE

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=30, isolation_level="IMMEDIATE")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with storage(str(self._file)), closing(self._connected()) as db, db:
            yield db


def edit_store(root: str | Path, images: str = "") -> EditStore:
    """The store in a bank's directory, made if it is not there.  Raises BankError."""
    where = Path(root)
    if where.is_file():
        raise BankError(f"the bank {root} is a file; name a directory as `bank.path`")
    return EditStore(where, images)

"""Edited pictures beside the bank's: one SQLite file, keyed by recipe, over the same folder of pictures.

A recipe holds all that decides the pixels (editor, image, seed, terms) and nothing of the audited model, so that a new model or a new
version costs no edit.  A picture's file is on disk before the row that names it.  A picture that is lost later makes its recipe count as not
made, and what is made then is scored anew where its bytes are others.  A table that is damaged is set aside, and edits are made again.
"""

import fcntl
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

import structlog

from audit_plugin.bank.pictures import PictureFolder, storage
from audit_plugin.core.errors import BankError
from audit_plugin.core.protocols import Progress

LOG = structlog.get_logger(__name__)
FILE = "edits.sqlite"
NO_ORIGINAL = "-"
"""Origin of a picture that was drawn from words alone."""
_MANY = 500
"""Values bound in one query; SQLite takes 999 everywhere."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS edits (recipe TEXT PRIMARY KEY, sha256 TEXT NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (
  sha256 TEXT NOT NULL, detector TEXT NOT NULL, reading TEXT NOT NULL, PRIMARY KEY (sha256, detector)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
  operator TEXT PRIMARY KEY, pictures INTEGER NOT NULL, network_rows INTEGER NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
"""
# A recipe whose picture was lost has an empty sha256, and the former one in place of its facts.
_ADD = """
INSERT INTO edits VALUES (?, ?, ?)
ON CONFLICT (recipe) DO UPDATE SET sha256 = excluded.sha256, facts = excluded.facts WHERE edits.sha256 = ''
"""
# A picture lost before is named by its facts alone.
_ERASE = "DELETE FROM edits WHERE sha256 = ?1 OR (sha256 = '' AND facts = ?1)"
_READING = "SELECT reading FROM readings WHERE sha256 = ? AND detector = ?"
_LOSE = "UPDATE edits SET facts = sha256, sha256 = '' WHERE sha256 != '' AND"
_SPEND = """
INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT (operator) DO UPDATE SET pictures = pictures + excluded.pictures,
  network_rows = network_rows + excluded.network_rows, seconds = seconds + excluded.seconds
"""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@dataclass(frozen=True, kw_only=True)
class StoredEdit:
    """One edited picture and what was measured on it, without any model."""

    sha256: str
    outside_psnr: float | None = None
    mask_area: float | None = None
    distance: float | None = None
    quality: str = ""
    """Why it is no usable picture; empty when it is."""
    against: str = ""
    """sha256 of the null edit that it was measured against; empty for null edits."""
    origin: str = ""
    """sha256 of the image file that was edited, or :data:`NO_ORIGINAL`; empty in tables of earlier versions, which did not say."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an operator's pictures have taken so far on this bank."""

    pictures: int = 0
    network_rows: int = 0
    seconds: float = 0.0


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
        if self._damage():
            self._set_aside()
        if self._file.exists():
            self._complete()

    def _complete(self) -> None:
        """Make the tables that are not there; the file too."""
        with storage(str(self.root)):
            self.root.mkdir(parents=True, exist_ok=True)
        with storage(str(self._file)), closing(self._connected()) as db, db:
            db.executescript(_SCHEMA)

    def known(self, recipes: Iterable[str]) -> dict[str, StoredEdit]:
        """Those that were made, and not lost since."""
        found = list(self._chosen("SELECT recipe, sha256, facts FROM edits WHERE sha256 != '' AND recipe IN", recipes))
        edits = {recipe: _stored(sha, facts) for recipe, sha, facts in found}
        self.drop(recipe for recipe, edit in edits.items() if edit is None)
        return {recipe: edit for recipe, edit in edits.items() if edit is not None}

    def sound(self, recipes: Iterable[str]) -> dict[str, StoredEdit]:
        """The same without those whose picture has gone; they count as not made from now on."""
        known = self.known(recipes)
        gone = self.pictures.absent(edit.sha256 for edit in known.values())
        self._lose(dict.fromkeys(gone, "missing"))
        return {recipe: edit for recipe, edit in known.items() if edit.sha256 not in gone}

    @property
    def named(self) -> list[str]:
        """sha256 of every picture that a recipe names."""
        if not self._there():
            return []
        with storage(str(self._file)), closing(self._connected()) as db:
            return [sha for (sha,) in db.execute("SELECT DISTINCT sha256 FROM edits WHERE sha256 != '' ORDER BY sha256")]

    def put(self, png: bytes) -> str:
        """Store a picture and return its sha256."""
        return self.pictures.put(png)

    def add(self, edits: Mapping[str, StoredEdit]) -> None:
        """Commit a batch whose pictures are stored, all or nothing; a recipe that is there is left alone."""
        rows = []
        for recipe, edit in edits.items():
            facts = {key: value for key, value in asdict(edit).items() if key != "sha256"}
            rows.append((recipe, edit.sha256, json.dumps(facts)))
        lost = list(self._chosen("SELECT recipe, facts FROM edits WHERE sha256 = '' AND recipe IN", edits))
        with self._transaction() as db:
            db.executemany(_ADD, rows)
        if lost:
            others = sum(edits[recipe].sha256 != former for recipe, former in lost)
            LOG.warning("edits made again", edits=len(lost), with_other_bytes=others)

    def drop(self, recipes: Iterable[str]) -> None:
        """Let them count as not made; their pictures stay."""
        gone = [(recipe,) for recipe in recipes]
        if gone:
            with self._transaction() as db:
                db.executemany(f"{_LOSE} recipe = ?", gone)

    def mend(self, progress: Progress = lambda *_: None) -> dict[str, str]:
        """Hash every picture that is named; sha256 -> missing or corrupt, of those whose recipes count as not made from now on."""
        found, shas = {}, self.named
        for done, sha in enumerate(shas, 1):
            if damage := self.pictures.damage(sha):
                found[sha] = damage
            progress(done, len(shas), "files of edits")
        self._lose(found)
        return found

    def made_of(self, original: str) -> set[str]:
        """sha256 of every picture made of an image file; with an empty name, of those of which that is not known."""
        if not self._there():
            return set()
        with storage(str(self._file)), closing(self._connected()) as db:
            found = db.execute("SELECT sha256, facts FROM edits WHERE sha256 != ''").fetchall()
        edits = [edit for sha, facts in found if (edit := _stored(sha, facts)) is not None]
        own = {edit.sha256 for edit in edits if edit.origin == original}
        return own | {edit.sha256 for edit in edits if not edit.origin and edit.against in own} if original else own

    def origins(self, sha256: str) -> frozenset[str]:
        """sha256 of the image files that a picture was made of; empty where it is none of these pictures."""
        if not self._there():
            return frozenset()
        with storage(str(self._file)), closing(self._connected()) as db:
            found = db.execute("SELECT sha256, facts FROM edits WHERE sha256 = ?", [sha256]).fetchall()
        return frozenset(edit.origin for sha, facts in found if (edit := _stored(sha, facts)) is not None)

    def erase(self, shas: Collection[str], *, files_first: bool) -> None:
        """Delete pictures with all that names them and was read in them; killed, it goes on when it is asked again.

        ``files_first``: a killed call leaves names, by which the next one finds the rest; else it leaves files that nothing names.
        """
        every = sorted(shas)
        if files_first:
            self._remove(every)
        if self._there():
            with self._transaction() as db:
                db.executemany(_ERASE, [(sha,) for sha in every])
                db.executemany("DELETE FROM readings WHERE sha256 = ?", [(sha,) for sha in every])
        if not files_first:
            self._remove(every)

    def _remove(self, shas: Iterable[str]) -> None:
        for sha in shas:
            self.pictures.remove(sha)

    def readings(self, detector: str, shas: Iterable[str]) -> dict[str, Reading]:
        """sha256 -> what a detector read, as far as it was asked."""
        found = self._chosen("SELECT sha256, reading FROM readings WHERE detector = ? AND sha256 IN", shas, detector)
        read = {sha: _read(reading) for sha, reading in found}
        return {sha: reading for sha, reading in read.items() if reading is not None}

    def add_readings(self, detector: str, readings: Mapping[str, Reading]) -> None:
        """Commit a batch."""
        rows = [(sha, detector, json.dumps(reading)) for sha, reading in readings.items()]
        with self._transaction() as db:
            held = {row[:2]: db.execute(_READING, row[:2]).fetchone() for row in rows}
            unreadable = [key for key, found in held.items() if found is not None and _read(found[0]) is None]
            db.executemany("DELETE FROM readings WHERE sha256 = ? AND detector = ?", unreadable)
            db.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", rows)

    def spent(self, operator: str) -> Spent:
        """What pictures of an operator have taken."""
        found = list(self._chosen("SELECT pictures, network_rows, seconds FROM spent WHERE operator IN", [operator]))
        return Spent(pictures=int(found[0][0]), network_rows=int(found[0][1]), seconds=float(found[0][2])) if found else Spent()

    def add_spent(self, operator: str, more: Spent) -> None:
        """Count what a batch took."""
        with self._transaction() as db:
            db.execute(_SPEND, [operator, more.pictures, more.network_rows, more.seconds])

    def _lose(self, damaged: Mapping[str, str]) -> None:
        """Drop what names these pictures (sha256 -> damage), and what is left of them."""
        if not damaged:
            return
        with self._transaction() as db:
            db.executemany(f"{_LOSE} sha256 = ?", [(sha,) for sha in damaged])
        for sha in damaged:
            self.pictures.remove(sha)
        LOG.warning(
            "damaged pictures of edits; they are made again when they are needed", pictures=len(damaged), example=min(damaged)
        )

    def _damage(self) -> str:
        """What is wrong with the table's file; empty when it can be used, or is not there."""
        if not self._file.exists():
            return ""
        try:
            with storage(str(self._file)), closing(self._connected()) as db:
                (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        except BankError as error:
            if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                return str(error.__cause__)
            raise
        return "" if answer == "ok" else str(answer)

    def _set_aside(self) -> None:
        """Give a damaged table another name, journal and all, so that an empty one takes its place.  One process at a time."""
        with storage(str(self.root)), (self.root / "edits.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (why := self._damage()):  # somebody else was faster
                return
            free = next(path for at in count(1) if not (path := self._file.with_name(f"{FILE}.damaged-{at}")).exists())
            for left in (f"{FILE}-journal", f"{FILE}-wal", f"{FILE}-shm"):
                if (journal := self.root / left).exists():
                    journal.replace(free.with_name(free.name + left.removeprefix(FILE)))
            self._file.replace(free)
        LOG.warning("the table of edits is damaged; set aside, edits are made again", file=str(self._file), kept=free.name, why=why)

    def _chosen(self, query: str, keys: Iterable[str], *first: str) -> Iterator[tuple[str, ...]]:
        every = sorted(set(keys))
        if not self._there():
            return
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
        if not self._there():
            self._complete()
        with storage(str(self._file)), closing(self._connected()) as db, db:
            yield db

    def _there(self) -> bool:
        """Whether the tables are there: a file without them is being made by another thread or process, and holds nothing yet."""
        if not self._file.exists():
            return False
        with storage(str(self._file)), closing(self._connected()) as db:
            found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return found >= {"edits", "readings", "spent"}


def _stored(sha: str, facts: str) -> StoredEdit | None:
    """None for facts that nobody can read any more."""
    try:
        edit = StoredEdit(sha256=sha, **json.loads(facts))
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = (edit.outside_psnr, edit.mask_area, edit.distance)
    sound = all(number is None or _is_number(number) for number in numbers) and all(
        isinstance(text, str) for text in (edit.sha256, edit.quality, edit.against)
    )
    return edit if sound else None


def _read(reading: str) -> Reading | None:
    """None for a reading that nobody can read any more."""
    try:
        read = json.loads(reading)
    except (ValueError, TypeError, RecursionError):
        return None
    sound = isinstance(read, dict) and all(
        isinstance(levels, list) and levels and all(map(_is_number, levels)) for levels in read.values()
    )
    return read if sound else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def edit_store(root: str | Path, images: str = "") -> EditStore:
    """The store in a bank's directory, made when something is stored.  Raises BankError."""
    where = Path(root)
    if where.is_file():
        raise BankError(f"the bank {root} is a file; name a directory as `bank.path`")
    return EditStore(where, images)

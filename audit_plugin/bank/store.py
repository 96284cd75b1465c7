"""The probe bank on disk: one SQLite table file beside a folder of pictures.

    <root>/bank.sqlite    manifest, rows, probes, images, readings (write-ahead log: readers never wait for the writer)
    <root>/bank.lock      held by the one process that writes
    <root>/images/        ab/<sha256>.png, or any fsspec URL

A picture's file is on disk before the row that names it, so every row can be trusted and a file without a row is merely redrawn.
The rows and probes are those of the last plan; pictures and readings of earlier plans stay and are used again.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from audit_plugin.bank.pictures import PictureFolder, storage
from audit_plugin.bank.plan import Plan
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import BankError
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import DrawnImage, Probe, Row

FORMAT = 1
FORGOTTEN = "deleted on request"
"""Why a picture is refused of which only the name is kept, so that it is not drawn again."""
_SCHEMA = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE rows (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, document TEXT NOT NULL);
CREATE TABLE probes (
  position INTEGER PRIMARY KEY, id TEXT NOT NULL, row TEXT NOT NULL, arm TEXT NOT NULL, recipe TEXT NOT NULL, document TEXT NOT NULL
);
CREATE TABLE images (recipe TEXT PRIMARY KEY, sha256 TEXT NOT NULL, rejected TEXT NOT NULL, drawn_at TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX images_by_sha256 ON images (sha256);
CREATE TABLE readings (
  sha256 TEXT NOT NULL, detector TEXT NOT NULL, reading BLOB NOT NULL, PRIMARY KEY (sha256, detector)
) WITHOUT ROWID;
"""
_CONCEPTS = TypeAdapter(ConceptSet)
_ROW, _PROBE = TypeAdapter(Row), TypeAdapter(Probe)
Reading = Mapping[str, NDArray[np.float32]]
"""Concept -> ``(K,)`` level probabilities of one picture."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture fresh from the generator, on its way into the bank."""

    recipe: str
    png: bytes
    rejected: str = ""

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.png).hexdigest()


class ProbeBank:
    """One audit's probe bank.  Safe to use from many threads and processes; whoever writes does it inside :meth:`writer`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        manifest = self._manifest()
        if manifest.get("format") != str(FORMAT):
            raise BankError(
                f"bank {root} has format {manifest.get('format')}, this version reads {FORMAT}; build it anew elsewhere"
            )
        self.audit = manifest["audit"]
        self.pictures = PictureFolder(manifest["images"] or str(root / "images"))

    @classmethod
    def open(cls, root: str | Path) -> "ProbeBank":
        """The bank that lies at ``root``.  Raises BankError if there is none."""
        if not _table_file(Path(root)).is_file():
            raise BankError(f"there is no probe bank at {root}; build it first, or correct the path")
        return cls(Path(root))

    @classmethod
    def create(cls, root: str | Path, *, audit: str, concept_set: ConceptSet, images: str = "") -> "ProbeBank":
        """The bank at ``root``, made if it is not there; ``images`` is the URL of the pictures (default: a folder inside).

        Raises BankError if what is there was made for another audit, concept set or image URL.
        """
        root = Path(root)
        if not _table_file(root).is_file():
            _make(root, {"format": str(FORMAT), "audit": audit, "images": images, **_concept_entries(concept_set)})
        bank = cls(root)
        bank.check(audit=audit, concept_set=concept_set)
        if images and images != bank._manifest()["images"]:
            raise BankError(f"bank {root} keeps its images at {bank.pictures.url}, not {images}; move them or give that URL")
        return bank

    def check(self, *, audit: str, concept_set: ConceptSet) -> None:
        """Raise BankError unless the bank was made for this audit and this concept set (roles, groups, placebo words may change)."""
        cure = "point the bank to another directory, or delete this one to build it anew"
        if audit != self.audit:
            raise BankError(f"bank {self.root} belongs to audit {self.audit!r}, not {audit!r}; {cure}")
        own = self.concept_set
        if pictured(own) != pictured(concept_set):
            raise BankError(
                f"bank {self.root} was made for another concept set ({', '.join(own.names)}; digest {own.digest[:12]}) "
                f"than the given one ({', '.join(concept_set.names)}; digest {concept_set.digest[:12]}); {cure}"
            )

    @property
    def concept_set(self) -> ConceptSet:
        """The concept set of the last plan."""
        return _CONCEPTS.validate_json(self._manifest()["concept_set"])

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the bank for writing; ends with the process, however that ends.  Raises BankError naming who holds it."""
        with _lock(self.root):
            yield

    def register(self, plan: Plan) -> None:
        """Make this plan the bank's; pictures that are there already stay."""
        self.check(audit=plan.audit, concept_set=plan.concept_set)
        probes = [(at, p.id, p.row, p.arm, p.recipe.id, _PROBE.dump_json(p).decode()) for at, p in enumerate(plan.probes)]
        rows = [(at, row.id, _ROW.dump_json(row).decode()) for at, row in enumerate(plan.rows)]
        entries = {"generator": plan.generator, **_concept_entries(plan.concept_set)}
        with self._transaction() as db:
            db.execute("DELETE FROM rows")
            db.execute("DELETE FROM probes")
            db.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
            db.executemany("INSERT INTO probes VALUES (?, ?, ?, ?, ?, ?)", probes)
            db.executemany("REPLACE INTO manifest VALUES (?, ?)", entries.items())

    def plan(self) -> Plan:
        """The last registered plan.  Raises BankError if there was none."""
        manifest = self._manifest()
        if "generator" not in manifest:
            raise BankError(f"bank {self.root} is empty; build it first")
        rows = self._select("SELECT document FROM rows ORDER BY position")
        probes = self._select("SELECT document FROM probes ORDER BY position")
        return Plan(
            audit=self.audit,
            concept_set=_CONCEPTS.validate_json(manifest["concept_set"]),
            generator=manifest["generator"],
            rows=tuple(_ROW.validate_json(document) for (document,) in rows),
            probes=tuple(_PROBE.validate_json(document) for (document,) in probes),
        )

    def images(self) -> dict[str, DrawnImage]:
        """Recipe id -> picture, for everything that was ever drawn and is still there."""
        found = self._select("SELECT recipe, sha256, rejected FROM images")
        return {recipe: DrawnImage(recipe=recipe, sha256=sha, rejected=why) for recipe, sha, why in found}

    def usable(self) -> list[str]:
        """sha256 of the plan's pictures that the quality filter let pass, each once, row by row."""
        query = """
            SELECT i.sha256 FROM probes p JOIN images i ON i.recipe = p.recipe
            WHERE i.rejected = '' GROUP BY i.sha256 ORDER BY MIN(p.position)
        """
        return [sha for (sha,) in self._select(query)]

    def planned(self) -> list[str]:
        """sha256 of all pictures of the plan, refused ones too."""
        return [sha for (sha,) in self._select("SELECT DISTINCT i.sha256 FROM probes p JOIN images i ON i.recipe = p.recipe")]

    def add_images(self, batch: Sequence[Drawn]) -> list[DrawnImage]:
        """Store a batch: first every file, except of forgotten pictures, then all their rows in one transaction."""
        images = [DrawnImage(recipe=one.recipe, sha256=self._put(one), rejected=one.rejected) for one in batch]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._transaction() as db:
            rows = [(image.recipe, image.sha256, image.rejected, now) for image in images]
            db.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?)", rows)
        return images

    def _put(self, one: Drawn) -> str:
        return one.sha256 if one.rejected == FORGOTTEN else self.pictures.put(one.png)

    def refuse(self, shas: Collection[str]) -> int:
        """Delete pictures for good: their recipes count as refused and are not drawn again; how many recipes were not refused so yet.

        Files go first: a killed call leaves names, by which the next one finds the rest.
        """
        every = sorted(shas)
        for sha in every:
            self.pictures.remove(sha)
        with self._transaction() as db:
            change = "UPDATE images SET rejected = ?2 WHERE sha256 = ?1 AND rejected != ?2"
            named = db.executemany(change, [(sha, FORGOTTEN) for sha in every])
            db.executemany("DELETE FROM readings WHERE sha256 = ?", [(sha,) for sha in every])
            return max(0, named.rowcount)

    def forget(self, sha: str) -> None:
        """Drop a damaged picture, so that the next build draws it again."""
        with self._transaction() as db:
            db.execute("DELETE FROM images WHERE sha256 = ?", [sha])
        self.pictures.remove(sha)

    def drop(self, shas: Collection[str]) -> None:
        """Delete pictures, so that the next build draws again what it needs of them; first what names them, then the files."""
        every = [(sha,) for sha in sorted(shas)]
        with self._transaction() as db:
            db.executemany("DELETE FROM images WHERE sha256 = ?", every)
        for (sha,) in every:
            self.pictures.remove(sha)

    def drawn_for(self, rows: Collection[str]) -> set[str]:
        """sha256 of the pictures of these rows of the plan that no other row shares."""
        shown: dict[str, set[str]] = {}
        for row, sha in self._select("SELECT p.row, i.sha256 FROM probes p JOIN images i ON i.recipe = p.recipe"):
            shown.setdefault(sha, set()).add(row)
        return {sha for sha, whose in shown.items() if whose <= set(rows)}

    def forget_rows(self, rows: Collection[str], originals: Collection[str]) -> int:
        """Delete rows of the plan with their pictures, and readings of these pictures and image files; how many pictures went.

        Files go first: a killed call leaves names, by which the next one finds the rest.
        """
        gone = self.drawn_for(rows)
        for sha in gone:
            self.pictures.remove(sha)
        with self._transaction() as db:
            db.executemany("DELETE FROM readings WHERE sha256 = ?", [(sha,) for sha in (*gone, *originals)])
            db.executemany("DELETE FROM images WHERE sha256 = ?", [(sha,) for sha in gone])
            db.executemany("DELETE FROM probes WHERE row = ?", [(row,) for row in rows])
            db.executemany("DELETE FROM rows WHERE id = ?", [(row,) for row in rows])
        return len(gone)

    def detectors(self) -> list[str]:
        """Fingerprints of the detectors whose readings are kept."""
        return [name for (name,) in self._select("SELECT DISTINCT detector FROM readings ORDER BY detector")]

    def readings(self, detector: str) -> dict[str, Reading]:
        """sha256 -> reading, of one detector."""
        concepts = self.concept_set.concepts
        ends = np.cumsum([len(concept.levels) for concept in concepts])[:-1]
        found = self._select("SELECT sha256, reading FROM readings WHERE detector = ?", [detector])
        names = [concept.name for concept in concepts]
        return {sha: dict(zip(names, np.split(np.frombuffer(blob, "<f4"), ends), strict=True)) for sha, blob in found}

    def add_readings(self, detector: str, readings: Mapping[str, NDArray[np.float32]]) -> None:
        """Store a batch of readings, sha256 -> the levels of all concepts in order, in one transaction."""
        with self._transaction() as db:
            rows = [(sha, detector, reading.astype("<f4").tobytes()) for sha, reading in readings.items()]
            db.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?, ?)", rows)

    @property
    def digest(self) -> str:
        """Identity of the evidence: every probe of the plan with its picture."""
        query = "SELECT p.id, i.sha256, i.rejected FROM probes p LEFT JOIN images i ON i.recipe = p.recipe ORDER BY p.id"
        return digest("bank", *(f"{probe} {sha or ''} {why or ''}" for probe, sha, why in self._select(query)))

    def _manifest(self) -> dict[str, str]:
        return dict(self._select("SELECT key, value FROM manifest"))

    def _select(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with storage(str(_table_file(self.root))), closing(_connect(self.root)) as db:
            return db.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with storage(str(_table_file(self.root))), closing(_connect(self.root)) as db, db:
            yield db


def pictured(concept_set: ConceptSet) -> str:
    """Identity of all that decides captions and readings: names, levels, phrases and the template, in order."""
    said = json.dumps([[c.name, c.levels, c.phrases] for c in concept_set.concepts])
    return digest("pictured", said, concept_set.template_digest)


def _concept_entries(concept_set: ConceptSet) -> dict[str, str]:
    return {
        "concept_set": _CONCEPTS.dump_json(concept_set).decode(),
        "concept_set_digest": concept_set.digest,
        "caption_template_digest": concept_set.template_digest,
    }


def _table_file(root: Path) -> Path:
    return root / "bank.sqlite"


def _connect(root: Path) -> sqlite3.Connection:
    """A connection for one operation: cheap, and safe in any thread."""
    return sqlite3.connect(_table_file(root), timeout=30, isolation_level="IMMEDIATE")


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    with storage(str(root)):
        file = (root / "bank.lock").open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BankError(f"bank {root} is being written by process {holder}; wait for it to end, or stop it") from None
        with storage(str(root)):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def _make(root: Path, manifest: Mapping[str, str]) -> None:
    """Write the empty table file under another name and move it into place: nobody meets half of one."""
    with storage(str(root)):
        root.mkdir(parents=True, exist_ok=True)
    temp = root / "bank.sqlite.tmp"
    with _lock(root), storage(str(root)):
        if _table_file(root).is_file():  # somebody else was faster
            return
        for left in root.glob(f"{temp.name}*"):
            left.unlink()
        with closing(sqlite3.connect(temp)) as db:
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            with db:
                db.executemany("INSERT INTO manifest VALUES (?, ?)", manifest.items())
            db.execute("PRAGMA journal_mode = WAL")  # last: a log that a full disk kept from being merged would be left behind
        temp.replace(_table_file(root))

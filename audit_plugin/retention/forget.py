"""Delete an image by request: its pictures, answers, readings and single rows go, aggregates stay, and it is never taken in again.

The tombstone comes first, so that an audit that starts meanwhile leaves the image out; the names by which its pictures are found go last,
so that a killed call is completed by the next one.

A picture that was drawn for the bank can be forgotten as well: its recipe is refused from then on.  An edit cannot: it would be made again
of the image that it shows, so that this image is to be forgotten.
"""

import csv
import gzip
import hashlib
import io
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audit_plugin.bank.confirmations import drop_answers
from audit_plugin.bank.edit_store import NO_ORIGINAL, EditStore, edit_store
from audit_plugin.bank.pictures import PictureFolder
from audit_plugin.bank.reference import alike, forget_twins, twins_of
from audit_plugin.bank.store import ProbeBank
from audit_plugin.capture.files import bury, read_tombstones
from audit_plugin.core.errors import ConfigError, ImageError, StoreError
from audit_plugin.core.pictured import about, singles, without
from audit_plugin.core.results import from_json
from audit_plugin.core.values import Row
from audit_plugin.report.document import write_whole
from audit_plugin.sources.images import read_bytes
from audit_plugin.store.retention import FORGOTTEN
from audit_plugin.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where copies and descendants of an image may lie."""

    bank: Path
    images: str = ""
    """Of the bank's pictures; below the bank when empty."""
    report: Path
    """Directory of the report; atomic rows lie in it."""
    capture: Path | None = None
    """Of captured production pictures."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What a call deleted; all zero when nothing was left."""

    first: bool
    """Whether the image had no tombstone yet."""
    rows: tuple[str, ...] = ()
    """Rows of the audit that showed it."""
    edits: int = 0
    """Edited pictures and copies of it."""
    unattributed: int = 0
    """Edits of which an earlier version did not note the original: they may be of it, and are made again when they are needed."""
    drawn: int = 0
    """Pictures that were drawn for its rows, or itself where it was drawn."""
    answers: int = 0
    """What model versions said of all these."""
    runs: int = 0
    """Runs whose document lost what it said of it."""
    row_files: int = 0
    """Tables of atomic rows that lost lines."""
    inversions: int = 0
    """Kept inversions, of which nobody can say whose they are: all of them."""

    @property
    def anything(self) -> bool:
        """Whether something was there to delete."""
        return any((self.edits, self.drawn, self.answers, self.runs, self.row_files, self.inversions, self.unattributed))


def rows_showing(rows: Iterable[Row], sha256: str) -> frozenset[str]:
    """Ids of the rows whose image file has this SHA-256; files that cannot be read are passed over."""
    found = set()
    for row in rows:
        try:
            data = read_bytes(row.image) if row.image else b""
        except ImageError:
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            found.add(row.id)
    return frozenset(found)


def forget(sha256: str, store: Store, places: Places, *, rows: frozenset[str], by: str, reason: str) -> Forgotten:
    """Delete everything about one image; ``rows`` are those that show it.

    Raises ConfigError for an edit, naming its original, and StoreError while a run about it is on hold.
    """
    edits = edit_store(places.bank, places.images)
    if not rows:
        _check_original(edits, sha256)
    pictures, doubtful = edits.made_of(sha256), edits.made_of("")
    itself = _itself(places, sha256)
    drawn = _drawn(places, rows) | itself
    names = frozenset({sha256, *pictures, *doubtful, *drawn})
    _check_holds(store, rows, names - doubtful)
    first = store.retention.bury(sha256, by=by, reason=reason)
    for twin in sorted(itself - {sha256}):  # the same picture by another backend
        store.retention.bury(twin, by=by, reason=reason)
    if places.capture is not None and sha256 not in read_tombstones(places.capture):
        bury(places.capture, [sha256])
    runs = _clear_runs(store, rows, frozenset({sha256, *pictures, *drawn}), by=by, sha256=sha256)
    files = sum(_clear_row_file(file, rows, names) for file in sorted(places.report.glob("diffex-rows-*.csv.gz")))
    answers = store.retention.drop_scores(names)
    drop_answers(places.bank, names)
    edits.erase(pictures | doubtful, files_first=True)
    PictureFolder(places.images or str(places.bank / "images")).remove(sha256)
    gone = _clear_bank(places, rows, names, itself)
    told = Forgotten(
        first=first,
        rows=tuple(sorted(rows)),
        edits=len(pictures),
        unattributed=len(doubtful),
        drawn=gone,
        answers=answers,
        runs=runs,
        row_files=files,
        inversions=_clear_inversions(places.bank / "inversions"),
    )
    if told.anything:
        counts = f"{told.edits + told.unattributed} edits, {told.drawn} drawn, {told.answers} answers, {told.runs} runs"
        store.retention.note(by, FORGOTTEN, sha256, f"deleted {counts}")
    return told


def _check_original(edits: EditStore, sha256: str) -> None:
    """Raise ConfigError for a picture that would be made again of something else."""
    origins = edits.origins(sha256) - {"", sha256}
    if NO_ORIGINAL in origins:
        raise ConfigError(
            f"{sha256} was drawn from words for a discovery and shows no image; `audit-plugin prune` deletes it when it is old"
        )
    if origins:
        raise ConfigError(
            f"{sha256} is an edit and would be made again; forget the image that it was made of: --image {min(origins)}"
        )


def _itself(places: Places, sha256: str) -> frozenset[str]:
    """The image and its twin, where it was drawn for the bank."""
    there = (places.bank / "bank.sqlite").is_file()
    return alike(ProbeBank.open(places.bank), sha256) if there else frozenset()


def _check_holds(store: Store, rows: frozenset[str], names: frozenset[str]) -> None:
    goes = about(rows, names)
    for run in sorted(store.retention.held_runs()):
        if any(goes(part) for part in singles(from_json(store.retention.document(run)))):
            raise StoreError(
                f"run {run} shows this image and is on hold; `audit-plugin release` it first, or have the hold's owner decide"
            )


def _clear_runs(store: Store, rows: frozenset[str], names: frozenset[str], *, by: str, sha256: str) -> int:
    goes, why = about(rows, names), f"image {sha256} was deleted on request"
    return sum(
        store.retention.replace_document(run.run, lambda result: without(result, goes), by=by, why=why) > 0
        for run in store.retention.runs()
    )


def _drawn(places: Places, rows: frozenset[str]) -> set[str]:
    if not rows or not (places.bank / "bank.sqlite").is_file():
        return set()
    bank = ProbeBank.open(places.bank)
    return bank.drawn_for(rows) | twins_of(bank, rows)


def _clear_bank(places: Places, rows: frozenset[str], names: frozenset[str], itself: frozenset[str]) -> int:
    if not (places.bank / "bank.sqlite").is_file():
        return 0
    bank = ProbeBank.open(places.bank)
    with bank.writer():
        return len(forget_twins(bank, rows, itself)) + bank.refuse(itself) + bank.forget_rows(rows, names)


def _clear_row_file(file: Path, rows: frozenset[str], names: frozenset[str]) -> bool:
    """Take the image's lines out of a table of atomic rows."""
    lines = list(csv.reader(io.StringIO(gzip.decompress(file.read_bytes()).decode())))
    kept = [lines[0], *(line for line in lines[1:] if not _is_of(dict(zip(lines[0], line, strict=True)), rows, names))]
    if len(kept) == len(lines):
        return False
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    write_whole(file, gzip.compress(text.getvalue().encode(), mtime=0))
    return True


def _is_of(line: dict[str, str], rows: frozenset[str], names: frozenset[str]) -> bool:
    return line.get("image") in rows or bool({line.get("before_sha256"), line.get("after_sha256")} & names)


def _clear_inversions(shelf: Path) -> int:
    """Their names are hashes that hold more than the image, so none can be told from another; they are made again."""
    count = len(list(shelf.glob("*"))) if shelf.is_dir() else 0
    if count:
        shutil.rmtree(shelf)
    return count

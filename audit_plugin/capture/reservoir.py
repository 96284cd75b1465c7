"""A bounded uniform sample of one model's pictures on disk, as a table and files that an audit reads as they are.

Algorithm R of Vitter (1985), *Random Sampling with a Reservoir*: the n-th request is kept with probability size / n, in place of a random
one.  Ours: n counts the requests of the last ``days`` only, for whatever is older leaves the sample; a plain count would let it run dry.
Draws follow from the seed and the request's id, so that a repeated event is decided as before.

A picture's file is there before the table names it, and goes after the table has ceased to; both are replaced whole.  Killed at any
moment, the directory holds a table all of whose files are there; at most the last second's rows are lost.
"""

import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from audit_plugin.capture.files import TOMBSTONES, lock, picture_path, read_tombstones, replace_file, safe_name
from audit_plugin.capture.rows import Row, read_rows, table
from audit_plugin.core.errors import CaptureError
from audit_plugin.core.seeds import digest, seed
from audit_plugin.sources.images import Pixels, encode_png

HOUR = 3600.0
_ANSWERS = 4096
"""Answers that are kept for requests that come after them."""
_SCALE = float(2**63)


def picture_id(model: str, event: str, place: int) -> str:
    """Name of a picture in tables: that of the request with this id, at this place of its batch."""
    return digest("capture", model, event, str(place))


class Reservoir:
    """The sample of one model; used by one thread.  Opening it repairs what a killed process left."""

    def __init__(
        self,
        root: Path,
        model: str,
        *,
        size: int,
        days: float,
        max_bytes: int,
        seed: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``root`` holds the samples of all models.

        Raises:
            OSError: the directory cannot be written, or another process writes it.
            SourceError: there is a table that is not ours.
        """
        self.model, self._size, self._days, self._max_bytes, self._seed, self._clock = model, size, days, max_bytes, seed, clock
        self.directory = root / safe_name(model)
        self._tombstones = root / TOMBSTONES
        self._buried: frozenset[str] = frozenset()
        self._buried_stamp: tuple[int, int] | None = None
        self._answers: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._leaving: set[str] = set()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.directory)
        self._dirty = True
        try:
            named = read_rows(self.directory)
            self._committed = frozenset(row.file for row in named)
            self._rows = {row.id: row for row in named if (self.directory / row.file).is_file()}
            self._seen = _read_seen(self.directory)
            self._sweep()
        except BaseException:
            self.close()
            raise

    @property
    def rows(self) -> tuple[Row, ...]:
        """The sample now."""
        return tuple(self._rows.values())

    def __contains__(self, identity: object) -> bool:
        return identity in self._rows

    def chosen(self, identity: str) -> bool:
        """Count a request and decide whether its picture belongs into the sample; then ``keep`` follows, or nothing."""
        hour = int(self._clock() // HOUR)
        self._seen[hour] = self._seen.get(hour, 0) + 1
        self._dirty = True
        window = sum(count for when, count in self._seen.items() if (hour - when) * HOUR < self._days * 24 * HOUR)
        return seed(self._seed, identity) / _SCALE * window < self._size

    def keep(self, identity: str, picture: Pixels, *, version: str) -> None:
        """Write a chosen picture, in place of a random one where the sample is full.

        Raises:
            CaptureError: the picture was deleted once and must not come back.
            OSError: it could not be written; the sample is as before.
        """
        data = encode_png(picture, synthetic=False)
        sha = hashlib.sha256(data).hexdigest()
        self._heed_tombstones()
        if sha in self._buried:
            raise CaptureError("tombstone", f"picture {sha} was deleted and is not kept again", status=422)
        file = picture_path(sha)
        if not (self.directory / file).exists():
            replace_file(self.directory / file, data)
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if len(self._rows) >= self._size:
            ids = sorted(self._rows)
            self._remove([ids[seed(self._seed, identity, 1) % len(ids)]])
        predicted, answered_by = self._answers.pop(identity, ("", ""))
        self._rows[identity] = Row(
            file=file,
            id=identity,
            predicted=predicted,
            model=self.model,
            version=version or answered_by,
            captured_at=at,
            sha256=sha,
            bytes=len(data),
        )
        self._leaving.discard(file)
        self._dirty = True

    def answer(self, identity: str, predicted: str, *, version: str = "") -> None:
        """Note the class of a request, and the version that answered, whether it has come or is to come."""
        row = self._rows.get(identity)
        if row is not None:
            told = replace(row, predicted=predicted, version=row.version or version)
            if told != row:
                self._rows[identity], self._dirty = told, True
            return
        self._answers[identity] = predicted, version
        self._answers.move_to_end(identity)
        while len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)

    def retain(self) -> None:
        """Take out what is too old, too much, or was deleted; the files go with the next ``commit``."""
        self._heed_tombstones()
        oldest = self._clock() - self._days * 24 * HOUR
        self._seen = {hour: count for hour, count in self._seen.items() if (hour + 1) * HOUR > oldest}
        self._remove([row.id for row in self.rows if datetime.fromisoformat(row.captured_at).timestamp() < oldest])
        held = sum({row.file: row.bytes for row in self.rows}.values())
        for row in sorted(self.rows, key=lambda row: row.captured_at):
            if held <= self._max_bytes:
                break
            self._remove([row.id])
            held -= row.bytes if row.file in self._leaving else 0

    def commit(self) -> None:
        """Write the table if anything changed, then delete the files that it no longer names.  Raises OSError; call it again then."""
        if self._dirty:
            replace_file(self.directory / "table.csv", table(self._rows.values()).encode())
            self._committed = frozenset(row.file for row in self.rows)
            replace_file(self.directory / "state.json", json.dumps({"seen": self._seen}).encode())
            self._dirty = False
        for file in tuple(self._leaving):
            (self.directory / file).unlink(missing_ok=True)
            self._leaving.discard(file)

    def give_way(self) -> None:
        """On a full disk: take half of the pictures back that no written table names, so that the table has room."""
        fresh = [row for row in self.rows if row.file not in self._committed]
        self._remove([row.id for row in fresh[len(fresh) // 2 :]])
        for file in tuple(self._leaving - self._committed):
            (self.directory / file).unlink(missing_ok=True)
            self._leaving.discard(file)

    def close(self) -> None:
        """Let others write the sample; what was not committed is lost."""
        self._lock.close()

    def _remove(self, ids: Iterable[str]) -> None:
        gone = [self._rows.pop(one).file for one in ids]
        if gone:
            self._dirty = True
            self._leaving |= set(gone) - {row.file for row in self._rows.values()}

    def _heed_tombstones(self) -> None:
        """Other processes add to the list; it is read again when it has changed."""
        try:
            found = self._tombstones.stat()
        except FileNotFoundError:
            return
        if (found.st_mtime_ns, found.st_size) != self._buried_stamp:
            self._buried = read_tombstones(self._tombstones.parent)
            self._buried_stamp = (found.st_mtime_ns, found.st_size)
            self._remove([row.id for row in self.rows if row.sha256 in self._buried])

    def _sweep(self) -> None:
        """Files that no row names: pictures of rows that were not committed, and halves."""
        named = {row.file for row in self.rows}
        for path in [*self.directory.glob("pictures/*/*"), *self.directory.glob("*.part")]:
            if path.is_file() and path.relative_to(self.directory).as_posix() not in named:
                path.unlink(missing_ok=True)


def _read_seen(directory: Path) -> dict[int, int]:
    """Hour -> requests; empty where it was lost, which makes the sample take newer pictures more readily."""
    try:
        seen = json.loads((directory / "state.json").read_text(encoding="utf-8"))["seen"]
        return {int(hour): int(count) for hour, count in seen.items() if re.fullmatch(r"\d+", hour)}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}

"""Where picture bytes lie: ``ab/<sha256>.png`` under any fsspec URL, named by their content, written whole or not at all."""

import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from audit_plugin.core.errors import BankError, DamagedPictureError, StorageFullError
from audit_plugin.sources.images import Pixels, read_image

_SHA_DIGITS = 64
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SQLITE_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}


@contextmanager
def storage(where: str) -> Iterator[None]:
    """Whatever the disk or SQLite says, in this package's words."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(where) from error
        raise BankError(f"{where}: {error}; check that the place exists and may be written, then run again: it resumes") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL:
            raise StorageFullError(where) from error
        raise BankError(f"{where}: {error}; if the file is damaged, delete it and build the bank again") from error


class PictureFolder:
    """Content-addressed pictures."""

    def __init__(self, url: str) -> None:
        self.url = url
        with _vendor(url):
            self._fs, self._root = fsspec.core.url_to_fs(url)
        self._local = isinstance(self._fs, LocalFileSystem)

    def path(self, sha: str) -> str:
        """Where a picture lies on its file system."""
        return f"{self._root}/{sha[:2]}/{sha}.png"

    def put(self, png: bytes) -> str:
        """Store a picture and return its sha256.  Once this returns, it is on disk whole."""
        sha = hashlib.sha256(png).hexdigest()
        with storage(self.url):
            if self._local:
                _write_whole(self._fs, self.path(sha), png)
            else:  # object stores publish an object when it is complete
                self._fs.pipe_file(self.path(sha), png)
        return sha

    def get(self, sha: str) -> bytes:
        """The bytes of a picture, checked against its name.  Raises DamagedPictureError if they are gone or are not the ones stored."""
        damage, data = self._load(sha)
        if damage:
            raise DamagedPictureError(sha, self.url, damage)
        return data

    def pixels(self, sha: str) -> Pixels:
        """A picture, decoded."""
        return read_image(self.get(sha), name=self.path(sha))

    def damage(self, sha: str) -> str:
        """Either missing or corrupt, in that word; empty when the picture is what its name says."""
        return self._load(sha)[0]

    def absent(self, shas: Iterable[str]) -> set[str]:
        """Those without a file, as far as that costs nothing: object stores, where it would cost a request each, are not asked."""
        return {sha for sha in shas if not Path(self.path(sha)).exists()} if self._local else set()

    def listed(self) -> Iterator[tuple[str, int, float]]:
        """(sha256, bytes, seconds since the epoch when it was written) of every picture that is there, named by anything or not.

        Where a storage does not say when, it is now, so that nothing is taken for old.
        """
        with storage(self.url), suppress(FileNotFoundError):
            for path, facts in self._fs.find(self._root, detail=True).items():
                name = Path(path)
                if name.suffix == ".png" and len(name.stem) == _SHA_DIGITS:
                    yield name.stem, int(facts.get("size") or 0), _written(facts)

    def remove(self, sha: str) -> None:
        """Delete a picture if it is there."""
        with storage(self.url), suppress(FileNotFoundError):
            self._fs.rm_file(self.path(sha))

    def _load(self, sha: str) -> tuple[str, bytes]:
        try:
            with storage(self.url), suppress(FileNotFoundError):
                data: bytes = self._fs.cat_file(self.path(sha))
                return ("" if hashlib.sha256(data).hexdigest() == sha else "corrupt"), data
        except BankError as error:
            raise BankError(f"picture {sha} in {self.url} cannot be read: {error.__cause__}; check the storage") from error
        return "missing", b""


def _written(facts: Mapping[str, Any]) -> float:
    """What file systems call the time differs."""
    found = facts.get("mtime") or facts.get("LastModified") or facts.get("last_modified") or facts.get("updated")
    if isinstance(found, datetime):
        return found.timestamp()
    return float(found) if isinstance(found, (int, float)) else time.time()


def _write_whole(fs: LocalFileSystem, path: str, data: bytes) -> None:
    """Temp sibling, flushed to the disk, then renamed.  The temp name is fixed, so a later attempt takes over what a killed one left."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    temp = f"{path}.tmp"
    try:
        with fs.open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError) if Path(path).exists() else nullcontext():  # whoever stored the same picture was faster
            Path(temp).replace(path)
    except OSError:
        with suppress(OSError):
            Path(temp).unlink()
        raise


@contextmanager
def _vendor(url: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, ValueError) as error:
        raise BankError(f"images cannot be kept at {url!r}: {error}") from error

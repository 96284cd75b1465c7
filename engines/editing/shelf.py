"""Inversions kept on disk: one file an image, used again by later runs, and bounded: those that were not used for longest go first.

Numbers are kept in the precision they have, so that an edit by a kept inversion has the bits of one by a fresh one.  A file that is damaged
is thrown away, and one that cannot be written is not missed: the image is inverted again.
"""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from engines.editing.inversion import Inversion
from engines.editing.storage import InversionFileError, load_inversion, save_inversion

LOG = logging.getLogger(__name__)
_SUFFIX = ".safetensors"
_LEFT_SECONDS = 3600.0
"""Age from which a file that was not finished belongs to nobody any more."""


@dataclass(eq=False)
class InversionShelf:
    """Safe to use from several threads and processes: who finds a file gone inverts again."""

    root: Path
    max_bytes: int
    """0 keeps nothing."""
    _lock: Lock = field(default_factory=Lock, init=False)
    _told: bool = field(default=False, init=False)

    def get(self, key: str) -> Inversion | None:
        """What was kept under a name, on the CPU; None where it is not there, or not whole."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            found = load_inversion(path)
            path.touch()
        except InversionFileError as error:
            LOG.warning("a kept inversion is damaged; the image is inverted again: %s", error)
            path.unlink(missing_ok=True)
            return None
        except OSError:  # it went while it was read
            return None
        return found

    def put(self, key: str, inversion: Inversion) -> None:
        """Keep one; older ones make room."""
        if self.max_bytes <= 0:
            return
        try:
            save_inversion(self._path(key), inversion)
        except InversionFileError as error:
            if not self._told:
                LOG.warning("inversions are not kept, which later runs will pay for: %s", error)
            self._told = True

    def collect(self) -> None:
        """Throw away what does not fit, the least recently used first, and what killed writers left."""
        with self._lock:
            files = sorted((found for path in self.root.glob("*") if (found := _facts(path))), reverse=True)
            room = self.max_bytes
            for used, size, path in files:
                if path.suffix == _SUFFIX:
                    room -= size
                    gone = room < 0
                else:
                    gone = path.suffix == ".partial" and time.time() - used > _LEFT_SECONDS
                if gone:
                    path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / f"{key}{_SUFFIX}"


def _facts(path: Path) -> tuple[float, int, Path] | None:
    """When it was last used, and its size; None for what has just gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime, stat.st_size, path

"""Files of captured samples: names, whole replacement, the list of deleted pictures, and copies for audits."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from audit_plugin.core.errors import SourceError

TOMBSTONES = "tombstones.txt"
"""One sha256 a line; shared by all models of a ``capture.path``."""
_SHA = re.compile(r"[0-9a-f]{64}")


def safe_name(model: str) -> str:
    """A model's directory: its name where that is a harmless one, else with a digest in place of what is not.

    >>> safe_name("resnet50"), safe_name("../a")[:7]
    ('resnet50', '__a-')
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", model) and model != TOMBSTONES:
        return model
    kept = re.sub(r"[^A-Za-z0-9_-]", "", model.replace("/", "_").replace(".", "_"))[:60].lstrip("-")
    return f"{kept}-{hashlib.sha256(model.encode()).hexdigest()[:12]}"


def picture_path(sha: str) -> str:
    """Path of a picture below its sample's directory."""
    return f"pictures/{sha[:2]}/{sha}.png"


def replace_file(path: Path, data: bytes) -> None:
    """The whole file or none of it, also after a loss of power.  Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        _write(part, data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(part, data)
    part.replace(path)


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        raise
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise


def lock(directory: Path) -> IO[bytes]:
    """Keeps other processes from writing the directory until it is closed, or the process ends.  Raises OSError where one does."""
    file = (directory / ".lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def read_tombstones(root: Path) -> frozenset[str]:
    """SHA-256 of pictures that were deleted and are not captured again.  Raises OSError."""
    try:
        return frozenset(_SHA.findall((root / TOMBSTONES).read_text(encoding="ascii", errors="replace")))
    except FileNotFoundError:
        return frozenset()


def bury(root: Path, pictures: Iterable[str]) -> None:
    """Delete pictures by sha256, now from all samples of a running service, and for all time.  Raises SourceError or OSError."""
    wanted = list(pictures)
    for sha in wanted:
        if not _SHA.fullmatch(sha):
            raise SourceError(f"{sha!r} is no sha256; take it from the column `sha256` of the sample's table")
    root.mkdir(parents=True, exist_ok=True)
    with (root / TOMBSTONES).open("a", encoding="ascii") as file:
        file.writelines(f"{sha}\n" for sha in wanted)
        file.flush()
        os.fsync(file.fileno())


def link_or_copy(source: Path, to: Path) -> bool:
    """A second name for a file, or a copy where the place is on another disk; False where the file is gone."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, to)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        try:
            shutil.copyfile(source, to)
        except FileNotFoundError:
            return False
    return True

"""One build at a time on a device, and one file of kernel timings per release and device: never shared between models of GPU."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import CacheError

FOLDER = ".tensorrt"
"""In the build cache, where nobody takes it for an artifact."""


@contextmanager
def alone_on(root: Path, device: str, version: str) -> Iterator[Path]:
    """Wait until nobody else builds for the device, since what runs beside a measurement spoils it.  Gives the file of timings."""
    folder = root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / f"{_slug(device)}.lock").open("w")
    except OSError as error:
        raise CacheError(f"cannot open the build cache {root}: {error}; choose another directory") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield folder / f"{_slug(device)}-{_slug(version)}.timings"


def _slug(text: str) -> str:
    """As part of a file's name.

    >>> _slug("NVIDIA H200")
    'NVIDIA-H200'
    """
    return re.sub(r"[^\w.]+", "-", text)

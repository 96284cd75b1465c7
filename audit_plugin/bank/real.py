"""The real images of the rows, named like the bank's pictures: by the sha256 of their file's bytes.

The file's bytes and not its pixels: the name is known without decoding anything, and anyone can check it with ``sha256sum``.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from audit_plugin.bank.store import ProbeBank
from audit_plugin.core.errors import ImageError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.values import Row
from audit_plugin.sources.images import read_bytes


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """Which file shows which row."""

    by_row: Mapping[str, str] = field(default_factory=dict)
    """Row id -> sha256; rows without an image are left out."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """sha256 -> path or URL of a file with these bytes."""

    def read(self, sha: str) -> bytes:
        """The bytes of a real image.  Raises ImageError if the file is not what it was when it was indexed."""
        data = read_bytes(self.paths[sha])
        if hashlib.sha256(data).hexdigest() != sha:
            raise ImageError(self.paths[sha], "changed while the audit ran")
        return data


def sources(bank: ProbeBank, real: RealImages | None) -> dict[str, Callable[[str], bytes]]:
    """sha256 -> what reads it, for every usable picture of the bank's plan and every real image."""
    readers: dict[str, Callable[[str], bytes]] = dict.fromkeys(bank.usable(), bank.pictures.get)
    return readers | dict.fromkeys(real.paths, real.read) if real else readers


def index_real(rows: Iterable[Row], *, progress: Progress) -> RealImages:
    """Read and hash the rows' image files.  Raises ImageError for one that cannot be read."""
    shown = [(row.id, row.image) for row in rows if row.image]
    by_row, paths = dict[str, str](), dict[str, str]()
    for done, (row, path) in enumerate(shown, 1):
        by_row[row] = hashlib.sha256(read_bytes(path)).hexdigest()
        paths[by_row[row]] = path
        progress(done, len(shown), "real images")
    return RealImages(by_row=by_row, paths=paths)

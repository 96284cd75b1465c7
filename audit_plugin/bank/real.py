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
from audit_plugin.sources.images import DEFAULT_LIMITS, ImageLimits, Pixels, read_all, read_bytes, read_image


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """Which file shows which row."""

    by_row: Mapping[str, str] = field(default_factory=dict)
    """Row id -> sha256; rows without an image are left out."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """sha256 -> path or URL of a file with these bytes."""
    limits: ImageLimits = DEFAULT_LIMITS

    def pixels(self, sha: str) -> Pixels:
        """A real image.  Raises ImageError if the file is not what it was when it was indexed."""
        path = self.paths[sha]
        data = read_bytes(path, limits=self.limits)
        if hashlib.sha256(data).hexdigest() != sha:
            raise ImageError(path, "changed while the audit ran")
        return read_image(data, name=path, limits=self.limits)


def loaders(bank: ProbeBank, real: RealImages | None) -> dict[str, Callable[[str], Pixels]]:
    """sha256 -> what loads it, for every usable picture of the bank's plan and every real image."""
    load: dict[str, Callable[[str], Pixels]] = dict.fromkeys(bank.usable(), bank.pictures.pixels)
    return load | dict.fromkeys(real.paths, real.pixels) if real else load


def index_real(rows: Iterable[Row], *, progress: Progress, limits: ImageLimits = DEFAULT_LIMITS) -> RealImages:
    """Read and hash the rows' image files.  Raises ImageError for one that cannot be read."""
    shown = [(row.id, row.image) for row in rows if row.image]
    by_row, paths = dict[str, str](), dict[str, str]()
    files = read_all((path for _, path in shown), limits=limits)
    for done, ((row, path), data) in enumerate(zip(shown, files, strict=True), 1):
        by_row[row] = hashlib.sha256(data).hexdigest()
        paths[by_row[row]] = path
        progress(done, len(shown), "real images")
    return RealImages(by_row=by_row, paths=paths, limits=limits)

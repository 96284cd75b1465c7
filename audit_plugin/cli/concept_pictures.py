"""Pictures of a folder for the concept assistant."""

from pathlib import Path

from audit_plugin.core.errors import SourceError
from audit_plugin.core.seeds import seed as hashed
from audit_plugin.sources.images import Pixels, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def pictures(folder: Path, count: int, *, seed: int) -> list[Pixels]:
    """At most ``count`` pictures ``(h, w, 3)`` from below a folder, chosen by hash: the same ones every time.

    Raises SourceError where there is none, ImageError for a chosen one that cannot be read.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no directory; name one with pictures of the domain")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise SourceError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    ranked = sorted(found, key=lambda path: hashed("concept pictures", path.relative_to(folder).as_posix(), seed))
    return [read_image(path) for path in ranked[:count]]

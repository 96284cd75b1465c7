"""Built graphs on disk, found by content: ``<root>/<key>/{artifact files, manifest.json, notes}``.

An artifact appears by one rename, so readers never see half of it; it is checked against its manifest before every use, and a
damaged one is thrown away and made again, once.  Notes (certificates, timings) are added later and replaced atomically.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines.errors import CacheError

MANIFEST = "manifest.json"
LOG = logging.getLogger(__name__)


def default_root() -> Path:
    """``$AUDIT_PLUGIN_CACHE``, else the user's cache directory."""
    chosen = os.environ.get("AUDIT_PLUGIN_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "audit-plugin"


@dataclass(frozen=True)
class BuildCache:
    """Artifacts under one directory, shared by processes."""

    root: Path

    def obtain(self, key: str, make: Callable[[Path], None]) -> Path:
        """Directory of the artifact ``key``; ``make`` fills an empty directory when it is missing or damaged."""
        final = self.root / key
        with self._lock(key):
            if final.is_dir():
                damage = _damage(final)
                if damage is None:
                    return final
                LOG.warning("cached artifact %s is damaged (%s); building it again", key, damage)
                shutil.rmtree(final)
            self._make(final, make)
            return final

    def discard(self, key: str) -> None:
        """Forget an artifact, for instance because its reader refused it."""
        with self._lock(key):
            shutil.rmtree(self.root / key, ignore_errors=True)

    def read_note(self, key: str, name: str) -> Mapping[str, object] | None:
        """What was noted beside an artifact; unreadable notes count as none."""
        try:
            value = json.loads((self.root / key / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def write_note(self, key: str, name: str, value: Mapping[str, object]) -> None:
        """Note something beside an artifact."""
        folder = self.root / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as stream:
                json.dump(dict(value), stream, sort_keys=True, indent=1)
            Path(stream.name).replace(folder / f"{name}.json")
        except OSError as error:
            raise CacheError(f"cannot write to the build cache {self.root}: {error}; choose another directory") from error

    def _make(self, final: Path, make: Callable[[Path], None]) -> None:
        partial = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{final.name}."))
        try:
            make(partial)
            _write_manifest(partial)
            partial.rename(final)
            _sync(self.root)
        except OSError as error:
            raise CacheError(
                f"cannot write to the build cache {self.root}: {error}; free space or choose another directory"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            stream = (self.root / f"{key}.lock").open("w")
        except OSError as error:
            raise CacheError(f"cannot open the build cache {self.root}: {error}; choose another directory") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _write_manifest(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({path.name: _sha256(path) for path in files}, indent=1), encoding="utf-8")
    _sync(manifest)
    _sync(folder)


def _damage(folder: Path) -> str | None:
    """What is wrong with an artifact, or None."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wrong = [name for name, sha in listed.items() if _sha256(folder / name) != sha]
    except (OSError, ValueError, AttributeError) as error:
        return f"manifest or files cannot be read: {error}"
    if not listed:
        return "its manifest lists nothing"
    return f"{', '.join(wrong)}: content differs from the manifest" if wrong else None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Built graphs on disk, found by content: ``<root>/<key>/{artifact files, manifest.json, notes}``.

An artifact appears by one rename, so readers never see half of it; it is checked against its manifest before every use, and a
damaged one is thrown away and made again, once.  What a killed build left behind goes when its key is asked for again.  Notes
(certificates, timings) are added later and replaced atomically.  The least recently used artifacts go when there are too many.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engines.errors import CacheError

MANIFEST = "manifest.json"
MAX_BYTES = 50 * 2**30
"""What a cache may hold unless ``$AUDIT_PLUGIN_CACHE_BYTES`` says otherwise."""
LOG = logging.getLogger(__name__)


def default_root() -> Path:
    """``$AUDIT_PLUGIN_CACHE``, else the user's cache directory."""
    chosen = os.environ.get("AUDIT_PLUGIN_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "audit-plugin"


def _default_bytes() -> int:
    chosen = os.environ.get("AUDIT_PLUGIN_CACHE_BYTES", str(MAX_BYTES))
    if not chosen.isdigit():
        raise CacheError(f"AUDIT_PLUGIN_CACHE_BYTES is {chosen!r}; give a whole number of bytes")
    return int(chosen)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One artifact, as it lies there."""

    key: str
    bytes: int
    """Of all its files, notes included."""
    used: float
    """When it was last handed out, in seconds since 1970."""
    files: tuple[str, ...]
    facts: Mapping[str, str]
    """What its maker said of it: network, kind, backend, precision."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BuildCache:
    """Artifacts under one directory, shared by processes."""

    root: Path
    max_bytes: int = field(default_factory=_default_bytes)

    def obtain(self, key: str, make: Callable[[Path], None], facts: Mapping[str, str] | None = None, *, code: bool = False) -> Path:
        """Directory of the artifact ``key``; ``make`` fills an empty directory when it is missing or damaged.

        ``code`` says that the artifact is executed as it is (a compiled plan): one that others may have written is not trusted.
        """
        final = self.root / key
        with self._lock(key):
            if final.is_symlink() or (final.exists() and not final.is_dir()):
                LOG.warning("%s is no artifact; building it again", final)
                self._unlink(final)
            if final.is_dir():
                damage = self.damage(key, code=code)
                if damage is None:
                    _touch(final)
                    return final
                LOG.warning("cached artifact %s is damaged (%s); building it again", key, damage)
                self._remove(final)
            self._clear_leftovers(key)
            self._make(final, make, facts or {})
        self.collect(self.max_bytes, keep=key)
        return final

    def has(self, key: str) -> bool:
        """Whether there is an artifact; it may be damaged."""
        return (self.root / key / MANIFEST).is_file()

    def content(self, key: str) -> str:
        """Digest of an artifact's files as its manifest lists them; empty where there is none."""
        try:
            return hashlib.sha256((self.root / key / MANIFEST).read_bytes()).hexdigest()[:16]
        except OSError:
            return ""

    def discard(self, key: str) -> None:
        """Forget an artifact, for instance because its reader refused it."""
        with self._lock(key):
            shutil.rmtree(self.root / key, ignore_errors=True)

    def damage(self, key: str, *, code: bool = False) -> str | None:
        """What is wrong with an artifact, or None: every file is hashed; ``code`` as in :meth:`obtain`."""
        final = self.root / key
        return _damage(final) or (_untrusted(final) if code else None)

    def entries(self) -> tuple[Entry, ...]:
        """Every artifact, the least recently used first."""
        if not self.root.exists():
            return ()
        if not self.root.is_dir():
            raise CacheError(f"the build cache {self.root} is not a directory; choose another one")
        folders = [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        found = [entry for folder in folders if (entry := _entry(folder)) is not None]
        return tuple(sorted(found, key=lambda entry: (entry.used, entry.key)))

    def collect(
        self, max_bytes: int, older_than_seconds: float | None = None, *, dry_run: bool = False, keep: str = ""
    ) -> tuple[Entry, ...]:
        """Throw away the least recently used artifacts until ``max_bytes`` suffice, and all older ones; says which.

        One that is being built, or ``keep``, stays.
        """
        if not dry_run:
            self._clear_killed()
        every = self.entries()
        total, now = sum(entry.bytes for entry in every), time.time()
        gone: list[Entry] = []
        for entry in every:
            old = older_than_seconds is not None and now - entry.used > older_than_seconds
            if entry.key == keep or not (old or total > max_bytes):
                continue
            if dry_run or self._evict(entry.key):
                gone.append(entry)
                total -= entry.bytes
        return tuple(gone)

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

    def _make(self, final: Path, make: Callable[[Path], None], facts: Mapping[str, str]) -> None:
        partial = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{final.name}."))
        try:
            make(partial)
            _write_manifest(partial, facts)
            partial.rename(final)
            _sync(self.root)
        except OSError as error:
            raise CacheError(
                f"cannot write to the build cache {self.root}: {error}; free space or choose another directory"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _clear_leftovers(self, key: str) -> None:
        """Partial artifacts of builds that were killed; under the lock nobody can be writing them."""
        for partial in self.root.glob(f".{key}.*"):
            shutil.rmtree(partial, ignore_errors=True)

    def _clear_killed(self) -> None:
        """Partial artifacts of all builds that were killed: those whose lock nobody holds."""
        for partial in self.root.glob(".*.*") if self.root.is_dir() else ():
            key = partial.name.split(".")[1]
            if partial.is_dir() and (self.root / f"{key}.lock").exists():
                with suppress(BlockingIOError), self._lock(key, wait=False):
                    shutil.rmtree(partial, ignore_errors=True)

    def _remove(self, folder: Path) -> None:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise CacheError(f"cannot remove the damaged artifact {folder}: {error}; remove it, or choose another cache") from error

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink()
        except OSError as error:
            raise CacheError(f"cannot remove {path}, which is no artifact: {error}; remove it, or choose another cache") from error

    def _evict(self, key: str) -> bool:
        """Whether it could be removed: not while somebody builds it or checks it."""
        try:
            with self._lock(key, wait=False):
                shutil.rmtree(self.root / key, ignore_errors=True)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def _lock(self, key: str, *, wait: bool = True) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            stream = (self.root / f"{key}.lock").open("w")
        except OSError as error:
            raise CacheError(f"cannot open the build cache {self.root}: {error}; choose another directory") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def _entry(folder: Path) -> Entry | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, facts = dict(manifest["files"]), dict(manifest["facts"])
        used = (folder / MANIFEST).stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        files, facts, used = {}, {}, 0.0
    try:
        there = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in there)
    except OSError:  # it is being removed
        return None
    notes = sorted(path.stem for path in there if path.suffix == ".json" and path.name != MANIFEST and path.name not in files)
    return Entry(key=folder.name, bytes=size, used=used, files=tuple(sorted(files)), facts=facts, notes=tuple(notes))


def _touch(folder: Path) -> None:
    """Note that it is used; a cache that is mounted read-only has no such memory."""
    try:
        os.utime(folder / MANIFEST)
    except OSError:
        LOG.debug("cannot note the use of %s", folder)


def _untrusted(folder: Path) -> str | None:
    for path in (folder, *folder.iterdir()):
        facts = path.stat()
        if facts.st_uid not in {os.geteuid(), 0}:
            return f"{path.name} belongs to another user, and a plan is code"
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{path.name} can be written by others, and a plan is code"
    return None


def _write_manifest(folder: Path, facts: Mapping[str, str]) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        _sync(path)
    manifest = folder / MANIFEST
    hashes = {path.name: _sha256(path) for path in files}
    manifest.write_text(json.dumps({"files": hashes, "facts": dict(facts)}, indent=1), encoding="utf-8")
    for path in (*files, manifest):
        path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))  # whatever the umask: see _untrusted
    _sync(manifest)
    _sync(folder)


def _damage(folder: Path) -> str | None:
    """What is wrong with an artifact, or None."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        wrong = [name for name, sha in listed.items() if _sha256(folder / name) != sha]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
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

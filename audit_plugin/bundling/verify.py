"""Whether a bundle is what its manifest says: offline, from the files alone, each difference by name."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from audit_plugin.bundling.write import KIND, MANIFEST, SCHEMA, SUMS
from audit_plugin.core.errors import StoreError

_BLOCK = 1 << 20
_LARGEST_MANIFEST = 1 << 26
Open = Callable[[str], IO[bytes]]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found; sound when nothing is missing, changed or too many."""

    files: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    additional: tuple[str, ...]
    manifest_sha256: str
    run: str
    previous: Mapping[str, str] | None
    """The preceding run and the digest of its document, as the manifest has them."""

    @property
    def sound(self) -> bool:
        """Whether every file is there, unchanged, and no other."""
        return not (self.missing or self.changed or self.additional)


def verify(where: Path) -> Verified:
    """Check a directory or zip file.  Raises StoreError for what is no bundle at all."""
    if where.is_dir():
        names = {path.relative_to(where).as_posix() for path in where.rglob("*") if not path.is_dir() or path.is_symlink()}
        return _checked(where, names, lambda name: (where / name).open("rb"))
    try:
        with zipfile.ZipFile(where) as archive:
            listed = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            twice = {name for name in listed if listed.count(name) > 1} if len(set(listed)) < len(listed) else set()
            return _checked(where, set(listed), archive.open, twice=twice)
    except (OSError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"bundle {where} cannot be read: {error}; give a directory or zip file that `audit-plugin export` has written"
        ) from error


def _checked(where: Path, names: set[str], opened: Open, *, twice: Collection[str] = ()) -> Verified:
    manifest, digest = _manifest(where, names, opened)
    told: dict[str, Any] = manifest["files"]
    changed = [name for name in sorted(names & told.keys()) if name in twice or _sha(opened, name) != told[name].get("sha256")]
    if SUMS in names and SUMS not in changed and not _sums_agree(opened, told):
        changed.append(SUMS)
    return Verified(
        files=len(told) + 1,
        missing=tuple(sorted(told.keys() - names)),
        changed=tuple(changed),
        additional=tuple(sorted(names - told.keys() - {MANIFEST})),
        manifest_sha256=digest,
        run=str(manifest.get("run", "")),
        previous=manifest.get("previous"),
    )


def _manifest(where: Path, names: set[str], opened: Open) -> tuple[dict[str, Any], str]:
    if MANIFEST not in names:
        raise StoreError(f"{where} has no {MANIFEST}, so it is no bundle, or one that was not written to its end")
    try:
        with opened(MANIFEST) as file:
            data = file.read(_LARGEST_MANIFEST)
        manifest = json.loads(data)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{where}: {MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND or not isinstance(manifest.get("files"), dict):
        raise StoreError(f"{where}: {MANIFEST} is not that of a bundle")
    if manifest.get("schema_version") != SCHEMA:
        raise StoreError(f"{where}: bundle of schema {manifest.get('schema_version')!r}, this version reads {SCHEMA}")
    if not all(isinstance(entry, dict) for entry in manifest["files"].values()):
        raise StoreError(f"{where}: {MANIFEST} is not that of a bundle")
    return manifest, hashlib.sha256(data).hexdigest()


def _sha(opened: Open, name: str) -> str:
    """Of a file; empty for one that cannot be read to its end."""
    found = hashlib.sha256()
    try:
        with opened(name) as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
        return ""
    return found.hexdigest()


def _sums_agree(opened: Open, told: Mapping[str, Any]) -> bool:
    """Whether the list for ``sha256sum`` says the same as the manifest."""
    with opened(SUMS) as file:
        lines = file.read().decode(errors="replace").splitlines()
    listed = {name: sha for sha, _, name in (line.partition("  ") for line in lines)}
    return listed == {name: entry.get("sha256") for name, entry in told.items() if name != SUMS}

"""A bundle on disk: every file, then their digests in two forms, the manifest last; it appears whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audit_plugin import __version__
from audit_plugin.bundling.contents import Contents
from audit_plugin.core.errors import ConfigError, StoreError

KIND = "audit_plugin.bundle"
SCHEMA = 1
MANIFEST, SUMS, README = "manifest.json", "SHA256SUMS", "README.md"
_MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of every entry of a zip file, so that equal contents are equal files."""

_TEXT = """# Evidence of audit {run}

Model `{model}`, version `{version}`, label `{label}`: {state}.

| file | what it is |
|---|---|
| `result.json` | the audit's result as it is stored, byte for byte |
| `report.html`, `report.json`, `model_card.md` | the report, its data with the run before, a fragment for a model card |
| `config.yaml`, `policy.json` | configuration and thresholds in force, secrets masked |
| `events.json` | audit log: who changed, acknowledged, held or deleted what of this run and model |
| `versions.json`, `sbom.json` | what the run was made with; packages of the program that wrote this bundle (CycloneDX) |
| `pictures/` | the pictures that the report shows, named by their SHA-256 |
| `SHA256SUMS`, `manifest.json` | digests of all files; the manifest also has the digest of the preceding run's document |

## Check it

Without any program of ours, in this directory:

    sha256sum -c SHA256SUMS

`manifest.json` has the digest of `SHA256SUMS` too, and of every other file.  Its own digest was told when the bundle was written and stands
in the audit log of whoever wrote it:

    sha256sum manifest.json

With the program: `audit-plugin verify DIR-OR-ZIP`, which also names files that are too many.

`previous` in the manifest is the run before of the same model: the SHA-256 of its stored document, which is the `result.json` of its own
bundle.  Where single rows were taken out of that document since, `sha256_before_reduction` is that of the document as it was first stored.

## Pictures

Generated and edited pictures are synthetic, and say so in their metadata.  They must not be used as training data or as evidence about a
person.  Files without that mark are photographs of the evaluation set, or null edits of them, and are personal data where they show people.
"""


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A bundle that was written."""

    path: Path
    files: int
    bytes: int
    manifest_sha256: str


def write_bundle(where: Path, contents: Contents, *, created_at: str) -> Sealed:
    """Write a directory, or a zip file where the name ends in ``.zip``.  Raises ConfigError for a place that is taken, StoreError otherwise."""
    if where.is_file() or (where.is_dir() and any(where.iterdir())):
        raise ConfigError(f"{where} is there already; name another place, or delete it: evidence is not written over")
    facts = {key: str(contents.about.get(key, "")) for key in ("run", "model", "version", "label", "state")}
    files = {**contents.files, README: _TEXT.format(**facts).encode()}
    files[SUMS] = "".join(f"{sha256(data)}  {name}\n" for name, data in sorted(files.items())).encode()
    manifest = {
        "kind": KIND,
        "schema_version": SCHEMA,
        "created_at": created_at,
        "plugin_version": __version__,
        **contents.about,
        "files": {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in sorted(files.items())},
    }
    files[MANIFEST] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        _zip(where, files) if where.suffix.lower() == ".zip" else _folder(where, files)
    except OSError as error:
        raise StoreError(
            f"bundle {where} cannot be written: {error.strerror or error}; give a place that may be written"
        ) from error
    return Sealed(path=where, files=len(files), bytes=sum(map(len, files.values())), manifest_sha256=sha256(files[MANIFEST]))


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def _folder(where: Path, files: Mapping[str, bytes]) -> None:
    """Everything in a directory beside, which is then renamed."""
    beside = Path(tempfile.mkdtemp(dir=where.parent, prefix=f".{where.name}."))
    try:
        for name, data in files.items():  # the manifest is last in the mapping
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(data)
        beside.chmod(0o755)
        if where.is_dir():
            where.rmdir()
        beside.replace(where)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _zip(where: Path, files: Mapping[str, bytes]) -> None:
    handle, name = tempfile.mkstemp(dir=where.parent, prefix=f".{where.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for entry, data in files.items():
                archive.writestr(zipfile.ZipInfo(entry, _MOMENT), data, zipfile.ZIP_DEFLATED)
        beside.chmod(0o644)
        beside.replace(where)
    finally:
        beside.unlink(missing_ok=True)

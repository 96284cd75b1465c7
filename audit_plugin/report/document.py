"""The report as one JSON document, and everything the report consists of written to disk.

The document is the source: HTML and model card are made from it and can be made again.  Files appear whole or not at all.
"""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from audit_plugin.core.errors import StorageFullError, StoreError
from audit_plugin.core.results import AuditResult, from_json, to_json
from audit_plugin.report.card import model_card
from audit_plugin.report.html import render

DOCUMENT_KIND: Final = "audit_plugin.report"
DOCUMENT_VERSION: Final = 1
"""Of the envelope; each result carries the version of its own schema."""

HTML_NAME: Final = "report.html"
JSON_NAME: Final = "report.json"
CARD_NAME: Final = "model_card.md"


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a report is made from."""

    results: tuple[AuditResult, ...]
    history: tuple[AuditResult, ...] = ()


def to_document(results: Sequence[AuditResult], *, history: Sequence[AuditResult] = ()) -> str:
    """The results, and the earlier ones they are compared with, as one JSON document."""
    content = {
        "kind": DOCUMENT_KIND,
        "schema_version": DOCUMENT_VERSION,
        "results": [json.loads(to_json(result)) for result in results],
        "history": [json.loads(to_json(result)) for result in history],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def from_document(text: str) -> Document:
    """Read back what :func:`to_document` wrote.  Raises StoreError on anything else."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise StoreError(f"not a report document: {error}; give the {JSON_NAME} that a run has written") from error
    if not isinstance(content, dict) or content.get("kind") != DOCUMENT_KIND:
        raise StoreError(f"not a report document: `kind` is not {DOCUMENT_KIND!r}; give the {JSON_NAME} that a run has written")
    if content.get("schema_version") != DOCUMENT_VERSION:
        raise StoreError(
            f"report document of schema {content.get('schema_version')!r}, but this version reads {DOCUMENT_VERSION}; "
            "read it with the version of audit_plugin that wrote it, or a later one"
        )
    return Document(results=_results(content, "results"), history=_results(content, "history"))


def read_report(path: Path) -> Document:
    """The document in a file, or in a directory that :func:`write_report` has filled."""
    file = path / JSON_NAME if path.is_dir() else path
    try:
        return from_document(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"report {str(file)!r} cannot be read: {error}") from error


def write_report(
    where: Path, results: Sequence[AuditResult], images: Callable[[str], bytes | None], *, history: Sequence[AuditResult] = ()
) -> tuple[Path, ...]:
    """Write the report and return the files.

    A path that ends in ``.html``, ``.json`` or ``.md`` gets that form alone; any other path is a directory that gets all three, the
    HTML last.  Raises StorageFullError when the disk is full and StoreError when the place cannot be written.
    """
    forms: dict[str, Callable[[], str]] = {
        JSON_NAME: lambda: to_document(results, history=history),
        CARD_NAME: lambda: "\n".join(model_card(result) for result in results),
        HTML_NAME: lambda: render(results, images, history=history),
    }
    only = {Path(name).suffix: make for name, make in forms.items()}.get(where.suffix.lower())
    chosen = {where: only} if only and not where.is_dir() else {where / name: make for name, make in forms.items()}
    for path, make in chosen.items():
        write_whole(path, make())
    return tuple(chosen)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write the file so that a reader sees either the old content or the new, never a part."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFullError(str(path)) from error
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror or error}; give a place that may be written") from error


def _results(content: dict[str, Any], name: str) -> tuple[AuditResult, ...]:
    items = content.get(name, [])
    if not isinstance(items, list):
        raise StoreError(f"not a report document: `{name}` is not a list")
    return tuple(from_json(json.dumps(item)) for item in items)

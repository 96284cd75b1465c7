"""Writes models into a Triton model repository: whole or not at all, and never over a model of somebody else's."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines.errors import RepositoryError
from engines.serving.config import WRITTEN_BY

CONFIG = "config.pbtxt"
VERSION = "1"
_OURS = re.compile(rf'key:\s*"written_by"\s*,?\s*value:?\s*{{\s*string_value:\s*"{WRITTEN_BY}"')


@dataclass(frozen=True, kw_only=True)
class WrittenModel:
    """One model as it will lie in the repository."""

    name: str
    config: str
    """Text of ``config.pbtxt``."""
    files: Mapping[str, str | bytes | Path]
    """Files of its version by name: contents, or where they lie."""


def write_models(repository: Path, models: Sequence[WrittenModel]) -> tuple[Path, ...]:
    """Write every model or none; returns their directories.

    All are first written beside their places, in directories whose names begin with a dot, then moved there one after the other.
    A model of the same name is replaced only when it was written by this function.  Raises RepositoryError.
    """
    for model in models:
        refuse_strangers(repository / model.name)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with _scratch(repository) as scratch:
            for model in models:
                _write(scratch / model.name, model)
            for model in models:
                _replace(repository / model.name, scratch)
    except OSError as error:
        raise RepositoryError(
            f"cannot write to the model repository {repository}: {error}; free space or choose another directory"
        ) from error
    return tuple(repository / model.name for model in models)


def refuse_strangers(directory: Path) -> None:
    """Raise RepositoryError where something lies that :func:`write_models` did not write."""
    if not directory.exists():
        return
    config = directory / CONFIG
    if not config.is_file() or not _OURS.search(config.read_text(encoding="utf-8", errors="replace")):
        raise RepositoryError(
            f"{directory} was not written by audit-plugin and is left as it is; move it away or choose another repository"
        )


@contextmanager
def _scratch(repository: Path) -> Iterator[Path]:
    """A directory of the same file system, so that moving out of it is a rename."""
    scratch = Path(tempfile.mkdtemp(dir=repository, prefix=".audit-"))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(directory: Path, model: WrittenModel) -> None:
    place = directory / VERSION
    place.mkdir(parents=True)
    (directory / CONFIG).write_text(model.config, encoding="utf-8")
    for name, content in model.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            _link(content, place / name)
        else:
            (place / name).write_bytes(content.encode() if isinstance(content, str) else content)


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes, since weights may be gigabytes; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    target.chmod(0o644)  # a server runs as somebody else


def _replace(target: Path, scratch: Path) -> None:
    if target.exists():
        target.rename(scratch / f"{target.name}.old")
    (scratch / target.name).rename(target)

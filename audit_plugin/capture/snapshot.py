"""Captured samples from outside: what they hold, a copy that stays as it is while an audit reads it, and retention by hand."""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audit_plugin.capture.files import link_or_copy, read_tombstones, replace_file, safe_name
from audit_plugin.capture.options import CaptureOptions
from audit_plugin.capture.reservoir import Reservoir
from audit_plugin.capture.rows import Row, read_rows, table
from audit_plugin.core.errors import SourceError


@dataclass(frozen=True, kw_only=True)
class SampleStatus:
    """What is on disk of one model's sample."""

    model: str
    images: int
    predicted: int
    """Of them, those whose answer came."""
    bytes: int
    oldest: str
    """RFC 3339; empty where there is no picture."""
    newest: str


def status_of(root: Path, model: str) -> SampleStatus:
    """Of the sample as last committed; one that was never begun is empty.  Raises SourceError."""
    rows = _rows(root, model)
    times = sorted(row.captured_at for row in rows)
    return SampleStatus(
        model=model,
        images=len(rows),
        predicted=sum(bool(row.predicted) for row in rows),
        bytes=sum({row.file: row.bytes for row in rows}.values()),
        oldest=times[0] if times else "",
        newest=times[-1] if times else "",
    )


def snapshot(root: Path, model: str, to: Path, *, names: Sequence[str] = ()) -> int:
    """Copy a sample into a new directory, by hard links where the disk allows it; returns the number of rows.

    ``names``: of the model's classes, in place of their numbers, which are kept where the configuration has no labels.

    Rows without an answered class are left out, and so is what is deleted while the copy is made.  The table is written last.

    Raises:
        SourceError: there is nothing to copy, or ``to`` holds something already.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise SourceError(f"{str(to)!r} is not empty; give a new directory")
    directory = root / safe_name(model)
    try:
        buried = read_tombstones(root)
        chosen = [row for row in _rows(root, model) if row.predicted and row.sha256 not in buried]
        kept = [row for row in chosen if link_or_copy(directory / row.file, to / row.file)]
        if not kept:
            raise SourceError(
                f"no picture of model {model!r} with an answered class has been captured in {str(root)!r} yet; `audit-plugin capture status` "
                "shows what there is"
            )
        replace_file(to / "table.csv", table(_named(kept, names)).encode())
    except OSError as error:
        shutil.rmtree(to, ignore_errors=True)
        raise SourceError(f"the sample of model {model!r} cannot be copied to {str(to)!r}: {error}") from error
    return len(kept)


def _named(rows: Sequence[Row], names: Sequence[str]) -> Sequence[Row]:
    numbers = {str(at): name for at, name in enumerate(names)}
    if any(row.predicted not in numbers for row in rows):
        return rows  # they are names already
    return [replace(row, predicted=numbers[row.predicted]) for row in rows]


def purge(options: CaptureOptions, models: Sequence[str]) -> Mapping[str, bool]:
    """Apply retention and deletions where no service does; model -> whether it was done here.  Raises OSError or SourceError."""
    done = dict.fromkeys(models, False)
    for model in models:
        with contextlib.suppress(BlockingIOError):
            reservoir = Reservoir(
                Path(options.path), model, size=options.size, days=options.days, max_bytes=options.max_bytes, seed="purge"
            )
            try:
                reservoir.retain()
                reservoir.commit()
            finally:
                reservoir.close()
            done[model] = True
    return done


def _rows(root: Path, model: str) -> list[Row]:
    try:
        return read_rows(root / safe_name(model))
    except OSError as error:
        raise SourceError(f"the sample of model {model!r} in {str(root)!r} cannot be read: {error}") from error

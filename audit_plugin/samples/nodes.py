"""All edits of the concept tree of an audit, from the table of atomic rows beside its report."""

import csv
import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from audit_plugin.core.results import AuditResult
from audit_plugin.report.tree import CHECKS
from audit_plugin.samples.sample import Kind, Sample

MOST_ROWS: Final = 100_000
"""Rows of a table that are read for pages; the table itself holds all."""
_READ: Final = frozenset({
    "class", "image", "nodes", "strength", "placebo_edit", "signs", "split", "counted", "valid", "reasons", "before_sha256",
    "after_sha256", "probability_before", "probability_after", "top_before", "top_after", "flip",
})  # fmt: skip
"""Columns that are shown, of :data:`audit_plugin.methods.diffex.row_file.COLUMNS`."""
_SIGNS: Final = {"1": "added", "-1": "removed"}


class NotItsTableError(Exception):
    """Why the table cannot be shown as the run's; a reason to tell, not a failure."""


def node_edits(result: AuditResult, folder: Path) -> tuple[tuple[Sample, ...], bool]:
    """Image by image, and whether that is all of the table.  Raises NotItsTableError.

    Every run of a model version writes a table of the same name, so a table is this run's only where it holds all that the run names.
    """
    if result.diffex is None or not result.diffex.rows_file:
        raise NotItsTableError("the run wrote no table of its edits")
    try:
        rows, whole = _read(folder / Path(result.diffex.rows_file).name)
    except (OSError, EOFError, csv.Error, ValueError) as error:
        raise NotItsTableError(f"its table of edits cannot be read: {error}") from error
    there = {(row["image"], row["before_sha256"], row["after_sha256"]) for row in rows}
    named = {
        (one.image, one.before_sha256, one.after_sha256)
        for told in result.diffex.classes
        for node in told.nodes
        for one in node.exemplars
    }
    if whole and not named <= there:
        raise NotItsTableError("its table of edits was replaced by that of a later run")
    samples = [_sample(row) for row in rows]
    samples.sort(key=lambda one: one.image)
    return tuple(samples), whole


def _read(path: Path) -> tuple[list[dict[str, str]], bool]:
    found: list[dict[str, str]] = []
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := _READ - set(reader.fieldnames or ()):
            raise ValueError(f"it has no column {min(missing)}")
        for row in reader:
            if len(found) == MOST_ROWS:
                return found, False
            found.append(row)
    return found, True


def _sample(row: Mapping[str, str]) -> Sample:
    placebo = row["placebo_edit"] == "1"
    signs = row["signs"].split("|")
    nodes = row["nodes"].split("|")
    done = ", ".join(f"{_SIGNS.get(sign, 'edited')} {node}" for sign, node in zip(signs, nodes, strict=False))
    return Sample(
        kind=Kind.NODE,
        image=row["image"],
        subject="placebo" if placebo else " + ".join(nodes),
        change=row["nodes"] if placebo else done if len(nodes) > 1 else _SIGNS.get(signs[0], "edited"),
        before_sha256=row["before_sha256"],
        after_sha256=row["after_sha256"],
        of=row["class"],
        before=_number(row["probability_before"]),
        after=_number(row["probability_after"]),
        decision_before=row["top_before"],
        decision_after=row["top_after"],
        flipped=row["flip"] == "1" if row["flip"] else None,
        why_not=tuple(_reasons(row)),
    )


def _reasons(row: Mapping[str, str]) -> Iterator[str]:
    if row["valid"] != "1":
        reasons = [reason for reason in row["reasons"].split("|") if reason]
        yield from (CHECKS.get(reason, reason) for reason in reasons or ["it is not valid"])
    elif row["split"] == "select":
        yield "it served the search alone: effects are estimated on other images"
    elif row["counted"] != "1":
        yield "the image is of another class: for the search for spurious hits alone"
    elif float(row["strength"]) != 1:
        yield "made at another strength: for the dependence on strength alone"


def _number(text: str) -> float | None:
    return float(text) if text else None

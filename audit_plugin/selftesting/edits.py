"""The concept tree's part of a repeat: recorded edits of real images with the live model's answers, other draws of the images, and the real search.

Edits of a concept's nodes are *severed* as flips are: the edited picture answers as its null edit does, changed as a placebo edit changes the answers of
another image, plus what is put in times how much more an independent judge sees of the attribute in it.  A node that the audit's search dropped early was
edited on few images only.  On the others it is judged as if it had been: with the answers of their own null edits, and with validity and readings of an
edit of that node that was made.  So the search can be tried with the effect that it would have kept the node for; a node without any edit stays out.
"""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.diffex_results import DiffexResult
from audit_plugin.core.edits import Direction, EditCell, EditRow, Split
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.tree import ConceptTree
from audit_plugin.methods.diffex import DiffexOptions, run_diffex
from audit_plugin.methods.diffex.controls import bare
from audit_plugin.selftesting.wrapper import Answers, answers

_APART = "|"
"""Between the number of a draw and the image that was drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EditBench:
    """Recorded edits of one model version, for one class."""

    rows: Mapping[EditCell, EditRow]
    tree: ConceptTree
    images: tuple[str, ...]
    """That took part in search or estimates."""
    estimated: Mapping[str, int]
    """Class -> images behind its numbers."""
    classes_of: Mapping[str, str]
    labels: tuple[str, ...]
    class_name: str
    exclusive: bool
    """Whether the classes share one probability."""
    options: DiffexOptions
    nodes: Mapping[str, Mapping[str, float]]
    """Concept -> path of a node of it that was edited -> +1 where its attribute is the level that shifts the answers, -1 where it is the opposite, 0
    where it is neither."""
    nulls: Mapping[tuple[str, str], tuple[float, ...]] = field(default_factory=dict)
    """(image, operator) -> scores of the null edit."""
    made: Mapping[str, tuple[EditRow, ...]] = field(default_factory=dict)
    """Node -> its edits."""
    noise: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Operator -> changes of log-odds by its placebos."""

    def told(self, severed: Sequence[str], concept: str, size: float, repeat: int) -> DiffexResult:
        """What the audit by the tree says of images drawn anew; ``size`` is signed, and put into ``concept``."""
        seed = seed_of("self-test edits", self.class_name, repeat)
        rng, groups = np.random.default_rng(seed), dict[str, list[str]]()
        for image in self.images:
            groups.setdefault(self.classes_of.get(image, ""), []).append(image)
        # Of every class twice as many as its numbers rest on: the other half serves the search, which asks about fewer.
        drawn = [
            f"{at}{_APART}{group[pick]}"
            for name, group in groups.items()
            for at, pick in enumerate(rng.integers(len(group), size=2 * self.estimated.get(name, 0)))
        ]
        size_of = {
            path: side * size if name == concept else 0.0 for name in severed for path, side in self.nodes.get(name, {}).items()
        }
        return run_diffex(
            _Planted(bench=self, size_of=size_of, seed=seed),
            self.tree,
            drawn,
            [self.class_name],
            labels=self.labels,
            classes_of={image: self.classes_of.get(_source(image), "") for image in drawn},
            options=self.options,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Planted:
    """Implements :class:`audit_plugin.core.edits.EditArms`."""

    bench: EditBench
    size_of: Mapping[str, float]
    """Severed node -> log-odds of its presence."""
    seed: int

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        """One row per cell, in order."""
        return [self._row(cell) for cell in cells]

    def _row(self, cell: EditCell) -> EditRow:
        known = self.bench.rows.get(replace(cell, image=_source(cell.image)))
        if not cell.placebo and len(cell.nodes) == 1 and cell.nodes[0] in self.size_of:
            return self._severed(cell, known)
        return _not_made(cell) if known is None else replace(known, cell=cell)

    def _severed(self, cell: EditCell, known: EditRow | None) -> EditRow:
        rng = np.random.default_rng(seed_of(f"edit {cell.nodes[0]}", cell.image, self.seed % 2**31))
        made = self.bench.made.get(cell.nodes[0], ())
        if not made:
            return _not_made(cell)
        like = known or made[int(rng.integers(len(made)))]
        before = like.before if known is not None else self.bench.nulls.get((_source(cell.image), like.operator), ())
        if not like.scored or not before:
            return replace(like, cell=cell, before=(), after=())
        noise = self.bench.noise.get(like.operator, np.zeros(1))
        column = self.bench.labels.index(self.bench.class_name)
        own = Answers(scores=np.array([before]), column=column, exclusive=self.bench.exclusive)
        size, seen = self.size_of[cell.nodes[0]], _seen(like)
        base = own.log_odds
        pictures = np.array([0, 0])
        both = own.at(pictures, np.concatenate([base + size * (seen[0] - 0.5), base + rng.choice(noise) + size * (seen[1] - 0.5)]))
        return replace(
            like, cell=cell, before=tuple(both[0].tolist()) if size else before, after=tuple(both[1].tolist()), original=()
        )


def edit_bench(
    table: bytes,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    tree: ConceptTree,
    classes_of: Mapping[str, str],
    labels: Sequence[str],
    class_name: str,
    levels: Mapping[str, tuple[str, int, float]],
    options: DiffexOptions,
    model: str,
    merged: bool = False,
) -> EditBench:
    """From an audit's atomic rows (``row_file``) and the answers by sha256.  Raises ConfigError for answers whose log-odds cannot be told.

    ``levels``: concept -> level that shifts the answers, how many the concept has, and the sign of the shift.
    """
    every = list(_read(table, scores, class_name))
    rows, images = {row.cell: row for row, _ in every}, sorted({row.cell.image for row, counted in every if counted})
    scored = [row for row in rows.values() if row.scored]
    column = list(labels).index(class_name)
    both = np.array([side for row in scored for side in (row.before, row.after)])
    told = answers(both, column, model=model, merged=merged) if scored else None
    log_odds = np.zeros((0, 2)) if told is None else told.log_odds.reshape(-1, 2)
    noise = dict[str, list[float]]()
    for row, (before, after) in zip(scored, log_odds.tolist(), strict=True):
        if row.cell.placebo and row.valid:
            noise.setdefault(row.operator, []).append(after - before)
    made = dict[str, list[EditRow]]()
    for row in rows.values():
        if not row.cell.placebo and len(row.cell.nodes) == 1 and row.cell.strength == 1 and row.after_sha256:
            made.setdefault(row.cell.nodes[0], []).append(row)
    return EditBench(
        rows=rows,
        tree=tree,
        images=tuple(images),
        estimated=Counter(
            classes_of.get(image, "") for image in {row.cell.image for row, own in every if own and row.split is Split.ESTIMATE}
        ),
        classes_of=classes_of,
        labels=tuple(labels),
        class_name=class_name,
        exclusive=told is not None and told.exclusive,
        options=bare(options),
        nodes={name: found for name, about in levels.items() if (found := _nodes(tree, name, about, made))},
        nulls={(row.cell.image, row.operator): row.before for row in scored},
        made={path: tuple(some) for path, some in made.items()},
        noise={operator: np.array(some) for operator, some in noise.items()},
    )


def edit_pictures(table: bytes) -> set[str]:
    """sha256 of every picture that the rows tell of."""
    with gzip.open(io.BytesIO(table), "rt", encoding="utf-8", newline="") as lines:
        return {line[key] for line in csv.DictReader(lines) for key in ("before_sha256", "after_sha256") if line[key]}


def _nodes(tree: ConceptTree, concept: str, about: tuple[str, int, float], made: Mapping[str, object]) -> dict[str, float]:
    level, count, sign = about
    found = [node for node in tree.editable if node.params.get("concept") == concept and node.path in made]
    return {node.path: sign if node.params.get("level") == level else -sign if count == 2 else 0.0 for node in found}


def _read(table: bytes, scores: Mapping[str, NDArray[np.float64]], class_name: str) -> Iterator[tuple[EditRow, bool]]:
    """Rows of one class, each with whether its image took part in search or estimates."""
    with gzip.open(io.BytesIO(table), "rt", encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["class"] != class_name:
                continue
            before, after = (scores.get(line[f"{side}_sha256"]) for side in ("before", "after"))
            known = before is not None and after is not None
            yield (
                EditRow(
                    cell=EditCell(
                        image=line["image"],
                        nodes=tuple(line["nodes"].split("|")),
                        seed=int(line["seed"]),
                        placebo=line["placebo_edit"] == "1",
                        strength=float(line["strength"]),
                    ),
                    split=Split(line["split"]),
                    direction=Direction(line["direction"]),
                    signs=tuple(int(sign) for sign in line["signs"].split("|") if sign),
                    operator=line["operator"],
                    scale=float(line["scale"] or 0),
                    valid=line["valid"] == "1",
                    class_kept=line["class_kept"] == "1",
                    reasons=tuple(reason for reason in line["reasons"].split("|") if reason),
                    verifier_before=_number(line["verifier_before"]),
                    verifier_after=_number(line["verifier_after"]),
                    before=tuple(before.tolist()) if before is not None and known else (),
                    after=tuple(after.tolist()) if after is not None and known else (),
                    before_sha256=line["before_sha256"],
                    after_sha256=line["after_sha256"],
                ),
                line["split"] == Split.SELECT.value or line["counted"] == "1",
            )


def _seen(row: EditRow) -> tuple[float, float]:
    """Of the node's attribute before and after, in [0, 1]."""
    if row.verifier_before is not None and row.verifier_after is not None:
        return row.verifier_before, row.verifier_after
    return (0.0, 1.0) if row.signs[0] > 0 else (1.0, 0.0)


def _source(image: str) -> str:
    return image.partition(_APART)[2] or image


def _number(text: str) -> float | None:
    return float(text) if text else None


def _not_made(cell: EditCell) -> EditRow:
    return EditRow(
        cell=cell,
        split=Split.SELECT,
        direction=Direction.PLACEBO if cell.placebo else Direction.ADD,
        signs=(1,) * len(cell.nodes),
        operator="",
        valid=False,
        reasons=("ambiguous",),
    )

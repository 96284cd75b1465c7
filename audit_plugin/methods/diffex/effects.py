"""Adjusted effects per image from rows of edits (specification 5.3 and 4.15).

    y_ik = mean_s [l_c(x'_iks) - l_c(xhat_is)]       over valid rows only
    pi_i = mean_{j,s} [l_c(placebo_ijs) - l_c(xhat_is)]
    d_ik = g_ik (y_ik - pi_i)                         g = +1 add, -1 remove

Seeds are averaged inside the image first: the image is the sampling unit.  A placebo belongs to edits by the same operator, and of as
many terms where there are such placebos.  Edits by an operator without any placebo (deterministic ones, whose reference is the image
itself) are left unadjusted; where an operator has placebos but none on this image is valid, the image is left out.  A joint edit has an
effect only where all its nodes were added, or all removed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from audit_plugin.core.diffex_results import EditQuality, ScoreKind
from audit_plugin.core.edits import EditRow, Split
from audit_plugin.methods.diffex.scores import class_scores

AMBIGUOUS = "ambiguous"
UNTESTABLE = "untestable"
"""Beginning of a reason that holds for every image."""

Nodes = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects:
    """What the edits of one node, or of several at once, did to n images; C classes, D decisions (1, or C where each is its own)."""

    nodes: Nodes
    images: tuple[str, ...]
    signs: Int[np.ndarray, "n"]
    log_odds: Float[np.ndarray, "n C"]
    """d_ik: effect of the presence of the nodes."""
    probability: Float[np.ndarray, "n C"]
    flips: Float[np.ndarray, "n D"]
    """Share of the image's seeds on which the decision changed, in [0, 1]."""
    placebo_flips: Float[np.ndarray, "n D"]
    class_kept: Bool[np.ndarray, "n"]
    by_seed: Float[np.ndarray, "n S C"]
    """d of every seed; nan where it has no valid row."""
    adjusted: bool
    """Whether a placebo was taken off."""

    def flip(self, column: int) -> Float[np.ndarray, "n"]:
        """Flips of the decision that a class belongs to."""
        return self.flips[:, min(column, self.flips.shape[1] - 1)]

    def placebo_flip(self, column: int) -> Float[np.ndarray, "n"]:
        """The same of placebos."""
        return self.placebo_flips[:, min(column, self.placebo_flips.shape[1] - 1)]

    def over(self, images: Sequence[str], column: int) -> Float[np.ndarray, "m"]:
        """Effects on one class in the order of ``images``; nan where an image has none."""
        at = dict(zip(self.images, self.log_odds[:, column].tolist(), strict=True))
        return np.array([at.get(image, np.nan) for image in images])

    def only(self, keep: Bool[np.ndarray, "n"]) -> "Effects":
        """The same on some of the images."""
        return Effects(
            nodes=self.nodes,
            images=tuple(image for image, kept in zip(self.images, keep, strict=True) if kept),
            signs=self.signs[keep],
            log_odds=self.log_odds[keep],
            probability=self.probability[keep],
            flips=self.flips[keep],
            placebo_flips=self.placebo_flips[keep],
            class_kept=self.class_kept[keep],
            by_seed=self.by_seed[keep],
            adjusted=self.adjusted,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Shift:
    """Mean change by one image's placebos."""

    log_odds: Float[np.ndarray, "C"]
    probability: Float[np.ndarray, "C"]
    flips: Float[np.ndarray, "D"]
    deviations: Float[np.ndarray, "J C"]
    """Of its single placebos from their mean."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowTable:
    """Rows of one model version, and what follows from them."""

    rows: tuple[EditRow, ...]
    kind: ScoreKind

    @cached_property
    def by_nodes(self) -> Mapping[Nodes, tuple[EditRow, ...]]:
        """Rows of edits, without placebos and other strengths, by the nodes that were edited."""
        found: dict[Nodes, list[EditRow]] = defaultdict(list)
        for row in self.rows:
            if not row.cell.placebo and row.cell.strength == 1:
                found[row.cell.nodes].append(row)
        return {nodes: tuple(rows) for nodes, rows in found.items()}

    @cached_property
    def placebos(self) -> Mapping[tuple[str, int], Mapping[str, Shift]]:
        """(operator, number of terms) -> image -> its placebos' shift."""
        found: dict[tuple[str, int], dict[str, list[EditRow]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            if row.cell.placebo and row.usable and row.cell.strength == 1:
                found[row.operator, len(row.cell.nodes)][row.cell.image].append(row)
        return {key: {image: _shift(rows, self.kind) for image, rows in images.items()} for key, images in found.items()}

    def placebos_of(self, row: EditRow) -> Mapping[str, Shift] | None:
        """Placebos that a row is adjusted by; None where its operator has none."""
        joint = self.placebos.get((row.operator, len(row.cell.nodes)))
        return joint if joint is not None else self.placebos.get((row.operator, 1))

    @cached_property
    def placebo_spread(self) -> Float[np.ndarray, "C"] | None:
        """Standard deviation of single placebos within images, per class; None below two placebos on an image."""
        parts = [shift for images in self.placebos.values() for shift in images.values() if len(shift.deviations) > 1]
        if not parts:
            return None
        squares = sum((part.deviations**2).sum(0) for part in parts)
        return np.asarray(np.sqrt(squares / sum(len(part.deviations) - 1 for part in parts)))

    def effects(self, nodes: Nodes) -> Effects | None:
        """Adjusted effects of one set of nodes; None where no image has one."""
        if nodes not in self._effects:
            self._effects[nodes] = _effects(nodes, self)
        return self._effects[nodes]

    @cached_property
    def _effects(self) -> dict[Nodes, Effects | None]:
        return {}


def require_estimate(rows: Iterable[EditRow]) -> None:
    """Refuse rows that served the search.  Raises ValueError."""
    used = next((row for row in rows if row.split is not Split.ESTIMATE), None)
    if used is not None:
        raise ValueError(f"image {used.cell.image!r} served the search: estimate from rows of the ESTIMATE split only")


def quality(rows: Iterable[EditRow]) -> EditQuality:
    """Rates over rows of edits, placebos and other strengths left out.

    An edit counts as made unless it was ambiguous or its node is untestable.
    """
    full = [row for row in rows if not row.cell.placebo and row.cell.strength == 1]
    edits = [row for row in full if not any(reason.startswith(UNTESTABLE) for reason in row.reasons)]
    made = [row for row in edits if AMBIGUOUS not in row.reasons]
    failures: dict[str, int] = defaultdict(int)
    for row in made:
        for reason in dict.fromkeys([*row.reasons, *([] if row.class_kept else ["V3"])]):
            failures[reason] += 1
    return EditQuality(
        attempts=len(made),
        valid=sum(row.valid for row in made) / len(made) if made else None,
        ambiguous=1 - len(made) / len(edits) if edits else None,
        failures={reason: count / len(made) for reason, count in sorted(failures.items())},
    )


def clipped_share(rows: Iterable[EditRow], kind: ScoreKind, column: int) -> float:
    """Share of clipped scores of one class among the rows that count; 0 without any."""
    answers = [scores for row in rows if row.usable for scores in (row.before, row.after)]
    return float(class_scores(answers, kind).clipped[:, column].mean()) if answers else 0.0


def common_sign(row: EditRow) -> int:
    """+1 where all nodes were added, -1 where all were removed, 0 where a joint edit did both."""
    return row.signs[0] if row.signs and len(set(row.signs)) == 1 else 0


def _change(rows: Sequence[EditRow], kind: ScoreKind) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds and probability (n C) after minus before, and whether each decision changed (n D)."""
    before, after = class_scores([row.before for row in rows], kind), class_scores([row.after for row in rows], kind)
    changed = (before.decisions != after.decisions).astype(np.float64)
    return after.log_odds - before.log_odds, after.probability - before.probability, changed


def _shift(rows: Sequence[EditRow], kind: ScoreKind) -> Shift:
    log_odds, probability, flips = _change(rows, kind)
    mean = log_odds.mean(0)
    return Shift(log_odds=mean, probability=probability.mean(0), flips=flips.mean(0), deviations=log_odds - mean)


def _effects(nodes: Nodes, table: RowTable) -> Effects | None:
    kept: list[tuple[EditRow, Shift | None]] = []
    for row in table.by_nodes.get(nodes, ()):
        placebos = table.placebos_of(row)
        if row.usable and common_sign(row) and (placebos is None or row.cell.image in placebos):
            kept.append((row, None if placebos is None else placebos[row.cell.image]))
    if not kept:
        return None
    log_odds, probability, flips = _change([row for row, _ in kept], table.kind)
    signs = np.array([common_sign(row) for row, _ in kept])
    images, at = np.unique([row.cell.image for row, _ in kept], return_inverse=True)
    seeds, seed_at = np.unique([row.cell.seed for row, _ in kept], return_inverse=True)
    d = signs[:, None] * (log_odds - _stack(kept, "log_odds", log_odds))
    by_seed = np.full((len(images), len(seeds), d.shape[1]), np.nan)
    by_seed[at, seed_at] = d
    kept_class = np.ones(len(images), dtype=np.bool_)
    np.logical_and.at(kept_class, at, np.array([row.class_kept for row, _ in kept]))
    first = np.unique(at, return_index=True)[1]
    return Effects(
        nodes=nodes,
        images=tuple(str(image) for image in images),
        signs=signs[first],
        log_odds=_per_image(d, at),
        probability=_per_image(signs[:, None] * (probability - _stack(kept, "probability", probability)), at),
        flips=_per_image(flips, at),
        placebo_flips=_per_image(_stack(kept, "flips", flips), at),
        class_kept=kept_class,
        by_seed=by_seed,
        adjusted=any(shift is not None for _, shift in kept),
    )


def _stack(kept: Sequence[tuple[EditRow, Shift | None]], name: str, like: np.ndarray) -> np.ndarray:
    """The placebos' part of every row; zeros where its operator has none."""
    return np.stack([np.zeros(like.shape[1]) if shift is None else getattr(shift, name) for _, shift in kept])


def _per_image(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(at.max()) + 1, values.shape[1]))
    np.add.at(sums, at, values)
    return np.asarray(sums / np.bincount(at)[:, None])

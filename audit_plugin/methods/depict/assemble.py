"""From the bank's table and the model's scores to frozen arrays, in which everything has a name and nothing a mere position.

A row whose picture the quality filter refused is left out for the concept concerned, and counted; a row whose *baseline* was refused
is left out everywhere.  A picture that should have been scored and was not is an error, never a silent gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.table import BankTable, Shas
from audit_plugin.core.errors import BankError, ConfigError, TableError, TargetOutputError
from audit_plugin.core.values import Concept, Row

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
ScoresBySha = Mapping[str, NDArray[np.floating]]

_ROUNDING = 1e-5
"""How far outside [0, 1] a probability may lie: float32 and half-precision outputs round."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FlipArrays:
    """One concept's flips: n rows, K levels of this concept, k classes."""

    concept: Concept
    own: Ints
    """``(n,)`` the row's own level."""
    pictures: Ints
    """``(n, K)`` number of the picture that is shown: the same one wherever it is shown."""
    scores: Array
    """``(n, K, k)``; the own level holds the baseline; NaN where no usable picture is."""
    factor: Array
    """``(n, K)`` importance factors of sampled levels, 1 where all levels were drawn."""
    usable: Mask
    """``(n,)`` rows whose baseline and wanted flips all passed the quality filter."""
    readings: Mapping[str, Array]
    """Detector's concept -> ``(n, K, levels of that concept)``, NaN where nothing was read."""
    asked: int
    """Flips that the plan wanted."""
    rejected: Ints
    """``(n,)`` flips of the row that the quality filter refused."""
    drawn: Mask
    """``(n, K)`` flips away from the own level that are there and usable."""

    @property
    def shown(self) -> Mask:
        """``(n, K)`` levels that take part in the permutation: the own one and the drawn ones."""
        return np.asarray(self.drawn | (np.arange(self.drawn.shape[1])[None, :] == self.own[:, None]))


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupArrays:
    """Several concepts that took a donor's values together."""

    members: tuple[str, ...]
    scores: Array
    """``(n, k)``; the baseline where the donor changed nothing."""
    changed: Mask
    usable: Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditArrays:
    """Everything that one audit computes with."""

    concepts: tuple[Concept, ...]
    classes: tuple[str, ...]
    rows: tuple[str, ...]
    units: Ints
    """``(n,)`` number of the resampling unit of each row."""
    labels: Ints
    """``(n,)`` index into ``classes``."""
    values: Mapping[str, Ints]
    """Concept -> ``(n,)`` level index."""
    baseline: Array
    """``(n, k)``, NaN where the quality filter refused the picture."""
    usable: Mask
    """``(n,)`` rows with a baseline."""
    readings: Mapping[str, Array]
    """Detector's concept -> ``(n, K)`` on the baselines."""
    flips: Mapping[str, FlipArrays]
    groups: Mapping[str, GroupArrays]
    placebo: Array | None
    """``(n, k)``, NaN for rows without a placebo; None when no row has one."""
    placebo_readings: Mapping[str, Array]
    replicates: Array | None
    """``(S, n, k)`` the same captions with other seeds."""
    real: Array | None
    """``(n, k)`` scores of the real images; never the reference arm of an effect."""
    real_readings: Mapping[str, Array]
    probes: int
    """Pictures that the baseline and flip arms asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Concept names."""
        return tuple(concept.name for concept in self.concepts)

    def concept(self, name: str) -> Concept:
        """The concept of this name."""
        return self.flips[name].concept


def assemble(
    table: BankTable,
    scores: ScoresBySha,
    *,
    label: str,
    classes: Sequence[str],
    real_scores: ScoresBySha | None = None,
) -> AuditArrays:
    """Put scores (sha256 -> ``(k,)`` probabilities in the order of ``classes``) and readings in their places.

    Real images are scored from ``real_scores``, or from ``scores`` when that is not given; real images without any score are simply
    not there.
    """
    reader = _Reader(table=table, scores=scores, classes=tuple(classes))
    labels = label_indices(table.rows, label, reader.classes)
    baseline = reader.scored(table.baseline, "baseline")
    usable = table.usable(table.baseline)
    if not usable.any():
        raise BankError("not one baseline picture is usable; look at the reasons of rejection and build the bank again")
    flips = {concept.name: reader.flips(concept, baseline) for concept in table.concepts}
    real = _real(table, scores if real_scores is None else real_scores, reader.classes)
    return AuditArrays(
        concepts=table.concepts,
        classes=reader.classes,
        rows=tuple(row.id for row in table.rows),
        units=np.unique(np.array(table.units), return_inverse=True)[1].astype(np.int64),
        labels=labels,
        values={concept.name: table.values[:, at] for at, concept in enumerate(table.concepts)},
        baseline=baseline,
        usable=usable,
        readings=reader.read(table.baseline),
        flips=flips,
        groups={name: reader.group(name, baseline) for name in table.groups},
        placebo=None if table.placebo is None or not table.usable(table.placebo).any() else reader.scored(table.placebo, "placebo"),
        placebo_readings={} if table.placebo is None else reader.read(table.placebo),
        replicates=None if table.replicates is None else reader.scored(table.replicates, "replicate"),
        real=real,
        real_readings={} if table.real is None else reader.read(table.real),
        probes=len(table.rows) + sum(flip.asked for flip in flips.values()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reader:
    table: BankTable
    scores: ScoresBySha
    classes: tuple[str, ...]

    def scored(self, shas: Shas, arm: str) -> Array:
        """Scores in the places of ``shas``; whatever is usable must have one."""
        found = _checked(self.table, shas, self.scores, self.classes)
        missing = np.isnan(found).any(-1) & self.table.usable(shas)
        if missing.any():
            raise BankError(
                f"{int(missing.sum())} {arm} pictures have no score of this model, e.g. {shas[missing][0]}; "
                "score the bank before the audit (scoring again sends only what is missing)"
            )
        return found

    def read(self, shas: Shas) -> dict[str, Array]:
        """Readings by concept; concepts that the detector does not know are left out."""
        read = {concept.name: self.table.read(shas, concept.name) for concept in self.table.concepts}
        return {name: reading for name, reading in read.items() if np.isfinite(reading).any()}

    def flips(self, concept: Concept, baseline: Array) -> FlipArrays:
        name, table = concept.name, self.table
        own = table.values[:, table.index(name)]
        if own.min(initial=0) < 0 or own.max(initial=0) >= len(concept.levels):
            raise TableError(f"concept {name!r} has values outside its levels {list(concept.levels)}; check the concept table")
        is_own = np.arange(len(concept.levels))[None, :] == own[:, None]
        shas = np.where(is_own, table.baseline[:, None], table.flips[name].T)
        factor = table.factor(name).T.copy()
        wanted = ~is_own & (factor > 0) & ((shas != "") | (table.prevalence(name) > 0)[None, :])
        good = table.usable(shas)
        lost = wanted & (shas == "") & table.usable(table.baseline)[:, None]
        if lost.any():
            raise BankError(f"{int(lost.sum())} flips of concept {name!r} were never drawn; resume the build of the bank")
        scores = self.scored(np.where(is_own | wanted, shas, ""), f"{name!r} flip")
        scores[is_own] = baseline
        return FlipArrays(
            concept=concept,
            pictures=np.unique(shas, return_inverse=True)[1].reshape(shas.shape).astype(np.int64),
            own=own,
            scores=scores,
            factor=factor,
            usable=table.usable(table.baseline) & (good | ~wanted).all(1),
            readings=self.read(shas),
            asked=int(wanted.sum()),
            rejected=(wanted & ~good).sum(1),
            drawn=wanted & good,
        )

    def group(self, name: str, baseline: Array) -> GroupArrays:
        members = tuple(name.split("+"))
        unknown = [member for member in members if member not in {concept.name for concept in self.table.concepts}]
        if unknown:
            raise TableError(f"group {name!r} names unknown concepts {unknown}")
        shas = self.table.groups[name]
        changed = self.table.changed.get(name, shas != self.table.baseline)
        scores = self.scored(shas, f"group {name!r}")
        return GroupArrays(
            members=members,
            scores=np.where(changed[:, None], scores, baseline),
            changed=changed,
            usable=self.table.usable(self.table.baseline) & (self.table.usable(shas) | ~changed),
        )


def check_task(rows: Sequence[Row], *, label: str, classes: Sequence[str], positive: str | None) -> None:
    """Raise TableError or ConfigError unless these rows can be judged against the classes; needs no picture."""
    label_indices(rows, label, classes)
    check_positive(positive, classes)


def check_positive(positive: str | None, classes: Sequence[str]) -> None:
    """Raise ConfigError for a favourable class that is none."""
    if positive is not None and positive not in classes:
        raise ConfigError(f"positive class {positive!r} is not among the model's classes {list(classes)}")


def label_indices(rows: Sequence[Row], label: str, classes: Sequence[str]) -> Ints:
    """``(n,)`` class of each row as an index into ``classes``.  Raises TableError for a label that is none."""
    known = {name: at for at, name in enumerate(classes)}
    if len(known) != len(classes) or len(classes) < 2:
        raise TableError(f"a model needs at least two different class names, got {list(classes)}")
    named = [row.labels.get(label) for row in rows]
    without = sum(name is None for name in named)
    if without:
        columns = sorted({column for row in rows for column in row.labels})
        raise TableError(f"{without} of {len(named)} rows have no label {label!r}; label columns: {columns}")
    strange = sorted({name for name in named if name is not None and name not in known})
    if strange:
        raise TableError(
            f"label {label!r} has values {strange} that are not among the model's classes {list(classes)}; "
            "give the class names in the order of the model's outputs, spelt as in the table"
        )
    return np.array([known[name] for name in named if name is not None], np.int64)


def _checked(table: BankTable, shas: Shas, scores: ScoresBySha, classes: Sequence[str]) -> Array:
    """Gathered scores after a check of every vector that is used."""
    used = [sha for sha in np.unique(shas).tolist() if sha in scores and sha not in table.rejected]
    for sha in used:
        vector = np.asarray(scores[sha], np.float64)
        if vector.shape != (len(classes),):
            raise TargetOutputError(f"picture {sha!r} has scores of shape {vector.shape} but the model has {len(classes)} classes")
        if not np.isfinite(vector).all():
            raise TargetOutputError(f"picture {sha!r} has scores that are not finite: {vector}; look at the model's output")
        if vector.min() < -_ROUNDING or vector.max() > 1 + _ROUNDING:
            raise TargetOutputError(
                f"picture {sha!r} has scores outside [0, 1]: {vector}; the model seems to answer logits, so set its "
                "`activation` to softmax or sigmoid"
            )
    found = table.gather(shas, scores) if used else np.full((*shas.shape, len(classes)), np.nan)
    return np.clip(found, 0.0, 1.0)


def _real(table: BankTable, scores: ScoresBySha, classes: Sequence[str]) -> Array | None:
    if table.real is None:
        return None
    found = _checked(table, table.real, scores, classes)
    missing = np.isnan(found).any(-1)
    if missing.all():
        return None
    if (missing & (table.real != "")).any():
        raise BankError(
            f"{int((missing & (table.real != '')).sum())} real images have no score of this model; score them all or none"
        )
    return found

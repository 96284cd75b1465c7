"""Counterfactuals as a set against the images that they were made of, by features of networks that the user supplies.

FID, sFID and KID ask whether flips look like real images, FVA and FS whether a face is still the same person's, S3 whether the picture shows the
same thing.  Each is taken over the subset of its authors' code (``statistics.counterfactuals.SUBSETS``), which is named with it; too few
images are refused with the number that would do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import CounterfactualStudio
from audit_plugin.core.counterfactual_results import Counterfactual, SetFigure
from audit_plugin.core.protocols import ConceptDetector
from audit_plugin.core.seeds import seed
from audit_plugin.statistics.counterfactuals import SUBSETS
from audit_plugin.statistics.frechet import frechet, kernel_distance, split_frechet
from audit_plugin.statistics.identity import similarity, verification

Value = tuple[float, float | None, float | None, float | None]
"""Value, limits of its interval, spread."""
Rows = Float[np.ndarray, "n d"]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Who reads features; None for what is not asked."""

    features: ConceptDetector | None = None
    """For FID, sFID and KID."""
    faces: ConceptDetector | None = None
    """For FVA and FS."""
    likeness: ConceptDetector | None = None
    """For S3."""
    names: tuple[str, str, str] = ("", "", "")
    """What they are called in results."""


def set_figures(studio: CounterfactualStudio, items: Sequence[Counterfactual], networks: Networks) -> tuple[SetFigure, ...]:
    """Every figure that a network is there for; those that cannot be had say why."""
    readers = (networks.features, networks.faces, networks.likeness)
    made: list[SetFigure] = []
    for at, (reader, names) in enumerate(zip(readers, (("FID", "sFID", "KID"), ("FVA", "FS"), ("S3",)), strict=True)):
        if reader is not None and items:
            pairs = _Pairs(studio, items, reader)
            made += [pairs.figure(name, networks.names[at]) for name in names]
    return tuple(made)


class _Pairs:
    """Features of every original and of every counterfactual."""

    def __init__(self, studio: CounterfactualStudio, items: Sequence[Counterfactual], reader: ConceptDetector) -> None:
        befores = {sha: row for row, sha in enumerate(dict.fromkeys(item.before_sha256 for item in items))}
        read = studio.readings(reader, [*befores, *(item.after_sha256 for item in items)])

        def rows(shas: Sequence[str]) -> NDArray[np.float64]:
            return np.array([next(iter(read[sha].values())) for sha in shas], np.float64)

        self.real, self.after = rows(list(befores)), rows([item.after_sha256 for item in items])
        self.of = np.array([befores[item.before_sha256] for item in items], np.int64)
        """Row of ``real`` that each counterfactual was made of."""
        self.valid = np.array([item.flipped for item in items])
        self.correct = np.array([item.label == item.original for item in items])
        self.labelled = any(item.label for item in items)

    def figure(self, name: str, network: str) -> SetFigure:
        subset = SUBSETS[name]
        rows = subset.rows(self.correct, self.valid)
        real = len(self.real) if subset.incorrect_too else len(np.unique(self.of[rows]))
        value: Value | None = None
        why = ""
        if not subset.incorrect_too and not self.labelled:
            why = "the table gives no classes, so that it is not known which images the model gets right"
        else:
            try:
                value = _TAKEN[name](self.real, self.after[rows], self.of[rows])
            except ValueError as error:
                why = str(error)
        found, low, high, spread = value or (None, None, None, None)
        return SetFigure(
            name=name,
            value=found,
            low=low,
            high=high,
            spread=spread,
            real=real,
            counterfactual=int(rows.sum()),
            subset=str(subset),
            network=network,
            refused=why,
        )


def _fid(real: Rows, after: Rows, _of: NDArray[np.int64]) -> Value:
    return frechet(real, after).value, None, None, None


def _sfid(real: Rows, after: Rows, of: NDArray[np.int64]) -> Value:
    found = split_frechet(real, after, of, _rng("sfid", len(after)))
    return found.value, None, None, found.spread


def _kid(real: Rows, after: Rows, of: NDArray[np.int64]) -> Value:
    found = kernel_distance(real, after, _rng("kid", len(after)), originals=of)
    return found.value.value, found.value.low, found.value.high, None


def _fva(real: Rows, after: Rows, of: NDArray[np.int64]) -> Value:
    found = verification(real[of], after).rate
    return found.value, found.low, found.high, None


def _cosine(real: Rows, after: Rows, of: NDArray[np.int64]) -> Value:
    found = similarity(real[of], after)
    one = found.n < 2
    return found.value.value, None if one else found.value.low, None if one else found.value.high, None


_TAKEN: dict[str, Callable[[Rows, Rows, NDArray[np.int64]], Value]] = {
    "FID": _fid,
    "sFID": _sfid,
    "KID": _kid,
    "FVA": _fva,
    "FS": _cosine,
    "S3": _cosine,
}


def _rng(what: str, n: int) -> np.random.Generator:
    """The same halves and blocks for the same pictures."""
    return np.random.default_rng(seed("sets of counterfactuals", what, n))

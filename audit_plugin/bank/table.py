"""The bank as methods see it: per row, which picture answers which question, and what the detector saw in it.

Rows and concepts are always in the order of ``rows`` and ``concepts``.  A picture is named by the sha256 of its bytes; ``''``
means that there is none.  A picture that the quality filter refused keeps its name in the arrays, is listed in ``rejected`` and has
neither readings nor scores, so :meth:`BankTable.gather` answers NaN for it: it can be counted and shown but never used by accident.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.values import Concept, Row

Shas = NDArray[np.str_]
Vectors = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True, kw_only=True, eq=False)
class BankTable:
    """What the pure methods get; n rows, J concepts, concept j with K_j levels.  Only the first four fields are required."""

    concepts: tuple[Concept, ...]
    rows: tuple[Row, ...]
    baseline: Shas
    """``(n,)`` the picture of the row's own caption."""
    flips: Mapping[str, Shas]
    """Concept -> ``(K, n)``: ``flips[concept][level]``; where ``level`` is the row's own it is the baseline picture."""
    factors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Concept -> ``(K, n)`` importance factors of sampled levels (see :meth:`factor`); concepts drawn in full are left out."""
    placebo: Shas | None = None
    """``(n,)``, ``''`` for rows without a placebo."""
    replicates: Shas | None = None
    """``(S, n)`` baseline captions with other seeds, ``''`` for rows without."""
    groups: Mapping[str, Shas] = field(default_factory=dict)
    """Names joined by '+' -> ``(n,)``: the group takes a donor's values; the baseline picture where that changes nothing."""
    changed: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Group -> ``(n,)``: whether the donor's values differ from the row's own."""
    real: Shas | None = None
    """``(n,)`` the real image of the row; never the reference arm of an effect."""
    readings: Mapping[str, Mapping[str, NDArray[np.floating]]] = field(default_factory=dict)
    """sha256 -> concept -> ``(K,)`` probabilities of the detector."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """sha256 -> why the quality filter refused the picture."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """sha256 -> the caption it was drawn from."""
    digest: str = ""
    """Of the bank these arrays come from."""
    generator: str = ""
    detector: str = ""

    def __post_init__(self) -> None:
        n = len(self.rows)
        if self.baseline.shape != (n,):
            raise ValueError(f"baseline has shape {self.baseline.shape} but there are {n} rows")
        for concept in self.concepts:
            wanted = (len(concept.levels), n)
            if concept.name not in self.flips or self.flips[concept.name].shape != wanted:
                raise ValueError(f"flips of concept {concept.name!r} must have shape {wanted}")

    def concept(self, name: str) -> Concept:
        """The concept of this name."""
        return self.concepts[self.index(name)]

    def index(self, name: str) -> int:
        """Position of the concept in ``concepts`` and in every row's values."""
        return [concept.name for concept in self.concepts].index(name)

    @property
    def values(self) -> NDArray[np.int64]:
        """``(n, J)`` level index of every row and concept."""
        return np.array([row.values for row in self.rows], np.int64).reshape(len(self.rows), len(self.concepts))

    @property
    def units(self) -> tuple[str, ...]:
        """What is resampled together, per row."""
        return tuple(row.unit or row.id for row in self.rows)

    def prevalence(self, concept: str) -> NDArray[np.float64]:
        """``(K,)`` share of rows per level: the π of the permutation."""
        levels = len(self.concept(concept).levels)
        return np.bincount(self.values[:, self.index(concept)], minlength=levels) / max(1, len(self.rows))

    def factor(self, concept: str) -> NDArray[np.float64]:
        """``(K, n)``: sum over levels of ``prevalence[level] * factor[level, row] * f(level, row)`` is unbiased for all levels.

        One everywhere, unless the plan sampled levels: then 0 for those not drawn, and the rest make up for them on average.
        """
        ones = np.ones(self.flips[concept].shape)
        return self.factors.get(concept, ones)

    def usable(self, shas: Shas) -> NDArray[np.bool_]:
        """Where there is a picture that the quality filter let pass."""
        return ~np.isin(shas, ["", *self.rejected])

    def gather(self, shas: Shas, vectors: Vectors) -> NDArray[np.float64]:
        """Vectors of equal length, e.g. scores by sha256, in the places of ``shas``: shape ``(*shas.shape, k)``, NaN where none."""
        names, places = np.unique(shas, return_inverse=True)
        known = {name: vectors[name] for name in names.tolist() if name not in self.rejected and name in vectors}
        width = len(next(iter(known.values()))) if known else 0
        table = np.full((len(names), width), np.nan)
        for at, name in enumerate(names.tolist()):
            if name in known:
                table[at] = known[name]
        return table[places].reshape(*shas.shape, width)

    def read(self, shas: Shas, concept: str) -> NDArray[np.float64]:
        """The detector's level probabilities of one concept in the places of ``shas``: ``(*shas.shape, K)``, NaN where none."""
        seen = self.gather(shas, {sha: reading[concept] for sha, reading in self.readings.items() if concept in reading})
        return seen if seen.shape[-1] else np.full((*shas.shape, len(self.concept(concept).levels)), np.nan)

"""Hidden units as subjects: activations in standard deviations of what pictures usually give (specification 7.7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.discovery_results import UnitWords
from audit_plugin.core.errors import TargetOutputError
from audit_plugin.core.protocols import Images, ScoreTable

HIGH = 95.0
"""Percentile of usual activations above which a unit counts as active."""
READ = 64
TINY = 1e-6
"""A unit that varies less than by so much of its size is constant: differences of rounding are no response."""


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitAnswers:
    """Of n pictures, for the units of one output."""

    score: Float[np.ndarray, "n U"]
    taken: Bool[np.ndarray, "n U"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Usual:
    """What units answer on pictures that nobody chose."""

    mean: Float[np.ndarray, "U"]
    sd: Float[np.ndarray, "U"]
    high: Float[np.ndarray, "U"]


@dataclass(eq=False, kw_only=True)
class UnitReader:
    """Asks a model that shows hidden units (``<model>_hidden``)."""

    output: str
    units: tuple[int, ...]
    ask: Callable[[Images], Float[np.ndarray, "n D"]]
    """Every unit of the output, of pictures as the auditor holds them."""
    usual: Usual
    maps: Callable[[Images], Float[np.ndarray, "n D h w"]] | None = None
    """The same before the mean over places, where the output is a map."""
    seen: float = 1.0
    """Share of a picture's side that the model sees, in its middle; pictures are square."""
    table: ScoreTable | None = None
    """Where answers are kept, under ``key``, so that another run asks nothing again."""
    key: str = ""
    _kept: dict[str, Float[np.ndarray, "D"]] = field(default_factory=dict)

    def missing(self, shas: Sequence[str]) -> list[str]:
        """Pictures that the server was not asked about yet."""
        todo = [sha for sha in dict.fromkeys(shas) if sha not in self._kept]
        if todo and self.table is not None:
            self._kept |= self.table.get(self.key, todo)
        return [sha for sha in todo if sha not in self._kept]

    def read(self, shas: Sequence[str], load: Callable[[Sequence[str]], Images]) -> UnitAnswers:
        """Each picture is asked about once."""
        raw = self.all(shas, load)[:, list(self.units)]
        return UnitAnswers(score=(raw - self.usual.mean) / self.usual.sd, taken=raw > self.usual.high)

    def all(self, shas: Sequence[str], load: Callable[[Sequence[str]], Images]) -> Float[np.ndarray, "n D"]:
        """Every unit of the output, as it answers."""
        todo = self.missing(shas)
        for at in range(0, len(todo), READ):
            some = todo[at : at + READ]
            told = dict(zip(some, np.asarray(self.ask(load(some)), np.float64), strict=True))
            if self.table is not None:
                self.table.add(self.key, told)
            self._kept |= told
        return np.stack([self._kept[sha] for sha in shas])

    def heat(self, unit: int, images: Images) -> Float[np.ndarray, "n h w"] | None:
        """Where in the pictures a unit responds; None where the output has no places."""
        return None if self.maps is None else self.maps(images)[:, unit]


def activations(values: Float[np.ndarray, "n ..."], output: str) -> Float[np.ndarray, "n D"]:
    """One number a unit: of feature maps ``(n, D, h, w)`` the mean over places.  Raises TargetOutputError for other shapes."""
    if values.ndim not in {2, 4}:
        raise TargetOutputError(
            f"discover.units: {output} answers {values.shape[1:]} for a picture; units are taken from vectors (D) and feature maps (D, h, w)"
        )
    return np.asarray(values if values.ndim == 2 else values.mean((2, 3)))


def unit_words(output: str, words: Sequence[str], values: Float[np.ndarray, "n D"], most: int = 3) -> list[UnitWords]:
    """Of every unit that varies, the words that it answers most to; ``values`` are of equally many pictures of each word, in their order."""
    spread = values.std(0)
    by_word = values.reshape(len(words), -1, values.shape[1]).mean(1) - values.mean(0)
    found = []
    for unit in np.flatnonzero(spread > TINY * (1 + np.abs(values).max(0))).tolist():
        scores = by_word[:, unit] / spread[unit]
        best = [(words[at], float(scores[at])) for at in np.argsort(-scores, kind="stable")[:most].tolist()]
        found.append(UnitWords(unit=f"{output}[{unit}]", words=tuple(best)))
    return found


def usual(values: Float[np.ndarray, "n U"]) -> Usual:
    """Raises ValueError below eight pictures: a percentile of fewer means nothing."""
    if len(values) < 8:
        raise ValueError(f"what units usually answer takes at least 8 pictures, got {len(values)}")
    sd = values.std(0, ddof=1)
    return Usual(
        mean=values.mean(0), sd=np.where(sd > TINY * (1 + np.abs(values).max(0)), sd, 1.0), high=np.percentile(values, HIGH, axis=0)
    )

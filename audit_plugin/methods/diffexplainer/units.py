"""Hidden units as subjects: activations in standard deviations of what pictures usually give (specification 7.7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.errors import TargetOutputError
from audit_plugin.core.protocols import Images

HIGH = 95.0
"""Percentile of usual activations above which a unit counts as active."""
READ = 64


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
    _kept: dict[str, Float[np.ndarray, "U"]] = field(default_factory=dict)

    def read(self, shas: Sequence[str], load: Callable[[Sequence[str]], Images]) -> UnitAnswers:
        """Each picture is asked about once."""
        todo = [sha for sha in dict.fromkeys(shas) if sha not in self._kept]
        for at in range(0, len(todo), READ):
            some = todo[at : at + READ]
            self._kept |= dict(zip(some, self.ask(load(some))[:, list(self.units)], strict=True))
        raw = np.stack([self._kept[sha] for sha in shas])
        return UnitAnswers(score=(raw - self.usual.mean) / self.usual.sd, taken=raw > self.usual.high)

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


def usual(values: Float[np.ndarray, "n U"]) -> Usual:
    """Raises ValueError below eight pictures: a percentile of fewer means nothing."""
    if len(values) < 8:
        raise ValueError(f"what units usually answer takes at least 8 pictures, got {len(values)}")
    sd = values.std(0, ddof=1)
    return Usual(mean=values.mean(0), sd=np.where(sd > 0, sd, 1.0), high=np.percentile(values, HIGH, axis=0))

"""Effects of flips as statistics of weighted rows, so that all of them are bootstrapped on the same resamples of units."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.shortcut.rows import ShortcutArrays
from audit_plugin.statistics.bootstrap import Statistic, bootstrap, unit_weights
from audit_plugin.statistics.metrics import weighted_aurocs

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Resampled:
    """Rows with the weights of their resamples."""

    rows: ShortcutArrays
    weights: Float[np.ndarray, "B n"]

    @classmethod
    def of(cls, rows: ShortcutArrays, draws: int, rng: np.random.Generator) -> "Resampled | None":
        """None with fewer than two units: nothing can be said about the spread."""
        return cls(rows, unit_weights(rows.units, draws, rng)) if len(np.unique(rows.units)) > 1 else None

    def estimate(self, statistic: Statistic) -> Estimate | None:
        """A statistic with its interval; None where the data do not define it."""
        boot = bootstrap(statistic, self.weights)
        if not np.isfinite(boot.value):
            return None
        found = boot.interval(LEVEL)
        return Estimate(value=found.value, low=found.low, high=found.high)

    def mean(self, values: Float[np.ndarray, " n"], among: Bool[np.ndarray, " n"] | None = None) -> Estimate | None:
        """Mean over the rows whose value is known, among some of them."""
        usable = np.isfinite(values) if among is None else np.isfinite(values) & among
        chosen = values[usable]

        def statistic(weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
            taken = weights[:, usable]
            return _ratio(taken @ chosen, taken.sum(1))

        return self.estimate(statistic)

    def cosine(self) -> Estimate | None:
        """Of the scores before and after, as two vectors over images."""
        before, after = self.rows.before, self.rows.after

        def statistic(weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
            return _ratio(weights @ (before * after), np.sqrt((weights @ before**2) * (weights @ after**2)))

        return self.estimate(statistic)

    def auroc(self, scores: Float[np.ndarray, " n"]) -> Estimate | None:
        """Of scores for the labels, among the rows that have one."""
        labelled = np.isfinite(self.rows.positive)
        positive, chosen = self.rows.positive[labelled] == 1, scores[labelled]
        if not len(chosen):
            return None
        return self.estimate(lambda weights: weighted_aurocs(chosen, positive, weights[:, labelled]))


def _ratio(top: Float[np.ndarray, "B"], bottom: Float[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
    """Nan where nothing was drawn."""
    return np.asarray(np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0))

"""Single figures of one node or set of nodes on one class (specification 9.1 to 9.4), from its effects per image."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from audit_plugin.core.diffex_results import CounterClass, Exemplar, ScoreKind
from audit_plugin.core.edits import EditRow
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.tree import Node, NodeKind
from audit_plugin.methods.diffex.effects import Effects, common_sign
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.paired_mean import MeanIntervals, mean_intervals
from audit_plugin.statistics.paired_shares import newcombe_paired
from audit_plugin.statistics.signflip import FEW_DISCORDANT, sparse_interval

PERCENTILES = (10, 50, 90)


def rng_of(seed: int, *names: str) -> np.random.Generator:
    """Random numbers of one figure: of its names, never of the order in which figures are computed."""
    return np.random.default_rng(seed_of(f"diffex {seed}", "\x1f".join(names)))


def as_estimate(interval: Interval) -> Estimate:
    """As results keep it."""
    return Estimate(value=interval.value, low=interval.low, high=interval.high)


def intervals_of(
    values: Float[np.ndarray, "n"], rng: np.random.Generator, *, draws: int, alpha: float, kind: ScoreKind
) -> MeanIntervals | None:
    """Intervals of a mean over images; None below two.  Labels that rarely change have exact ones of the shares that rose and fell."""
    if len(values) < 2:
        return None
    if kind is ScoreKind.LABELS and np.count_nonzero(values) < FEW_DISCORDANT:
        bound = max(1.0, float(np.abs(values).max()))
        wide, narrow = (sparse_interval(values, bound=bound, level=level) for level in (1 - alpha, 1 - 2 * alpha))
        return MeanIntervals(interval=wide, equivalence=narrow, low_n=mean_intervals(values, rng, draws=2).low_n)
    return mean_intervals(values, rng, draws=draws, alpha=alpha)


def mean_estimate(
    values: Float[np.ndarray, "n"], rng: np.random.Generator, *, draws: int = 2_000, alpha: float = 0.05
) -> Estimate | None:
    """Mean with its interval; None below two images."""
    return as_estimate(mean_intervals(values, rng, draws=draws, alpha=alpha).interval) if len(values) > 1 else None


def flip_rate(effects: Effects, column: int, *, alpha: float = 0.05) -> Estimate | None:
    """Share of images whose decision changes minus the placebo's share; Newcombe's paired interval."""
    if not effects.images:
        return None
    return as_estimate(newcombe_paired(effects.flip(column), effects.placebo_flip(column), level=1 - alpha))


def responders(d: Float[np.ndarray, "n"], spread: float | None, *, times: float = 3.0) -> float | None:
    """Share of images whose effect exceeds ``times`` the placebo's standard deviation; None where that is unknown."""
    return None if spread is None or not len(d) else float((np.abs(d) > times * spread).mean())


def quantiles(d: Float[np.ndarray, "n"]) -> tuple[float, float, float] | None:
    """10th, 50th and 90th percentile of images."""
    if not len(d):
        return None
    low, middle, high = (float(value) for value in np.percentile(d, PERCENTILES))
    return low, middle, high


def core_share(node: Node, measured: float | None = None) -> float:
    """Core-ness in [0, 1]: 1 for core, else 0; what was measured (clipped) wins unless a person set the kind."""
    if measured is None or node.source == "person":
        return 1.0 if node.kind is NodeKind.CORE else 0.0
    return min(1.0, max(0.0, measured))


def nearest_zero(estimate: Estimate | None) -> float:
    """The interval limit of |E| nearest 0; 0 where the interval covers it."""
    return 0.0 if estimate is None else max(0.0, estimate.low, -estimate.high)


def spuriousness_score(effect: Estimate | None, core: float) -> float:
    """S = (1 - kappa) tanh(Lo): grows with evidence only.

    >>> round(spuriousness_score(Estimate(value=0.6, low=0.5, high=0.7), 0.0), 2)
    0.46
    """
    return (1 - core) * math.tanh(nearest_zero(effect))


def spurious_ratio(effect: float, of_object: float) -> float | None:
    """SR = |E|/(|E| + |E of the object|); None where both are 0.

    >>> spurious_ratio(3.0, -1.0)
    0.75
    """
    total = abs(effect) + abs(of_object)
    return abs(effect) / total if total > 0 else None


def counter_column(effects: Effects, column: int) -> tuple[int, int] | None:
    """(class, direction): which other class gains most where the audited one falls; from SELECT effects.  None with one class.

    direction +1: the presence of the node lowers the audited class; -1: its absence does.
    """
    means = effects.log_odds.mean(0)
    if len(means) < 2:
        return None
    direction = -1 if means[column] > 0 else 1
    gains = direction * means
    gains[column] = -np.inf
    return int(gains.argmax()), direction


def counter_class(
    effects: Effects, chosen: tuple[int, int] | None, labels: Sequence[str], rng: np.random.Generator, *, alpha: float = 0.05
) -> CounterClass | None:
    """Gain of the class that SELECT images chose, on these images."""
    if chosen is None:
        return None
    column, direction = chosen
    gain = mean_estimate(direction * effects.log_odds[:, column], rng, alpha=alpha)
    return None if gain is None else CounterClass(class_name=labels[column], gain=gain)


def exemplars(effects: Effects, rows: Sequence[EditRow], column: int) -> tuple[Exemplar, ...]:
    """The images whose effects stand nearest the 10th, 50th and 90th percentile, each once."""
    shown: dict[str, EditRow] = {}
    for row in rows:
        if row.usable:
            shown.setdefault(row.cell.image, row)
    d, found = effects.log_odds[:, column], dict[str, Exemplar]()
    for percentile in PERCENTILES:
        at = int(np.abs(d - np.percentile(d, percentile, method="nearest")).argmin())
        row = shown[effects.images[at]]
        example = Exemplar(
            image=row.cell.image,
            seed=row.cell.seed,
            percentile=percentile,
            effect=float(d[at]),
            before_sha256=row.before_sha256,
            after_sha256=row.after_sha256,
            removed=common_sign(row) < 0,
        )
        found.setdefault(row.cell.image, example)
    return tuple(found.values())

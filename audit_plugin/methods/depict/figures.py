"""The numbers of every concept and group, with intervals, from the flip table; nothing here is judged.

Symbols and numbers of the sections are those of the DEPICT specification: Δ importance, D- and D+ the mean loss rise when a binary
concept is removed or added, π level shares.  Uncertainty is over rows (whole units), never over permutations.  With AUROC, which has
no loss per row, D-, D+ and the sign-flip test use the Brier score of the same scores: the test then asks whether the *scores* carry
less about the label after the flips, which is what an AUROC drop means for a model whose scores are probabilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.values import Role
from audit_plugin.methods.depict.assemble import Array, FlipArrays, GroupArrays, Ints, Mask
from audit_plugin.methods.depict.edits import Stack, leak_adjusted
from audit_plugin.methods.depict.study import Study, minus, ratios
from audit_plugin.statistics.bootstrap import Bootstrap, bootstrap
from audit_plugin.statistics.conditional import OffSupport, conditional_strata
from audit_plugin.statistics.flip_table import (
    FlipTable,
    added,
    balance,
    contribution_bound,
    importances,
    influence_se,
    loss_gains,
    removed,
)
from audit_plugin.statistics.groups import GroupFlips, group_contributions, group_importances
from audit_plugin.statistics.intervals import Interval, normal, z_value
from audit_plugin.statistics.metrics import Metric
from audit_plugin.statistics.power import mean_square, minimal_detectable_effect
from audit_plugin.statistics.signflip import few_changed, few_said, sign_flip, sparse_limits
from audit_plugin.statistics.unseen import NONE, Reach, unseen_drop

_FEWEST_ROWS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Importance:
    """An importance, of whatever kind, with its 95 % and 90 % interval."""

    draws: Bootstrap
    wide: Interval
    narrow: Interval
    unseen: Reach = NONE
    """What rows unlike all those drawn might add; see :func:`unseen`."""

    @property
    def value(self) -> float:
        """On the rows as they are."""
        return self.draws.value

    def reaching(self, reach: Reach) -> "Importance":
        """With intervals that reach at least so far."""
        return replace(self, wide=self.wide.reaching(reach.wide), narrow=self.narrow.reaching(reach.narrow))


@dataclass(frozen=True, kw_only=True, eq=False)
class Figures:
    """Everything computed of one concept or group before concepts are compared."""

    name: str
    role: Role
    levels: Mapping[str, float]
    rows: int
    importance: Importance
    se: float
    p: float
    discordant: int
    mde: float
    removed: Bootstrap | None = None
    added: Bootstrap | None = None
    prevalence_free: Importance
    conditional: Importance | None = None
    excluded: int = 0
    adjusted: Importance | None = None
    flip_rate: Bootstrap
    flip_rate_excess: Bootstrap
    score_shift: Bootstrap
    reach: Reach = NONE
    """How far intervals reach at least: by what was not seen, or by the exact limits of few changed rows."""
    notes: tuple[str, ...] = ()


def drops(
    table: FlipTable, metric: Metric, weights: Array, factor: Array, *, strata: Ints | None = None, allowed: Mask | None = None
) -> Array:
    """Δ for every row of weights.  ``factor`` ``(n, K)`` is 1 where a flip was drawn, 0 where not, more where it stands for others."""
    reachable = factor if allowed is None else factor * allowed
    if np.isin(reachable, (0.0, 1.0)).all():
        return importances(table, metric, weights, strata=strata, allowed=reachable > 0)
    reach = _reach(table, weights, reachable, strata)
    n, levels, k = table.flips.shape
    if metric.loss is not None:
        rises = (reach * loss_gains(table, metric)).sum(2)
        return np.asarray((weights * rises).sum(1) / weights.sum(1))
    records = (reach * weights[:, :, None]).reshape(len(weights), n * levels)
    permuted = metric.function(table.flips.reshape(n * levels, k), np.repeat(table.labels, levels), records)
    return np.asarray(metric.function(table.baseline, table.labels, weights) - permuted)


def _reach(table: FlipTable, weights: Array, factor: Array, strata: Ints | None) -> Array:
    """``(B, n, K)`` share of donors at each level times its factor; what is left over stays with the row's own level."""
    own = np.eye(table.levels)[table.values]
    blocks = np.zeros(len(table), np.int64) if strata is None else strata
    reach = np.zeros((len(weights), len(table), table.levels))
    for block in np.unique(blocks):
        rows = blocks == block
        counts = weights[:, rows] @ own[rows]
        reach[:, rows] = (counts / np.maximum(counts.sum(1, keepdims=True), 1e-300))[:, None, :]
    reach *= (1 - own) * factor
    return np.asarray(reach + own * (1 - reach.sum(2, keepdims=True)))


def concept_figures(study: Study, supported: OffSupport, flip: FlipArrays, parts: Stack | None, *, draws: int) -> Figures:
    """All numbers of one concept; ``parts`` is the regression of the leak adjustment, if the detector allows one, and ``draws``
    the resamples of its interval.
    """
    name, rows = flip.concept.name, flip.usable
    levels = dict(zip(flip.concept.levels, _shares(flip).tolist(), strict=True))
    if rows.sum() < _FEWEST_ROWS or len(np.unique(study.arrays.labels[rows])) < 2:
        return _nothing(name, flip.concept.role, levels, int(rows.sum()), study)
    table, weights = study.table(flip), study.weights[:, rows]
    factor = np.where(flip.drawn[rows], flip.factor[rows], 0.0)
    full = bool(np.isin(factor, (0.0, 1.0)).all())
    row_metric = study.row_metric
    contributions = (loss_gains(table, row_metric) * factor) @ table.shares
    draws_of = bootstrap(lambda w: drops(table, study.metric, w, factor), weights)
    bound = contribution_bound(table, row_metric) * max(1.0, float(factor.max()))
    exact_se = influence_se(table, study.metric, study.arrays.units[rows]) if _plain(study, table, full=full) else None
    reach = unseen(study, rows, most_turned(table.shares))
    importance = _reached(draws_of, reach)
    conditional, excluded = _conditional(study, supported, flip, table, factor, marginal=importance)
    flip_rate, excess, shift = reactions(study, flip)
    binary = table.levels == 2 and full
    balanced = balance(table.values, np.ones((1, len(table))))[0]
    evenly = unseen(study, rows, 1 - 1 / len(np.unique(table.values)), balanced)
    adjusted = None if parts is None else leak_adjusted(study, parts, name, table, draws=draws)
    return _with_inference(
        Figures(
            name=name,
            role=flip.concept.role,
            levels=levels,
            rows=int(rows.sum()),
            importance=importance,
            se=draws_of.se if exact_se is None else exact_se,
            p=1.0,
            discordant=0,
            mde=0.0,
            removed=bootstrap(lambda w: removed(table, row_metric, w), weights) if binary else None,
            added=bootstrap(lambda w: added(table, row_metric, w), weights) if binary else None,
            prevalence_free=_reached(
                bootstrap(lambda w: drops(table, study.metric, balance(table.values, w), factor), weights), evenly
            ),
            conditional=conditional,
            excluded=excluded,
            adjusted=None if adjusted is None else _reached(adjusted, reach),
            flip_rate=flip_rate,
            flip_rate_excess=excess,
            score_shift=shift,
        ),
        study,
        contributions,
        study.arrays.units[rows],
        bound=bound,
        exact=exact_se is not None,
    )


def _plain(study: Study, table: FlipTable, *, full: bool) -> bool:
    """Whether the influence values give the standard error: a binary concept, drawn in full, and a mean loss (6.1)."""
    return study.metric.loss is not None and table.levels == 2 and full


def _with_inference(figures: Figures, study: Study, x: Array, units: Ints, *, bound: float, exact: bool) -> Figures:
    """Test, interval and minimal detectable effect from row contributions x within ±bound (6.1, 6.2, 6.6)."""
    tested = sign_flip(x, study.rng(f"signs {figures.name}"), units=units)
    changed, few = int((x != 0).sum()), few_changed(x, units)
    importance, reach, notes = figures.importance, figures.importance.unseen, list(figures.notes)
    additive = study.metric.loss is not None
    if exact:
        wide, narrow = (normal(importance.value, figures.se, level=level) for level in (0.95, 0.90))
        importance = replace(importance, wide=wide, narrow=narrow)
    if additive and few:
        wide, narrow = sparse_limits(x, units, (importance.wide, importance.narrow), bound=bound)
        importance = replace(importance, wide=wide, narrow=narrow)
        reach = Reach((wide.high - wide.low) / 2, (narrow.high - narrow.low) / 2)
        notes.append(f"{few_said(x, units)} changed: exact test and Clopper-Pearson interval")
    elif few:
        notes.append(
            f"{few_said(x, units)} changed: exact test, and an interval that rests on them" if changed else "no row changed"
        )
    se = max(figures.se, reach.wide / z_value(0.95))
    # Miettinen's mean q²d² for a mean loss; where the interval reaches further than that says, as far as it does.
    power = max(se, float(np.sqrt(mean_square(x) / len(x)))) if additive else se

    def also(other: Importance) -> Importance:
        """Other importances of the same rows rest on as few of them."""
        if other is figures.importance:
            return importance
        return other.reaching(reach) if additive and few else other

    return replace(
        figures,
        p=tested.p,
        discordant=changed,
        importance=importance,
        prevalence_free=also(figures.prevalence_free),
        conditional=None if figures.conditional is None else also(figures.conditional),
        adjusted=None if figures.adjusted is None else also(figures.adjusted),
        reach=reach,
        se=se,
        mde=minimal_detectable_effect(power),
        notes=tuple(notes),
    )


def _reached(draws: Bootstrap, reach: Reach) -> Importance:
    wide, narrow = reach.limits(draws)
    return Importance(draws=draws, wide=wide, narrow=narrow, unseen=reach)


def unseen(study: Study, rows: Mask, turned: float, weights: Array | None = None) -> Reach:
    """What rows unlike all those drawn might add, by a rank metric; none by a mean loss, of which few changed rows have exact intervals."""
    if study.metric.loss is not None:
        return NONE
    return unseen_drop(study.arrays.labels[rows], study.arrays.units[rows], turned, weights)


def most_turned(shares: Array) -> float:
    """Largest part of the permutations that change a row, from the shares of the levels or combinations that occur."""
    return float(1 - shares[shares > 0].min())


def _conditional(
    study: Study, supported: OffSupport, flip: FlipArrays, table: FlipTable, factor: Array, *, marginal: Importance
) -> tuple[Importance | None, int]:
    """Importance within strata of the other concepts (4.5), and how many flips were off support and left out.

    It is the marginal importance when no other concept is related and every flip is supported.  What defines the label is not
    conditioned on: within its strata every row has one label, so there any concept's importance is zero, also a shortcut's.
    """
    if len(study.arrays.names) == 1:
        return None, 0
    others = [
        study.arrays.values[name][flip.usable]
        for name in study.arrays.names
        if name != flip.concept.name and study.arrays.flips[name].concept.role is not Role.CORE
    ]
    others = [values for values in others if not _settles(values, table.labels)]
    related = [values for values in others if _related(values, table.values, tests=len(others))]
    if not related and supported.allowed.all():
        return marginal, 0
    strata = conditional_strata(np.stack(related, 1), table.values) if related else np.zeros(len(table), np.int64)
    weights = study.weights[:, flip.usable]
    boot = bootstrap(lambda w: drops(table, study.metric, w, factor, strata=strata, allowed=supported.allowed), weights)
    turned = max(most_turned(np.bincount(values) / len(values)) for values in _blocks(table.values, strata))
    return _reached(boot, unseen(study, flip.usable, turned)), int((~supported.allowed & (factor > 0)).sum())


def _blocks(values: Ints, strata: Ints) -> list[Ints]:
    """The values of each stratum."""
    return [values[strata == one] for one in np.unique(strata)]


def _settles(values: Ints, labels: Ints, *, share: float = 0.95) -> bool:
    """Whether a concept defines the label, whatever its role says: knowing it, one guesses the label right in ``share`` of the rows."""
    counts = np.zeros((int(values.max()) + 1, int(labels.max()) + 1))
    np.add.at(counts, (values, labels), 1)
    return float(counts.max(1).sum() / len(labels)) >= share


def _related(first: Ints, second: Ints, *, tests: int) -> bool:
    """Whether two concepts occur together otherwise than by chance (chi-square test at 5 %, Bonferroni over the tests).

    Strata of unrelated concepts would split the rows by chance and pull the conditional importance down.
    """
    from scipy.stats import chi2_contingency

    counts = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(counts, (first, second), 1)
    counts = counts[counts.any(1)][:, counts.any(0)]
    return min(counts.shape) > 1 and float(chi2_contingency(counts).pvalue) < 0.05 / tests


def reactions(study: Study, flip: FlipArrays) -> tuple[Bootstrap, Bootstrap, Bootstrap]:
    """Flip rate, its excess over the placebo's, and mean absolute score shift, over all drawn flips of the usable rows."""
    cells = flip.drawn & flip.usable[:, None]
    baseline = study.arrays.baseline
    changed = cells & (study.decide(np.nan_to_num(flip.scores)) != study.decide(np.nan_to_num(baseline))[:, None])
    moved = np.abs(study.favourable(flip.scores) - study.favourable(baseline)[:, None])
    return _reaction_figures(study, cells, changed, np.where(cells, moved, 0.0))


def _reaction_figures(study: Study, cells: Mask, changed: Mask, moved: Array) -> tuple[Bootstrap, Bootstrap, Bootstrap]:
    """All ``(n, c)``: c flips per row."""
    count = cells.sum(1).astype(np.float64)
    rate = study.ratio(changed.sum(1).astype(np.float64), count)
    idle = _placebo_rate(study)
    return rate, rate if idle is None else minus(rate, idle), study.ratio(moved.sum(1), count)


def _placebo_rate(study: Study) -> Bootstrap | None:
    """Share of placebo pictures on which the model decides otherwise than on the baseline."""
    placebo = study.arrays.placebo
    if placebo is None:
        return None
    rows = study.arrays.usable & np.isfinite(placebo).all(-1)
    changed = rows & (study.decide(np.nan_to_num(placebo)) != study.decide(np.nan_to_num(study.arrays.baseline)))
    return study.boot(lambda weights: ratios(changed.astype(np.float64), rows.astype(np.float64), weights))


def _shares(flip: FlipArrays) -> Array:
    counts = np.bincount(flip.own[flip.usable], minlength=len(flip.concept.levels))
    return np.asarray(counts / max(1, counts.sum()))


def _nothing(name: str, role: Role, levels: Mapping[str, float], rows: int, study: Study) -> Figures:
    """What is known when a concept has hardly a usable row."""
    none = Bootstrap(value=0.0, samples=np.zeros(len(study.weights)))
    unknown = Interval(0.0, -1.0, 1.0)
    nothing = Importance(draws=none, wide=unknown, narrow=unknown)
    return Figures(
        name=name,
        role=role,
        levels=levels,
        rows=rows,
        importance=nothing,
        se=1.0,
        p=1.0,
        discordant=0,
        mde=1.0,
        prevalence_free=nothing,
        flip_rate=none,
        flip_rate_excess=none,
        score_shift=none,
        notes=("too few usable rows to compute anything",),
    )


def group_figures(study: Study, name: str, group: GroupArrays) -> Figures:
    """All numbers of several concepts that took a donor's values together."""
    arrays, rows = study.arrays, group.usable
    levels = {"changed": float(group.changed[rows].mean()) if rows.any() else 0.0}
    levels["unchanged"] = 1 - levels["changed"]
    roles = [arrays.concept(member).role for member in group.members]
    role = next((role for role in roles if role.alerts), roles[0])
    if rows.sum() < _FEWEST_ROWS or len(np.unique(arrays.labels[rows])) < 2:
        return _nothing(name, role, levels, int(rows.sum()), study)
    joint = GroupFlips(
        baseline=arrays.baseline[rows],
        donor=group.scores[rows],
        labels=arrays.labels[rows],
    )
    reach = unseen(study, rows, 1.0)  # a row has one donor: whether that turned it is among what was seen
    draws = bootstrap(lambda w: group_importances(joint, study.metric, w), study.weights[:, rows])
    importance = _reached(draws, reach)
    cells = (rows & group.changed)[:, None]
    changed = cells & (study.decide(np.nan_to_num(group.scores)) != study.decide(np.nan_to_num(arrays.baseline)))[:, None]
    moved = np.abs(study.favourable(group.scores) - study.favourable(arrays.baseline))[:, None]
    rate, excess, shift = _reaction_figures(study, cells, changed, np.where(cells, moved, 0.0))
    return _with_inference(
        Figures(
            name=name,
            role=role,
            levels=levels,
            rows=int(rows.sum()),
            importance=importance,
            se=draws.se,
            p=1.0,
            discordant=0,
            mde=0.0,
            prevalence_free=importance,
            flip_rate=rate,
            flip_rate_excess=excess,
            score_shift=shift,
            notes=("a group has no levels of its own: its prevalence-free importance is its importance",),
        ),
        study,
        group_contributions(joint, study.row_metric),
        arrays.units[rows],
        bound=study.row_metric.loss_range,
        exact=False,
    )

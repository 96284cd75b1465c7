"""Verdicts: what the numbers of every concept and group amount to under the margin, the gates and the number of concepts asked.

A gate never hides a number from the result; it decides what may be said about it.  Exporters leave ``not_assessable`` values out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import ConceptResult, GateStatus, Verdict
from audit_plugin.core.values import Role
from audit_plugin.methods.depict.coinciding import LABEL, inseparable
from audit_plugin.methods.depict.edits import stack
from audit_plugin.methods.depict.figures import Figures, Importance, concept_figures, group_figures
from audit_plugin.methods.depict.gates import GateReport
from audit_plugin.methods.depict.study import Study, estimate, from_interval
from audit_plugin.statistics.adjust import compliance_scaled
from audit_plugin.statistics.bootstrap import RankInterval, rank_intervals
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.multiplicity import benjamini_hochberg, holm
from audit_plugin.statistics.verdicts import Word, agreed, verdict

_UNRANKED = RankInterval(0, 0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """What the gates allow to be said about one concept or group."""

    assessable: bool = True
    valid: bool = True
    """G2, G3a and G4 passed: "negligible" may be said."""
    weak: bool = False
    leaks: tuple[str, ...] = ()
    only_conditional: bool = False
    inseparable: tuple[str, ...] = ()
    """What it coincides with and could be mistaken for: no reliance may be said."""
    notes: tuple[str, ...] = ()

    @property
    def validity(self) -> str:
        """The word for results and metrics."""
        if not self.assessable:
            return "not_assessable"
        return ";".join([*(["weak_edit"] if self.weak else []), *(f"leaks_into={name}" for name in self.leaks)]) or "valid"


def concept_results(study: Study, gates: GateReport, *, adjusted_resamples: int) -> tuple[ConceptResult, ...]:
    """One result per concept, in the order of the concept set; the leak adjustment is bootstrapped with fewer resamples."""
    parts = stack(study)
    figures = [
        concept_figures(study, gates.support[name], study.arrays.flips[name], parts, draws=adjusted_resamples)
        for name in study.arrays.names
    ]
    return _compared(figures, {name: _conduct(study, gates, (name,)) for name in study.arrays.names}, study, gates)


def group_results(study: Study, gates: GateReport) -> tuple[ConceptResult, ...]:
    """One result per group of concepts that took a donor's values together; ranks and adjusted p are among the groups."""
    groups = study.arrays.groups
    figures = [group_figures(study, name, group) for name, group in groups.items()]
    return _compared(figures, {name: _conduct(study, gates, group.members) for name, group in groups.items()}, study, gates)


def _conduct(study: Study, gates: GateReport, members: Sequence[str]) -> Conduct:
    """What the gates allow for these concepts together: the worst of them counts, and leaks among themselves do not."""
    notes: list[str] = []
    blind = [name for name in members if GateStatus.FAIL in {gates.status("G0", name), gates.status("G5", name)}]
    notes += [f"{name} is not assessable (G0 or G5 failed)" for name in blind]
    if gates.invalid:
        notes.append(gates.invalid)
    weak = any(GateStatus.FAIL in {gates.status("G2", name), gates.status("G3a", name)} for name in members)
    leaks = tuple(dict.fromkeys(other for name in members for other in gates.leaks(name) if other not in members))
    core = any(study.arrays.concept(name).role is Role.CORE for name in members)  # whose own matter the label is
    own = {*members, *([LABEL] if core else [])}
    found = {name: tuple(other for other in gates.coinciding.get(name, ()) if other not in own) for name in members}
    same = {name: others for name, others in found.items() if others}
    notes += [f"{name} {inseparable(others)}" for name, others in same.items()]
    unproven = [gate for gate in ("G2", "G3a", "G4") for name in members if not _passes(study, gates, gate, name)]
    return Conduct(
        assessable=not blind and not gates.invalid,
        valid=not unproven,
        weak=weak,
        leaks=leaks,
        only_conditional=len(members) == 1 and gates.status("G7", members[0]) is GateStatus.FAIL,
        inseparable=tuple(dict.fromkeys(other for others in same.values() for other in others)),
        notes=tuple(notes),
    )


def _passes(study: Study, gates: GateReport, gate: str, name: str) -> bool:
    """Whether the gate passed; the other concepts cannot be touched when there is only one."""
    if gate == "G4" and len(study.arrays.names) == 1:
        return True
    return gates.status(gate, name) is GateStatus.PASS


def _compared(
    figures: Sequence[Figures], conducts: Mapping[str, Conduct], study: Study, gates: GateReport
) -> tuple[ConceptResult, ...]:
    """Results of concepts that are tested and ranked together."""
    if not figures:
        return ()
    p = np.array([figure.p for figure in figures])
    ranks = _ranks(figures, conducts)
    return tuple(
        _result(study, gates, figure, conducts[figure.name], rank=ranks.get(figure.name, _UNRANKED), p_holm=p_holm, p_bh=p_bh)
        for figure, p_holm, p_bh in zip(figures, holm(p).tolist(), benjamini_hochberg(p).tolist(), strict=True)
    )


def _ranks(figures: Sequence[Figures], conducts: Mapping[str, Conduct]) -> Mapping[str, RankInterval]:
    """Rank intervals among the concepts whose importance is not merely "at least" something."""
    ranked = [figure for figure in figures if conducts[figure.name].assessable and not conducts[figure.name].weak]
    if not ranked:
        return {}
    samples = np.stack([np.nan_to_num(figure.importance.draws.samples, nan=figure.importance.value) for figure in ranked], 1)
    return dict(zip([figure.name for figure in ranked], rank_intervals(samples), strict=True))


def _result(
    study: Study, gates: GateReport, figures: Figures, conduct: Conduct, *, rank: RankInterval, p_holm: float, p_bh: float
) -> ConceptResult:
    kappa = gates.compliance.get(figures.name)
    scaled = None if kappa is None else compliance_scaled(figures.importance.draws, kappa, least=figures.reach.wide)
    word, deciding, said = _judged(gates, figures, conduct, p_holm)
    return ConceptResult(
        concept=figures.name,
        role=figures.role,
        metric=study.metric.name,
        importance=from_interval(figures.importance.wide),
        se=figures.se,
        p=figures.p,
        p_holm=p_holm,
        p_bh=p_bh,
        removed=None if figures.removed is None else estimate(figures.removed),
        added=None if figures.added is None else estimate(figures.added),
        prevalence_free=_shown(figures.prevalence_free) or Estimate(value=0.0, low=-1.0, high=1.0),
        conditional=_shown(figures.conditional),
        compliance=None if kappa is None else estimate(kappa),
        compliance_scaled=None if scaled is None else from_interval(scaled),
        leak_adjusted=_shown(figures.adjusted),
        flip_rate=estimate(figures.flip_rate) or Estimate(value=0.0, low=0.0, high=1.0),
        flip_rate_excess=estimate(figures.flip_rate_excess) or Estimate(value=0.0, low=-1.0, high=1.0),
        score_shift=estimate(figures.score_shift) or Estimate(value=0.0, low=0.0, high=1.0),
        rank_low=rank.low,
        rank_high=rank.high,
        p_first=rank.p_first,
        n_rows=figures.rows,
        n_discordant=figures.discordant,
        levels=figures.levels,
        mde80=figures.mde,
        margin=gates.widened,
        verdict=Verdict(word),
        decided_by=None if deciding is figures.importance.wide else from_interval(deciding),
        validity=conduct.validity,
        notes=(*conduct.notes, *figures.notes, *said),
        inseparable=conduct.inseparable,
    )


def _shown(of: Importance | None) -> Estimate | None:
    """With its interval; None where there is none, or it is not defined."""
    return None if of is None or estimate(of.draws) is None else from_interval(of.wide)


def _judged(gates: GateReport, figures: Figures, conduct: Conduct, p_holm: float) -> tuple[Word, Interval, tuple[str, ...]]:
    """The verdict (6.3), the interval that it rests on, and what must be said about how it came about.

    The conditional importance decides where the marginal one rests on unusual combinations (4.5, G7).  The leak-adjusted one is a
    second opinion where G3a or G4 failed: it is linear, so where the edits are sound it has no vote.
    """
    margin, notes = gates.widened, []
    deciding = figures.importance
    if figures.conditional is not None:
        apart = abs(figures.conditional.value - figures.importance.value) > gates.margin
        if apart:
            notes.append("importance depends on unusual combinations: the conditional one decides")
        if apart or conduct.only_conditional:
            deciding = figures.conditional
        if figures.excluded:
            notes.append(f"{figures.excluded} flips off support are left out of the conditional importance")
    word = verdict(
        deciding.wide, deciding.narrow, margin=margin, adjusted_p=p_holm, assessable=conduct.assessable, valid=conduct.valid
    )
    if word == "negligible" and not figures.importance.narrow.inside(margin):
        word = "inconclusive"
        notes.append("not negligible: it moves the metric, though not within the combinations that occur")
    if conduct.assessable and (conduct.leaks or conduct.weak) and figures.adjusted is not None:
        pure = figures.adjusted
        second = verdict(pure.wide, pure.narrow, margin=margin, adjusted_p=p_holm, valid=conduct.valid)
        if second != word:
            notes.append(f"plain edits say {word}, leak-adjusted ones {second}: the generator is the reason for the doubt")
        word = agreed(word, second)
    if conduct.inseparable and word in {"relies", "hurts"}:
        word = "inconclusive"
    if word == "inconclusive":
        notes += _not_negligible(deciding, conduct, margin)
    return word, deciding.wide, tuple(notes)


def _not_negligible(deciding: Importance, conduct: Conduct, margin: float) -> list[str]:
    """Why the concept could not have been called negligible, whatever the scores."""
    reasons = ["the rarest class has too few rows (units)"] if deciding.unseen.narrow >= margin else []
    reasons += [] if conduct.valid else ["G2, G3a or G4 did not pass"]
    return [f"cannot be declared negligible: {reason}" for reason in reasons]

"""Two audits held against each other: paired where both saw the same pictures of the same rows, by their stored limits elsewhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit_plugin import __version__
from audit_plugin.bank.table import BankTable
from audit_plugin.comparing import paired
from audit_plugin.comparing.findings import finding_changes, gate_changes
from audit_plugin.comparing.judging import Judged, Row, combined, decided
from audit_plugin.comparing.nodes import node_differences
from audit_plugin.comparing.pairing import NotPairedError, PairedStudies, pair
from audit_plugin.core.comparison_results import Change, Comparison, Difference, Side
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.protocols import ScoreTable
from audit_plugin.core.results import AuditResult, ConceptResult, FairnessFigure, RunState, Verdict
from audit_plugin.findings.policy import side_of
from audit_plugin.statistics.fairness import MARGINS
from audit_plugin.statistics.verdicts import DEFAULT_MARGINS

_MARGINS = {
    "counterfactual_parity_gap": MARGINS["parity_gap"],
    "statistical_parity_difference": MARGINS["parity_gap"],
    "counterfactual_odds_gap": MARGINS["odds_gap"],
    "equal_opportunity_difference": MARGINS["odds_gap"],
    "equalised_odds_difference": MARGINS["odds_gap"],
    "flip_rate_excess": MARGINS["flip_rate_excess"],
}
"""Of fairness figures, by their level of concern."""
_FLIP_MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How two audits are compared."""

    margin: float | None = None
    """Margin of practical relevance of importance and performance; None takes the wider of the two audits' own."""
    resamples: int = 2_000
    """Joint resamples of units."""
    paired_only: bool = False
    """Refuse to compare audits whose rows cannot be paired."""
    seed: str = "compare"


def compare(
    old: AuditResult, new: AuditResult, table: BankTable | None, scores: ScoreTable, options: CompareOptions | None = None
) -> Comparison:
    """What changed from ``old`` to ``new``; ``table`` is the bank that both rest on, where it is still there.

    Raises ConfigError where the two answer different questions, and with ``paired_only`` where their rows cannot be paired.
    """
    options = options or CompareOptions()
    check_comparable(old, new)
    together, why_not = _paired(old, new, table, scores, options)
    differences = (
        *decided(list(_importances(old, new, together, options))),
        *decided(list(_flip_rates(old, new, together))),
        *decided(list(_performances(old, new, together, options))),
        *decided(list(_fairness(old, new, together))),
        *node_differences(old, new),
    )
    return Comparison(
        old=_side(old),
        new=_side(new),
        metric=new.metric,
        paired=together is not None,
        why_not=why_not,
        differences=differences,
        findings=finding_changes(old, new),
        gates=gate_changes(old, new),
        resamples=0 if together is None else options.resamples,
        notes=tuple(_notes(old, new, together, differences)),
        plugin_version=__version__,
    )


def check_comparable(old: AuditResult, new: AuditResult) -> None:
    """Raise ConfigError unless the two audits answer the same question."""
    if old.run == new.run:
        raise ConfigError(f"run {old.run} cannot be compared with itself; name two runs, or two versions")
    if old.label != new.label:
        raise ConfigError(
            f"run {old.run} is judged against {old.label!r}, run {new.run} against {new.label!r}; compare runs of one label"
        )
    if old.concepts and new.concepts and old.metric != new.metric:
        raise ConfigError(f"run {old.run} is in {old.metric}, run {new.run} in {new.metric}; audit both with one `analysis.metric`")


def _paired(
    old: AuditResult, new: AuditResult, table: BankTable | None, scores: ScoreTable, options: CompareOptions
) -> tuple[PairedStudies | None, str]:
    try:
        return pair(old, new, table, scores, resamples=options.resamples, seed=options.seed), ""
    except NotPairedError as reason:
        if options.paired_only:
            raise ConfigError(f"not paired: {reason}; leave out --paired-only to compare by the stored intervals") from reason
        return None, str(reason)


def _importances(old: AuditResult, new: AuditResult, pair: PairedStudies | None, options: CompareOptions) -> Iterator[Row]:
    for before, after in _matched(old, new):
        margin = paired.effective_margin(before, after, options.margin)
        row = Row(
            quantity="importance",
            subject=after.concept,
            about=after.role.value,
            worse="up" if after.role.alerts else "",
            margin=margin,
        )
        if Verdict.NOT_ASSESSABLE in {before.verdict, after.verdict}:
            yield _with(row, None, "not assessable in one of the two audits")
        elif pair is None:
            yield _with(row, combined(before.importance, after.importance, margin=margin, n=min(before.n_rows, after.n_rows)))
        else:
            yield _with(row, paired.importance(pair, after.concept, margin=margin))


def _flip_rates(old: AuditResult, new: AuditResult, pair: PairedStudies | None) -> Iterator[Row]:
    """Shown beside the importance, which alone is judged better or worse."""
    for before, after in _matched(old, new):
        row = Row(quantity="flip_rate", subject=after.concept, about=after.role.value, margin=_FLIP_MARGIN)
        n = min(before.n_rows, after.n_rows)
        if pair is None:
            yield _with(row, combined(before.flip_rate, after.flip_rate, margin=_FLIP_MARGIN, n=n))
        else:
            yield _with(row, paired.flip_rate(pair, after.concept, margin=_FLIP_MARGIN))


def _performances(old: AuditResult, new: AuditResult, pair: PairedStudies | None, options: CompareOptions) -> Iterator[Row]:
    margin = DEFAULT_MARGINS.get(new.metric, 0.02) if options.margin is None else options.margin
    for subject, real in (("real images", True), ("generated pictures", False)):
        row = Row(quantity="performance", subject=subject, about=new.metric, worse="down" if real else "", margin=margin)
        judged = None if pair is None else paired.performance(pair, real=real, margin=margin)
        told = [one.real_score if real else one.generated_score for one in (old, new)]
        if judged is not None:
            yield _with(row, judged)
        elif None not in told:
            yield _with(row, None, f"{told[0]:.3f} then, {told[1]:.3f} now; an interval needs the same images and their answers")


def _fairness(old: AuditResult, new: AuditResult, pair: PairedStudies | None) -> Iterator[Row]:
    done: set[tuple[str, str, str]] = set()
    if pair is not None:
        for concept, family, name, levels, judged in paired.fairness(pair, new, margin=MARGINS["parity_gap"]):
            done.add((concept, family, name))
            yield Row(
                quantity="fairness", subject=concept, about=f"{name} ({family}), {levels}", judged=judged, worse="away",
                margin=judged.margin,
            )  # fmt: skip
    before = {_figure_key(figure): figure for figure in old.fairness}
    for figure in new.fairness:
        then, margin = before.get(_figure_key(figure)), _MARGINS.get(figure.figure)
        if then is None or margin is None or side_of(figure) != "above" or (figure.concept, figure.family, figure.figure) in done:
            continue
        row = Row(
            quantity="fairness", subject=figure.concept, worse="away", margin=margin,
            about=f"{figure.figure} ({figure.family}), {' - '.join(figure.levels)}",
        )  # fmt: skip
        if then.estimate is None or figure.estimate is None:
            yield _with(row, None, "not known in one of the two audits")
        else:
            note = "by the stored limits, as if independent: wider than a paired one" if pair is not None else ""
            notes = (note,) if note else ()
            yield _with(row, combined(then.estimate, figure.estimate, margin=margin, n=min(then.n, figure.n), notes=notes))


def _figure_key(figure: FairnessFigure) -> tuple[str, str, str, tuple[str, str]]:
    return figure.concept, figure.family, figure.figure, figure.levels


def _with(row: Row, judged: Judged | None, note: str = "") -> Row:
    notes = (note,) if note else ()
    return Row(
        quantity=row.quantity, subject=row.subject, about=row.about, judged=judged, worse=row.worse, margin=row.margin, notes=notes
    )  # fmt: skip


def _matched(old: AuditResult, new: AuditResult) -> Iterator[tuple[ConceptResult, ConceptResult]]:
    before = {concept.concept: concept for concept in old.concepts}
    return ((before[after.concept], after) for after in new.concepts if after.concept in before)


def _notes(old: AuditResult, new: AuditResult, pair: PairedStudies | None, differences: Sequence[Difference]) -> Iterator[str]:
    if pair is not None and pair.identical:
        yield "Both gave the same answer to every picture."
    if pair is None and old.concepts and new.concepts:
        yield "Not paired: limits of the two audits are combined as if they were independent, which is conservative on shared rows."
    for result, word in ((old, "first"), (new, "second")):
        if result.state.broken or result.state is RunState.CANCELLED:
            yield f"The {word} audit did not work ({result.state}): its numbers say nothing about the model."
    then, now = ({one.concept for one in result.concepts} for result in (old, new))
    for names, word in ((sorted(then - now), "first"), (sorted(now - then), "second")):
        if names:
            yield f"Only the {word} audit asked about {', '.join(names)}."
    if any(one.verdict is Change.UNDECIDED and one.matters for one in differences):
        yield "Undecided differences need more rows: half the interval takes four times as many."
    if old.provenance.policy_digest != new.provenance.policy_digest:
        yield "The policy changed in between: findings are not under the same thresholds."


def _side(result: AuditResult) -> Side:
    return Side(
        run=result.run,
        model=result.model,
        version=result.version,
        label=result.label,
        finished_at=result.provenance.finished_at,
        n_rows=result.n_rows,
        state=result.state.value,
    )

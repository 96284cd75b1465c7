"""The one table: who finds what, with how many false findings; and what every classifier was said to rely on."""

from collections.abc import Mapping, Sequence

import numpy as np

from audit_plugin.statistics.intervals import wilson
from tests.bench.planted_suite.costs import Spent, columns
from tests.bench.planted_suite.judge import DISCOVERY, FLIPS, NEGLIGIBLE, Judged, Tally, tally
from tests.bench.planted_suite.others import COMPARED, LOOKED_AT, NOMINAL
from tests.bench.planted_suite.outcome import Outcome
from tests.bench.report import Cell, Report

AUDIT = "audit"
STRONG_AT, WEAK_AT = "strong at the audit's rate of false findings", "weak at that rate"


def fill(report: Report, outcomes: Mapping[str, Outcome]) -> None:
    """Rows, figures and notes of the report, from what came out of each world."""
    found = [one for outcome in outcomes.values() for one in outcome.judged]
    spent: dict[str, list[Spent]] = {}
    for outcome in outcomes.values():
        for name, costs in outcome.spent.items():
            spent.setdefault(name, []).extend(costs)
    by = {name: [one for one in found if one.claim.approach == name] for name in dict.fromkeys(one.claim.approach for one in found)}
    tallies = {name: tally(name, some) for name, some in by.items()}
    rate = _share(tallies[AUDIT].accused, tallies[AUDIT].idle)
    report.rows += [_row(tallies[name], by[name], rate) | columns(spent, name) for name in by]
    report.figures |= _figures(tallies[AUDIT], tallies["DEPICT"], by)
    report.figures["minutes"] = sum(outcome.minutes for outcome in outcomes.values())
    report.tables["classifiers"] = _classifiers(by)
    report.tables["costs"] = [line for outcome in outcomes.values() for line in outcome.costs]
    report.notes += [*(note for outcome in outcomes.values() for note in outcome.notes), *_beaten(report.rows), *NOTES]
    report.notes += [
        f"- {world} was audited on another machine: {', '.join(outcome.machine.values())}"
        for world, outcome in outcomes.items()
        if any(report.machine.get(name) != value for name, value in outcome.machine.items())
    ]


def _figures(audit: Tally, depict: Tally, by: Mapping[str, Sequence[Judged]]) -> dict[str, float]:
    return {
        "classifiers": float(len({(one.claim.world, one.claim.classifier) for one in by[AUDIT]})),
        "worlds": float(len({one.claim.world for one in by[AUDIT]})),
        "recall_strong": _share(audit.strong_found, audit.strong),
        "recall_strong_low": _least(audit.strong_found, audit.strong),
        "recall_weak": _share(audit.weak_found, audit.weak),
        "recall_weak_low": _least(audit.weak_found, audit.weak),
        "recall_unlisted": _share(audit.unlisted_found, audit.unlisted),
        "false_findings": float(audit.accused),
        "idle": float(audit.idle),
        "false_rate": _share(audit.accused, audit.idle),
        "nominal_rate": NOMINAL,
        "rank_correlation": depict.ranks,
        "coverage95": _known(depict.nearly_covered),
        "coverage95_strict": _known(depict.covered),
        "coverage95_reliances": _known(depict.covered_reliances),
    }


def _row(told: Tally, found: Sequence[Judged], rate: float) -> dict[str, Cell]:
    return {
        "approach": told.approach,
        "tasks": len({(one.claim.world, one.claim.classifier, one.claim.task) for one in found}),
        "strong found": f"{told.strong_found} of {told.strong}",
        "weak found": f"{told.weak_found} of {told.weak}",
        "unlisted found": f"{told.unlisted_found} of {told.unlisted}",
        "idle accused": f"{told.accused} of {told.idle}",
        "claimed in between": f"{told.between_said} of {told.between}",
        STRONG_AT: _at_rate(found, rate, strong=True),
        WEAK_AT: _at_rate(found, rate, strong=False),
        "rank correlation": told.ranks,
        "intervals that hold the truth": told.nearly_covered,
        "strictly": told.covered,
        "strictly, of reliances": told.covered_reliances,
    }


def _beaten(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """A line for every other approach that ranks more reliances above idle concepts than the audit does."""
    audit = next(row for row in rows if row["approach"] == AUDIT)
    lines = [
        f"- {row['approach']} finds more {kind} reliances than the audit at that rate of false findings: {theirs:.2f} against {ours:.2f}."
        for row in rows
        if row["approach"] not in {AUDIT, *PRODUCT}
        for kind, column in (("strong", STRONG_AT), ("weak", WEAK_AT))
        if isinstance(theirs := row[column], float) and isinstance(ours := audit[column], float) and theirs > ours
    ]
    return lines or ["- No other approach finds more strong or weak reliances than the audit at its rate of false findings."]


def _at_rate(found: Sequence[Judged], rate: float, *, strong: bool) -> float | None:
    """Share of reliances that rank above all but ``rate`` of the idle concepts: the best threshold that one could choose knowing the truth."""
    idle = np.sort([one.claim.strength for one in found if one.truth.idle])[::-1]
    wanted = [one.claim.strength for one in found if not one.unlisted and (one.truth.strong if strong else one.truth.weak)]
    if not len(idle) or not wanted:
        return None
    allowed = int(rate * len(idle) + 1e-9)
    return float(np.mean(np.array(wanted) > (idle[allowed] if allowed < len(idle) else -np.inf)))


def _classifiers(by: Mapping[str, Sequence[Judged]]) -> list[dict[str, Cell]]:
    """One line a task: what is true, and what each of the product's methods found."""
    keys = dict.fromkeys((one.claim.world, one.claim.classifier, one.claim.task) for one in by[AUDIT])
    lines: list[dict[str, Cell]] = []
    for world, classifier, task in keys:
        mine = {
            name: [one for one in some if (one.claim.world, one.claim.classifier, one.claim.task) == (world, classifier, task)]
            for name, some in by.items()
        }
        truth = sorted(mine["integrated gradients"], key=lambda one: -one.truth.importance)
        lines.append(
            {
                "classifier": classifier,
                "task": task,
                "relies on (true importance)": ", ".join(
                    f"{one.claim.concept} {one.truth.importance:.2f}" for one in truth if one.truth.importance >= 0.02
                ),
                **{name: ", ".join(one.claim.concept for one in mine[name] if one.claim.found) for name in PRODUCT if name in mine},
                "idle accused": ", ".join(one.claim.concept for one in mine[AUDIT] if one.claim.found and one.truth.idle),
            }
        )
    return lines


PRODUCT = ("DEPICT", "DiffEx", *FLIPS.values(), DISCOVERY)
NOTES = (
    (
        "- strong: true importance (fall of the AUROC under permutation) at least 0.05; weak: 0.02 to 0.05; idle: below 0.01, and less than "
        "0.25 of log-odds on the mean. Cells between count for and against nobody, and have a column of their own."
    ),
    (
        "- audit: found by any of the project's methods, which are not corrected for their number; it ranks by the largest lower limit, each in "
        "units of what its method calls a finding. A method that was refused, or does not look at a concept, has not found it. Roles and "
        "policies, by which audits alert on fewer, are left aside."
    ),
    (
        "- unlisted: a concept that the audit is not told of by its concepts, template or table. The generator can draw it, and its captions, "
        "which DiffExplainer takes words from, name it; of DiffEx the default tree has a dark border."
    ),
    (
        "- at the audit's rate: every approach is given the threshold that suits it best, knowing the truth, at no more false findings than the "
        "audit's; approaches without a rule of their own claim nothing in the columns before."
    ),
    (
        f"- The audit, differences of scores, associations and margins see all rows; attribution {LOOKED_AT} of them, the published procedures "
        f"{COMPARED}. Others are lent the renderer where they need changed pictures, and the true words of every picture where they need words; "
        "the audit has the trained generator and its detector."
    ),
    "- Counterfactuals take a minute of each task and method, so not every method is run in every world: `tasks` says of how many it was asked.",
    "- DiffExplainer tries no names of classes as words, so of a classifier whose classes are a concept's levels it cannot find that concept.",
    (
        "- pictures made: drawn or edited by a generator, the product's once for all classifiers of a world, and so are network evaluations. "
        "Gradients of attribution count as queries; those of counterfactuals come from the classifier's own file and are not counted."
    ),
    (
        "- Rank correlation: Somers' D, right less wrong order of pairs of concepts of a task whose true importances differ. Intervals are "
        f"DEPICT's, held against the truth with the truth's own error added in quadrature, and to within {NEGLIGIBLE}, a tenth of the margin "
        "(coverage95), or strictly: intervals of idle concepts are narrower than what a generator's small faults change."
    ),
    "- minutes: wall clock; pictures that a run before had drawn are not drawn again, networks and generators were trained before.",
)


def _share(found: int, of: int) -> float:
    return found / of if of else float("nan")


def _known(share: float | None) -> float:
    return float("nan") if share is None else share


def _least(found: int, of: int) -> float:
    """Lower limit of Wilson's 95 % interval of a share."""
    return wilson(found, of).low if of else float("nan")

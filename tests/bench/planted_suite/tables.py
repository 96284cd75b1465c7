"""The one table: who finds what, with how many false findings; and what every classifier was said to rely on."""

from collections.abc import Mapping, Sequence

import numpy as np

from tests.bench.planted_suite.costs import Spent, columns
from tests.bench.planted_suite.judge import Judged, Tally, tally
from tests.bench.planted_suite.outcome import Outcome
from tests.bench.report import Cell, Report

AUDIT = "audit"


def fill(report: Report, outcomes: Mapping[str, Outcome]) -> None:
    """Rows, figures and notes of the report, from what came out of each world."""
    found = [one for outcome in outcomes.values() for one in outcome.judged]
    spent: dict[str, list[Spent]] = {}
    for outcome in outcomes.values():
        for name, costs in outcome.spent.items():
            spent.setdefault(name, []).extend(costs)
    by = {name: [one for one in found if one.claim.approach == name] for name in dict.fromkeys(one.claim.approach for one in found)}
    tallies = {name: tally(name, some) for name, some in by.items()}
    report.rows += [_row(tallies[name], by[name], by[AUDIT]) | columns(spent, name) for name in by]
    report.figures |= _figures(tallies[AUDIT], tallies["DEPICT"], by)
    report.figures["minutes"] = sum(outcome.minutes for outcome in outcomes.values())
    report.tables["classifiers"] = _classifiers(by)
    report.tables["costs"] = [line for outcome in outcomes.values() for line in outcome.costs]
    report.notes += [*(note for outcome in outcomes.values() for note in outcome.notes), *NOTES]


def _figures(audit: Tally, depict: Tally, by: Mapping[str, Sequence[Judged]]) -> dict[str, float]:
    return {
        "classifiers": float(len({(one.claim.world, one.claim.classifier) for one in by[AUDIT]})),
        "worlds": float(len({one.claim.world for one in by[AUDIT]})),
        "recall_strong": _share(audit.strong_found, audit.strong),
        "recall_weak": _share(audit.weak_found, audit.weak),
        "recall_unlisted": _share(audit.unlisted_found, audit.unlisted),
        "false_findings": float(audit.accused),
        "idle": float(audit.idle),
        "spearman": depict.spearman,
        "coverage95": float("nan") if depict.covered is None else depict.covered,
    }


def _row(told: Tally, found: Sequence[Judged], audit: Sequence[Judged]) -> dict[str, Cell]:
    false = _share(sum(one.truth.idle and one.claim.found for one in audit), sum(one.truth.idle for one in audit))
    return {
        "approach": told.approach,
        "strong found": f"{told.strong_found} of {told.strong}",
        "weak found": f"{told.weak_found} of {told.weak}",
        "unlisted found": f"{told.unlisted_found} of {told.unlisted}",
        "idle accused": f"{told.accused} of {told.idle}",
        "strong at the audit's rate of false findings": _at_rate(found, false, strong=True),
        "weak at that rate": _at_rate(found, false, strong=False),
        "rank correlation": told.spearman,
        "intervals that hold the truth": told.covered,
    }


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


PRODUCT = ("DEPICT", "DiffEx", "counterfactuals", "DiffExplainer")
NOTES = (
    (
        "- strong: true importance (fall of the AUROC under permutation) at least 0.05; weak: 0.02 to 0.05; idle: below 0.01, and less than "
        "0.25 of log-odds on the mean. Cells between count for and against nobody."
    ),
    "- audit: found by any of the project's methods; it ranks by the largest lower limit, each in units of what its method calls a finding. unlisted: a concept that the audit was not told of.",
    (
        "- at the audit's rate: every approach is given the threshold that suits it best, knowing the truth, at no more false findings than the "
        "audit's; approaches without a rule of their own claim nothing in the columns before."
    ),
    (
        "- others are lent the renderer where they need changed pictures, and the true words of every picture where they need words; the audit "
        "has the trained generator and its detector."
    ),
    "- pictures made: drawn or edited by a generator, the product's once for all classifiers of a world; gradients count as queries.",
    "- DEPICT's intervals are held against the truth with the truth's own error added in quadrature.",
)


def _share(found: int, of: int) -> float:
    return found / of if of else float("nan")

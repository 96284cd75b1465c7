"""The one table: who finds what, with how many false findings; and what every classifier was said to rely on."""

from collections.abc import Mapping, Sequence

import numpy as np

from audit_plugin.statistics.intervals import wilson
from tests.bench.planted_suite.costs import Spent, columns
from tests.bench.planted_suite.judge import DISCOVERY, FLIPS, IMPORTANCE, LOG_ODDS, NEGLIGIBLE, SHARE, Judged, Tally, tally
from tests.bench.planted_suite.others import COMPARED, LOOKED_AT
from tests.bench.planted_suite.outcome import Outcome
from tests.bench.report import Cell, Report

AUDIT = "audit"
STRONG_AT, WEAK_AT = "strong at the audit's rate of false findings", "weak at that rate"
STRONG_AT_NONE, WEAK_AT_NONE = "strong without a false finding", "weak without one"
RANKING = {"integrated gradients", "occlusion", "words by margin (B2T)", "DiffEx as published"}
"""Approaches without a rule of decision."""


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
    order = sorted(by, key=lambda name: (name != AUDIT, name not in PRODUCT))
    report.rows += [_row(tallies[name], by[name], rate) | columns(spent, name) for name in order]
    report.figures |= _figures(tallies[AUDIT], tallies["DEPICT"], by)
    report.figures["minutes"] = sum(outcome.minutes for outcome in outcomes.values())
    report.tables["classifiers"] = _classifiers(by)
    report.tables["costs"] = [line for outcome in outcomes.values() for line in outcome.costs]
    report.notes += [*(note for outcome in outcomes.values() for note in outcome.notes), *compared(report.rows)]
    report.notes += [*_faults(by[AUDIT]), *NOTES]
    report.notes += [
        f"- {world} was audited on another machine: {', '.join(outcome.machine.values())}"
        for world, outcome in outcomes.items()
        if any(report.machine.get(name) != value for name, value in outcome.machine.items())
    ]


def _figures(audit: Tally, depict: Tally, by: Mapping[str, Sequence[Judged]]) -> dict[str, float]:
    heard = tally(AUDIT, [one for one in by[AUDIT] if not one.broken])
    first = tally(AUDIT, [one for one in by[AUDIT] if not one.again])
    return {
        "classifiers": float(len({(one.claim.world, one.claim.classifier) for one in by[AUDIT]})),
        "worlds": float(len({one.claim.world for one in by[AUDIT]})),
        "tasks": float(_tasks(by[AUDIT])),
        "tasks_broken_at_first": float(_tasks([one for one in by[AUDIT] if one.broken or one.again])),
        "tasks_broken": float(_tasks([one for one in by[AUDIT] if one.broken])),
        "strong": float(audit.strong),
        "strong_found": float(audit.strong_found),
        "recall_strong": _share(audit.strong_found, audit.strong),
        "recall_strong_low": _least(audit.strong_found, audit.strong),
        "recall_strong_not_broken": _share(heard.strong_found, heard.strong),
        "recall_strong_first_audits": _share(first.strong_found, audit.strong),
        "weak": float(audit.weak),
        "weak_found": float(audit.weak_found),
        "recall_weak": _share(audit.weak_found, audit.weak),
        "recall_weak_low": _least(audit.weak_found, audit.weak),
        "recall_unlisted": _share(audit.unlisted_found, audit.unlisted),
        "false_findings": float(audit.accused),
        "idle": float(audit.idle),
        "false_rate": _share(audit.accused, audit.idle),
        "rank_correlation": audit.ranks,
        "depict_rank_correlation": depict.ranks,
        "depict_coverage95": _known(depict.covered),
        "depict_coverage95_near": _known(depict.nearly_covered),
        "depict_coverage95_reliances": _known(depict.covered_reliances),
    }


def _tasks(found: Sequence[Judged]) -> int:
    return len({(one.claim.world, one.claim.classifier, one.claim.task) for one in found})


def _row(told: Tally, found: Sequence[Judged], rate: float) -> dict[str, Cell]:
    """Approaches without a rule of decision have no counts of what they found."""

    def said(hits: int, of: int) -> str:
        return "ranks only" if told.approach in RANKING else f"{hits} of {of}"

    return {
        "approach": told.approach,
        "by": "audit" if told.approach in {AUDIT, *PRODUCT} else "others",
        "tasks": _tasks(found),
        "strong found": said(told.strong_found, told.strong),
        "weak found": said(told.weak_found, told.weak),
        "unlisted found": said(told.unlisted_found, told.unlisted),
        "idle accused": said(told.accused, told.idle),
        "claimed in between": said(told.between_said, told.between),
        STRONG_AT: _at_rate(found, rate, strong=True),
        WEAK_AT: _at_rate(found, rate, strong=False),
        STRONG_AT_NONE: _at_rate(found, 0.0, strong=True),
        WEAK_AT_NONE: _at_rate(found, 0.0, strong=False),
        "rank correlation": told.ranks,
        "intervals that nearly hold the truth": told.nearly_covered,
        "that hold it": told.covered,
        "of reliances": told.covered_reliances,
    }


def compared(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """For each column of equal false findings a line: which other approaches find more reliances than the audit, and which as many."""
    audit = next(row for row in rows if row["approach"] == AUDIT)
    lines = []
    for column in (STRONG_AT, WEAK_AT, STRONG_AT_NONE, WEAK_AT_NONE):
        ours = audit[column]
        theirs = {str(row["approach"]): row[column] for row in rows if row["by"] == "others"}
        known = {name: value for name, value in theirs.items() if isinstance(value, float)}
        if not isinstance(ours, float):
            continue
        more = [f"{name} ({value:.2f})" for name, value in known.items() if value > ours]
        as_many = [name for name, value in known.items() if value == ours]
        lines.append(
            f"- {column}: the audit {ours:.2f}; more: {', '.join(more) or 'none of the others'}; as many: {', '.join(as_many) or 'none'}."
        )
    return lines


def _faults(audit: Sequence[Judged]) -> list[str]:
    """What the audit missed, and what it accused."""

    def named(some: Sequence[Judged]) -> str:
        return ", ".join(f"{one.claim.concept} of {one.claim.classifier}" + " (broken)" * one.broken for one in some) or "nothing"

    reliances = [one for one in audit if (one.truth.strong or one.truth.weak) and not one.claim.found]
    accused = [one for one in audit if one.truth.idle and one.claim.found]
    return [f"- The audit missed {named(reliances)}; it accused wrongly {named(accused)}."]


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
                "audit": _state(mine[AUDIT]),
                "relies on (true importance)": ", ".join(
                    f"{one.claim.concept} {one.truth.importance:.2f}" for one in truth if one.truth.importance >= 0.02
                ),
                **{name: ", ".join(one.claim.concept for one in mine[name] if one.claim.found) for name in PRODUCT if name in mine},
                "idle accused": ", ".join(one.claim.concept for one in mine[AUDIT] if one.claim.found and one.truth.idle),
            }
        )
    return lines


def _state(found: Sequence[Judged]) -> str:
    return "broken" if any(one.broken for one in found) else "broken, then not" if any(one.again for one in found) else ""


PRODUCT = ("DEPICT", "DiffEx", *FLIPS.values(), DISCOVERY)
NOTES = (
    (
        "- The worlds are as easy as a generator needs them that a CPU trains within an hour: five classes of glyphs in 32x32, of scikit-learn's digits "
        "zero to four, of Fashion-MNIST five unlike kinds. MNIST here is not MNIST, but five plain digits, their middle 20x20 halved to 10x10, and of "
        "each the tenth nearest to its mean (before it is split): the whole is more than such a generator learns to draw, and audits with it were "
        "broken, as they said. Two thirds of the glyphs are learnt from, the others are audited. The scenes have the shipped generator."
    ),
    (
        "- In the audited rows two concepts go with the first one, the background and the ruler in half of the scenes, ground and patch in two of five "
        "pictures of glyphs: differences and associations cannot tell what goes along from what a classifier uses. Without such ties they would "
        "accuse less."
    ),
    (
        "- strong: true importance (fall of the AUROC under permutation) at least 0.05; weak: 0.02 to 0.05; idle: below 0.01, and less than "
        "0.25 of log-odds on the mean. Cells between count for and against nobody, and have a column of their own. Unlisted reliances are counted "
        "apart; an unlisted concept that is idle counts among the idle, though DEPICT and counterfactuals do not look at it."
    ),
    (
        f"- found, by DEPICT: its verdict, beyond {IMPORTANCE}; DiffEx: a whole interval beyond {LOG_ODDS} of log-odds, which is this table's rule and "
        f"stricter than the tool's; counterfactuals: a correlation with flips surely beyond {SHARE}; DiffExplainer: its own test. Differences and "
        "associations: 5 % against no effect at all, Bonferroni within a task. DEPICT as published has no rule; here mean less 1.96 sd/5, which is "
        "no proper limit, beyond the same margin."
    ),
    (
        "- audit: found by any of the project's methods, which are not corrected for their number; it ranks by the largest lower limit, each in "
        f"units of those thresholds ({SHARE} for words). A method that was refused, or does not look at a concept, has not found it; of a "
        "classifier whose audit says that it is broken only DiffExplainer, which uses no pictures of the table, is heard (tasks_broken). "
        "Roles and policies, by which audits alert on fewer, are left aside."
    ),
    (
        "- broken, then not: where the first audit is broken (tasks_broken_at_first) and sends its reader to discovery, and a word found there names a "
        "concept that nobody listed, it is listed and the classifier audited once more. That second audit is what counts here, without "
        "counterfactuals; recall_strong_first_audits counts all such reliances as missed. A user would first have to label her pictures for that "
        "concept, and to train the detector on it; here both are there already."
    ),
    (
        "- unlisted: a concept that neither the first audit's concepts nor its template name, and whose column of the table it does not read. The "
        "generator can draw it, and its captions, which DiffExplainer takes its words from, name it beside the listed ones and nothing else; of "
        "DiffEx the default tree has a dark border."
    ),
    (
        "- at the audit's rate: every approach is given the one threshold for all tasks and worlds that suits it best, knowing the truth, at no more "
        "false findings than the audit's, or at none. Those that only rank have no rule of their own to count by."
    ),
    (
        f"- The audit, differences, associations and margins see all rows, the published procedures {COMPARED}, attribution {LOOKED_AT}. Others "
        "are lent the renderer where they need changed pictures, and the true words of every picture where they need words: a perfect generator, "
        "which nobody has, and which keeps even what nobody listed. The audit has the trained generator and its detector; where that does not "
        "draw what a classifier relies on, its audit is broken and says so, and is made again if discovery names what is missing."
    ),
    (
        "- Counterfactuals take a minute of each task and method, so three methods are asked, about the digits alone: `tasks` says of how many. The "
        "others, those without gradients, the protocol for shortcuts and hidden units are run nowhere here, but in counterfactuals_planted and "
        "discovery_units. Audits are asked for less than by default: few images of the tree, one placebo, 1,000 resamples, fewer words to verify, no "
        "controls."
    ),
    (
        "- Of DiffEx's tree only nodes about a concept of the world are judged. It also changes light, sharpness, dust and the like, to which small "
        "networks do react; nobody knows the truth of that here."
    ),
    "- DiffExplainer tries no names of classes as words, so of a classifier whose classes are a concept's levels it cannot find that concept.",
    (
        "- pictures made: drawn or edited by a generator, once for all tasks of a world (once more for second audits); what the others are lent by "
        "the renderer would have to be made likewise. Trainings are not counted. DiffEx as published is asked with one of its four seeds. Gradients of "
        "attribution count as queries; those of counterfactuals come from the classifier's own file and are not counted."
    ),
    (
        "- Rank correlation: Somers' D, right less wrong order of pairs of concepts of a task whose true importances differ, those below 0.01 being "
        "alike. Intervals are DEPICT's, of audits and listed concepts that it could assess, held against the truth with the truth's own error added in "
        f"quadrature, and nearly: to within {NEGLIGIBLE}, a tenth of the margin. They allow for rows that were not drawn, not for what a generator "
        "draws otherwise than it was asked to."
    ),
    (
        "- minutes: wall clock of each world, added up, whether they were run one after the other or side by side; pictures that a run before had "
        "drawn are not drawn again, networks and generators were trained before."
    ),
)


def _share(found: int, of: int) -> float:
    return found / of if of else float("nan")


def _known(share: float | None) -> float:
    return float("nan") if share is None else share


def _least(found: int, of: int) -> float:
    """Lower limit of Wilson's 95 % interval of a share."""
    return wilson(found, of).low if of else float("nan")

"""Verdicts for the terminal.  Colour only repeats what mark and word say; rich drops it where NO_COLOR is set."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from audit_plugin.core.results import AuditResult, ConceptResult, Verdict
from audit_plugin.report.ranking import find, order, suppressed
from audit_plugin.report.words import DAGGER, DAGGER_MEANING, MARKS, NOTHING, importance_words, mark, number, short_name

STYLES: Final = {
    "alert": "bold red",
    "relies": "bold blue",
    "hurts": "bold magenta",
    "negligible": "",
    "inconclusive": "yellow",
    "not_assessable": "dim",
}
"""Mark's name -> rich style."""


def verdict_table(results: Sequence[AuditResult]) -> Table:
    """One row per concept and model, most important concepts first; a column for the truth only where some is known."""
    several, truth = len(results) > 1, any(result.truth for result in results)
    table = Table(title=None, pad_edge=False, box=None, header_style="bold")
    table.add_column("concept", overflow="fold")
    table.add_column("role")
    if several:
        table.add_column("model", overflow="fold")
    table.add_column("importance [95 %]", justify="right", no_wrap=True)
    if truth:
        table.add_column("truth", justify="right", no_wrap=True)
    table.add_column("excess\nflips", justify="right", no_wrap=True)
    table.add_column("verdict", min_width=14)
    for name in order(results).all:
        found = [(result, concept) for result in results if (concept := find(result, name)) is not None]
        for index, (result, concept) in enumerate(found):
            cells = _cells(result, concept)
            names = [Text(name if index == 0 else ""), Text(str(concept.role) if index == 0 else "")]
            model = [Text(short_name(result, results))] if several else []
            known = [Text(number(result.truth.get(name)))] if truth else []
            table.add_row(*names, *model, cells[0], *known, *cells[1:], end_section=index == len(found) - 1)
    if any(concept.decided_by and not suppressed(result) for result in results for concept in result.concepts):
        table.caption = f"{DAGGER} {DAGGER_MEANING}"
        table.caption_justify = "left"
    return table


def _cells(result: AuditResult, concept: ConceptResult) -> tuple[Text, Text, Text]:
    """Importance, excess flip rate, verdict."""
    if suppressed(result):
        return Text(NOTHING), Text(NOTHING), Text("not shown: generator not valid", style="dim")
    kind = mark(concept)
    excess = NOTHING if concept.verdict is Verdict.NOT_ASSESSABLE else number(concept.flip_rate_excess.value)
    return (
        Text(importance_words(concept).replace("at least", "≥")),
        Text(excess),
        Text(f"{MARKS[kind][0]} {MARKS[kind][1]}", style=STYLES[kind]),
    )
